"""From a user's arrays to what PTv3 takes: one point a grid cell, nine channels, as the scans of a test run are made.

The steps are those of the validation transforms (``recipes_downstream.val_transforms``): CenterShift, GridSample,
CenterShift in x and y, colours in [0, 1]. Where training draws a random point of a cell, the point nearest to the
cell's centre stands for it here, so that features depend neither on the run nor on the order of the rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_tools.clouds.colors import STRAY_SHARE, color_span, count_beyond
from lam3c_plugin.embedded.geometry import MAX_CELL, PointCloudError, check_clouds, lexsort, squared_length
from lam3c_plugin.embedded.ptv3.rows import Groups, group_by_key

NORMALS = ("estimate", "zero")
NEIGHBOURS = 32  # points to a plane, as in RoomTours


@dataclass
class CellCloud:
    """A cloud with one point a cell, sorted by the cells' x, y, z.

    Attributes:
        feat: (M, 9) float32: xyz in metres after CenterShift, rgb in [0, 1], unit normal.
        cells: (M, 3) int32, from 0.
        rows: (M,) int64, the input's row that stands for the cell.
        inverse: (N,) int64, the cell of each input point.
    """

    feat: Tensor
    cells: Tensor
    rows: Tensor
    inverse: Tensor


def as_rows(values: Any, name: str, rows: int | None = None) -> Tensor:
    """(N, 3) numbers of any kind as a tensor that shares their memory where it can.

    Raises:
        PointCloudError: of another shape, empty, or not numbers.
    """
    if not isinstance(values, Tensor):
        try:
            array = np.asarray(values)
        except ValueError as error:
            raise PointCloudError(f"{name} is no array: {error}; give (N, 3) numbers") from None
        if array.dtype.kind not in "fiu":
            raise PointCloudError(f"{name} holds {array.dtype} values: give (N, 3) numbers")
        if np.ma.is_masked(values):
            raise PointCloudError(f"{name} has masked values: drop these points first")
        if array.dtype.itemsize > 8:  # longdouble
            array = array.astype(np.float64)
        if array.dtype in (np.uint16, np.uint32, np.uint64):
            array = array.astype(np.int64)
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        values = torch.from_numpy(array if array.flags.writeable else array.copy())
    if values.dtype in (torch.uint16, torch.uint32, torch.uint64):  # types with few operations
        values = values.long()
    if values.dtype == torch.bool or values.is_complex():
        raise PointCloudError(f"{name} holds {values.dtype} values: give (N, 3) numbers")
    if values.dim() != 2 or values.shape[1] != 3:
        raise PointCloudError(f"{name} has shape {tuple(values.shape)}: (N, 3) is needed")
    if rows is not None and len(values) != rows:
        raise PointCloudError(f"{name} has {len(values)} rows and coord {rows}: every point needs one")
    if len(values) == 0:
        raise PointCloudError(f"{name} is empty: give at least one point")
    return values.detach()


def as_columns(coord: Any, color: Any, normal: Any) -> list[Tensor | None]:
    """Coordinates, colours and normals, (N, 3) each or None, on the device of the coordinates; see `as_rows`."""
    first = as_rows(coord, "coord")
    rest = (("color", color), ("normal", normal))
    return [
        first,
        *(None if value is None else as_rows(value, name, len(first)).to(first.device) for name, value in rest),
    ]


def split_rows(total: int, batch: Any, offset: Any, device: torch.device) -> list[Tensor | None]:
    """Rows of each cloud of one array; [None] where all points are one cloud.

    Raises:
        PointCloudError: ``batch`` or ``offset`` does not fit ``total`` points, or both are given.
    """
    if batch is not None and offset is not None:
        raise PointCloudError("give batch or offset, not both")
    if offset is not None:
        ends = _whole_numbers(offset, "offset")
        check_clouds(total, ends)
        return [torch.arange(a, b, device=device) for a, b in pairwise([0, *ends.tolist()]) if b > a]
    if batch is None:
        return [None]
    batch = _whole_numbers(batch, "batch").to(device)
    if len(batch) != total:
        raise PointCloudError(f"batch has {len(batch)} numbers: one for each of {total} points is needed")
    order = torch.sort(batch, stable=True).indices
    return list(order.split(torch.unique_consecutive(batch[order], return_counts=True)[1].tolist()))


def _whole_numbers(values: Any, name: str) -> Tensor:
    """(n,) int64 of a list, array or tensor.

    Raises:
        PointCloudError: of another shape, or not whole numbers.
    """
    try:
        numbers = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PointCloudError(f"{name} is no list of whole numbers: {error!s:.80}") from None
    if numbers.dim() != 1 or numbers.is_floating_point() or numbers.is_complex():
        raise PointCloudError(f"{name} has shape {tuple(numbers.shape)} ({numbers.dtype}): (n,) integers are needed")
    return numbers.long()


def refuse_not_finite(values: Tensor, name: str, cure: str) -> None:
    """Raise PointCloudError for NaN or infinity; the message counts the rows and names the first."""
    if values.is_floating_point() and not bool(torch.isfinite(values).all()):
        bad = (~torch.isfinite(values)).any(1).nonzero().flatten().tolist()
        raise PointCloudError(f"{name} holds NaN or infinite values ({len(bad)} rows, first in row {bad[0]}): {cure}")


def _positive(value: Any, name: str, examples: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < number < float("inf"):
        raise PointCloudError(f"{name} must be a positive number, got {value!r}; give {examples}")
    return number


def unit_colors(color: Tensor, color_range: str | float = "auto") -> Tensor:
    """Colours in [0, 1], (N, 3) float32.

    Args:
        color: (N, 3) integers 0-255 or 0-65535, floats 0-1, 0-255 or 0-65535.
        color_range: the value that is full brightness; ``"auto"`` recognises it by where most values lie, as the
            readers of files do (`data_tools.clouds.colors.color_span`). A few strays beyond it are then clipped,
            with a warning.

    Raises:
        PointCloudError: NaN, negative values, or values above the range.
    """
    refuse_not_finite(color, "color", "leave color out (None) or repair it")
    values = color.detach().cpu()
    values = (values if values.dtype != torch.bfloat16 else values.float()).numpy()
    is_auto = color_range == "auto"
    top = color_span(values)[1] if is_auto else _positive(color_range, "color_range", "1, 255 or 65535")
    beyond = count_beyond(values, 0.0, top)
    if beyond > (STRAY_SHARE * values.size if is_auto else 0):
        low, high = float(values.min()), float(values.max())
        raise PointCloudError(f"color goes from {low:g} to {high:g}: give 0-255 or 0-1, or say color_range")
    if beyond:
        warnings.warn(f"{beyond} colour values beyond 0..{top:g} clipped", stacklevel=2)
    return (color.float() / top).clamp_(0.0, 1.0)


def unit_normals(normal: Tensor) -> Tensor:
    """Normals of length one, (N, 3) float32; such as are within 1 % of it pass unchanged, zeros stay zeros."""
    refuse_not_finite(normal, "normal", "leave normal out (it can be estimated) or repair it")
    normal = normal.float()
    length = torch.linalg.vector_norm(normal, dim=1, keepdim=True)
    is_off = ((length - 1).abs() > 0.01) & (length > 1e-6)
    return torch.where(is_off, normal / length.clamp(min=1e-6), normal)


def estimate_unit_normals(coord: Tensor) -> Tensor:
    """Normals of points (M, 3) from planes through 32 neighbours, turned towards free space; on the CPU."""
    from data_tools.clouds.io import estimate_normals  # SciPy: not needed where normals are given

    points = coord.cpu().numpy()
    normal = estimate_normals(points, NEIGHBOURS, workers=max(1, torch.get_num_threads()))
    return torch.from_numpy(normal).to(coord.device)


def centre_shift(coord: Tensor, apply_z: bool) -> Tensor:
    """Origin to the middle of the box in x and y, and with ``apply_z`` to its bottom in z; in the type of ``coord``."""
    low, high = coord.amin(0), coord.amax(0)
    shift = (low + high) / 2
    shift[2] = low[2] if apply_z else 0
    return coord - shift


def grid_of(coord: Tensor, grid_size: float, others: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor, Tensor]:
    """Sorts points into cells of a grid through the origin; the nearest to a cell's centre stands for the cell.

    Args:
        coord: (N, 3) float32 metres.
        grid_size: edge of a cell in metres.
        others: (N, k) columns that decide, one after the other, where distance and coordinates tie. Of rows equal in
            all of them the lowest is taken.

    Returns:
        cells (M, 3) int32 that hold points, counted from the lowest; rows (M,) the point of each; inverse (N,).

    Raises:
        PointCloudError: more than 65,535 cells along an axis.
    """
    place = coord.double() / grid_size
    cell = torch.floor(place)
    distance = squared_length(place - cell - 0.5)
    cell -= cell.amin(0)
    highest = cell.amax(0).tolist()
    for axis, top in zip("xyz", highest, strict=True):
        if top > MAX_CELL:
            raise PointCloudError(
                f"the cloud extends over {top * grid_size:.6g} m along {axis}, which is {top + 1:.0f} cells of "
                f"{grid_size:g} m (at most {MAX_CELL + 1}): check the units (metres?), remove stray points, or cut it"
            )
    x, y, z = cell.long().unbind(1)
    groups = group_by_key((x << 32) | (y << 16) | z)
    rows = _least_rows(groups, [distance, coord, *others])
    return cell[rows].int(), rows, groups.group


def _least_rows(groups: Groups, columns: Sequence[Tensor]) -> Tensor:
    """(G,) the row of each group that is first by ``columns``: (N,), then (N, k) each."""
    group, distance = groups.group, columns[0]
    least = distance.new_full((len(groups.counts),), torch.inf).scatter_reduce_(0, group, distance, "amin")
    rows = (distance == least[group]).nonzero().flatten()
    if len(rows) > len(least):
        rows = rows[lexsort([group[rows], *(column[rows] for column in columns[1:])])]
        is_first = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        is_first[1:] = group[rows[1:]] != group[rows[:-1]]
        rows = rows[is_first]
    return torch.empty_like(rows).index_copy_(0, group[rows], rows)


def prepare(
    coord: Any,
    color: Any = None,
    normal: Any = None,
    *,
    grid_size: float = 0.02,
    normals: str = "estimate",
    color_range: str | float = "auto",
    device: torch.device | str = "cpu",
) -> CellCloud:
    """One cloud as the network takes it.

    Args:
        coord: (N, 3) metres, z up, array or tensor of any numeric type; may be far from the origin in float64.
        color: (N, 3), see `unit_colors`; None: zeros, as training has them where it drops colours.
        normal: (N, 3), see `unit_normals`; None: as ``normals`` says.
        grid_size: edge of a cell in metres.
        normals: ``"estimate"`` (from the points that stand for the cells) or ``"zero"``.
        color_range: see `unit_colors`.
        device: where the work is done and the result lies.

    Raises:
        PointCloudError: empty, NaN, wrong shapes or ranges, too many cells; the message names value and cure.
    """
    if normals not in NORMALS:
        raise PointCloudError(f"normals={normals!r}: choose from {', '.join(NORMALS)}, or give them as normal")
    grid_size = _positive(grid_size, "grid_size", "metres, for example 0.02")
    coord = as_rows(coord, "coord").to(device)
    color = None if color is None else as_rows(color, "color", len(coord))
    normal = None if normal is None else as_rows(normal, "normal", len(coord))
    refuse_not_finite(coord, "coord", "drop these points first")
    if not coord.is_floating_point() or coord.dtype in (torch.float16, torch.bfloat16):
        coord = coord.double()
    coord = centre_shift(coord, apply_z=True).float()
    # the range of colours is recognised over all points, not only over those that stand for cells
    color = None if color is None else unit_colors(color, color_range).to(device)
    normal = None if normal is None else unit_normals(normal).to(device)
    others = [values for values in (color, normal) if values is not None]
    cells, rows, inverse = grid_of(coord, grid_size, others)
    coord = centre_shift(coord[rows], apply_z=False)
    channels = [coord, *(torch.zeros_like(coord) if values is None else values[rows] for values in (color, normal))]
    if normal is None and normals == "estimate":
        channels[2] = estimate_unit_normals(coord)
    return CellCloud(torch.cat(channels, 1), cells, rows, inverse)

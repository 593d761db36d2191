"""What the layers of a stage need to know of a batch of clouds besides its features.

Cells, curves, sort orders, and through `CloudGeometry.memo` whatever a layer derives from them (neighbour
tables, patches, pooling clusters). Nothing here depends on weights, so one geometry may serve several networks that
look at the same points: put it into the data dictionary under ``geometry``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from lam3c_plugin.embedded.serialization import CURVES, MAX_DEPTH, encode
from lam3c_plugin.errors import DataError
from lam3c_plugin.ops.device import host_values, reads_wait, to_device

T = TypeVar("T")

GRID_ORIGINS = ("cloud", "batch")
MAX_CELL = (1 << MAX_DEPTH) - 2  # a curve of depth d holds the cells 0 .. 2^d - 2


class PointCloudError(DataError, ValueError):
    """A batch of points that no network can use; the message names the value and the cure."""


def check_clouds(rows: int, offset: Tensor) -> list[int]:
    """Sizes of the clouds of a batch, on the host (a GPU is waited for where its offset was never read before).

    Raises:
        PointCloudError: no cloud or no point, or running sums that fall or do not end at ``rows``.
    """
    ends = host_values(offset)
    sizes = [end - start for start, end in pairwise([0, *ends])]
    if rows == 0 or not sizes:
        raise PointCloudError("the batch holds no points: a network needs at least one")
    if min(sizes) < 0 or ends[-1] != rows:
        raise PointCloudError(
            f"offset {ends} does not fit {rows} points: it must be the running sum of the clouds' sizes"
        )
    return sizes


def _cells(
    coord: Tensor, grid_size: float | Tensor, batch: Tensor, num_clouds: int, origin: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Cells of the points, ``trunc((coord - lowest corner) / grid_size)``, (N, 3) unchecked and floating point;
    squares of the distances (N,) to their centres, in cells; the grid size (1,) float64."""
    if isinstance(grid_size, Tensor):
        if grid_size.numel() != 1:
            raise PointCloudError(f"grid_size must be one number for the batch, got a tensor {tuple(grid_size.shape)}")
        grid_size = grid_size.reshape(()).to(coord.device)
    if origin == "batch":
        corner = coord.amin(0)
    else:
        index = batch.unsqueeze(1).expand_as(coord)
        corner = coord.new_full((num_clouds, 3), torch.inf).scatter_reduce_(0, index, coord, "amin")[batch]
    size = torch.as_tensor(grid_size, dtype=torch.float64, device=coord.device)
    cells = torch.div(coord - corner, grid_size, rounding_mode="trunc")
    return cells, squared_length((coord - corner) / grid_size - cells - 0.5), size.view(1)


def squared_length(vectors: Tensor) -> Tensor:
    """(N, 3) -> (N,), rounded alike in every row (a reduction over columns may treat the last rows otherwise)."""
    x, y, z = vectors.unbind(1)
    return x * x + y * y + z * z


def lexsort(columns: Sequence[Tensor]) -> Tensor:
    """Order of N rows by columns (N,) or (N, k), the first deciding most -> (N,) int64; equal rows keep theirs."""
    keys = [key for column in columns for key in (column.unbind(1) if column.dim() > 1 else [column])]
    order = torch.arange(len(keys[0]), device=keys[0].device)
    for key in reversed(keys):
        order = order[torch.sort(key[order], stable=True).indices]
    return order


def _check_cells(coord: Tensor, batch: Tensor, seen: Sequence[float]) -> None:
    """Check the largest cell along each axis and the grid size; a NaN or infinity anywhere shows up in the cells."""
    *highest, size = seen
    if not 0 < size < float("inf"):
        raise PointCloudError(f"grid_size must be a positive length in metres, got {size}")
    fits = all(cell <= MAX_CELL for cell in highest)  # not so for NaN
    bad = [] if fits else (~torch.isfinite(coord)).any(1).nonzero().flatten().tolist()
    if bad:
        where = f"first in row {bad[0]}, cloud {int(batch[bad[0]])}"
        raise PointCloudError(f"coord holds NaN or infinite values ({len(bad)} rows, {where}): clean the scene first")
    for name, cell in zip("xyz", highest, strict=True):
        if not cell <= MAX_CELL:
            raise PointCloudError(
                f"a cloud extends over {cell * size:.6g} m along {name}: at grid_size {size:.6g} m that is "
                f"{cell + 1:.0f} cells, and the curves number {MAX_CELL + 1}; check the units, remove stray points, "
                "or take a larger grid"
            )


class CloudGeometry:
    """Cells and curves of a batch of clouds.

    Attributes:
        cells: (N, 3) int32, the cell of each point, 0 .. 65,534 along each axis.
        batch: (N,) int64 cloud index, non-decreasing.
        sizes: points of each cloud, on the host.
        tops: largest cell index of each cloud, on the host.
        origin: ``cloud`` gives each cloud a curve as deep as itself needs, ``batch`` all the deepest.
        cells_sorted: the rows are sorted by cloud and cell and no two share one (true of pooled clouds).
        cells_by_factor: cells of each cloud on grids so many times as wide, on the host, once `count_cells` ran.
        ties: columns (N,) or (N, k) that order the points of one cell, the first deciding most; see `within`.
    """

    def __init__(
        self,
        cells: Tensor,
        batch: Tensor,
        sizes: Sequence[int],
        tops: Sequence[int],
        origin: str = "cloud",
        cells_sorted: bool = False,
    ) -> None:
        self.cells = cells
        self.batch = batch
        self.sizes = list(sizes)
        self.tops = list(tops)
        self.origin = origin
        self.cells_sorted = cells_sorted
        self.cells_by_factor: dict[int, list[int]] = {}
        self.ties: list[Tensor] = []
        self.depth = max((top + 1).bit_length() for top in self.tops)
        if 3 * self.depth + len(self.sizes).bit_length() > 63:
            raise PointCloudError(
                f"{len(self.sizes)} clouds of depth {self.depth} do not fit an int64 code: use smaller batches"
            )
        self._memo: dict[Hashable, Any] = {}

    @classmethod
    def from_cells(cls, cells: Tensor, batch: Tensor, sizes: Sequence[int], origin: str = "cloud") -> CloudGeometry:
        """Geometry of given cells (N, 3), any integer type. Reads the largest cell of every cloud back, once.

        Raises:
            PointCloudError: a negative cell, one above 65,534, or a batch index that is not sorted.
        """
        if origin not in GRID_ORIGINS:
            raise ValueError(f"grid_origin={origin!r} is not one of {', '.join(GRID_ORIGINS)}")
        return cls._checked(cells, batch, sizes, origin, cls._summary(cells, batch, len(sizes)).tolist())

    @classmethod
    def from_coord(
        cls, coord: Tensor, grid_size: float | Tensor, batch: Tensor, sizes: Sequence[int], origin: str = "cloud"
    ) -> CloudGeometry:
        """Geometry of points sorted into cells, checked in one read-back; the nearest to a centre is a cell's first.

        Args:
            coord: (N, 3) metres.
            grid_size: edge of a cell in metres, a number or a tensor of one element.
            batch: (N,) cloud index.
            sizes: points of each cloud.
            origin: ``cloud`` counts cells from the corner of each cloud's own box, so that they do not depend on the
                rest of the batch; ``batch`` from one corner for all, as the reference does.

        Raises:
            PointCloudError: NaN or infinite coordinates, a grid size that is not positive, more cells along an axis
                than the curves can number (65,535), or a batch index that is not sorted.
        """
        floats, distance, size = _cells(coord, grid_size, batch, len(sizes), origin)
        cells = floats.int()
        seen = torch.cat([floats.amax(0).double(), size, cls._summary(cells, batch, len(sizes)).double()]).tolist()
        _check_cells(coord, batch, seen[:4])
        geometry = cls._checked(cells, batch, sizes, origin, [int(value) for value in seen[4:]])
        geometry.ties = [distance.detach()]
        return geometry

    @staticmethod
    def _summary(cells: Tensor, batch: Tensor, num_clouds: int) -> Tensor:
        """Largest cell of each cloud, the lowest of all, whether the batch index falls anywhere: (B + 2,)."""
        top = torch.zeros(num_clouds, dtype=cells.dtype, device=cells.device)
        top = top.scatter_reduce_(0, batch, cells.amax(1), "amax")
        unsorted = (batch[1:] < batch[:-1]).any().to(cells.dtype).view(1)
        return torch.cat([top, cells.amin().view(1), unsorted])

    @classmethod
    def _checked(
        cls, cells: Tensor, batch: Tensor, sizes: Sequence[int], origin: str, summary: Sequence[int]
    ) -> CloudGeometry:
        *tops, lowest, falls = summary
        if falls:
            raise PointCloudError("batch must not decrease: sort the points by cloud first")
        if lowest < 0 or max(tops) > MAX_CELL:
            raise PointCloudError(
                f"grid_coord must lie in 0 .. {MAX_CELL}, got {lowest} .. {max(tops)}: start each cloud's cells at 0, "
                "or take a larger grid"
            )
        return cls(cells.int(), batch, sizes, tops, origin)

    def __len__(self) -> int:
        return self.cells.shape[0]

    def memo(self, key: Hashable, build: Callable[[], T]) -> T:
        """What ``build()`` gave for ``key`` the first time; later calls return the same object."""
        if key not in self._memo:
            with torch.no_grad(), torch.inference_mode(False):
                self._memo[key] = build()
        return self._memo[key]

    def knows(self, key: Hashable) -> bool:
        """Whether `memo` holds ``key``."""
        return key in self._memo

    def keys(self) -> Tensor:
        """(N,) int64 that sorts by cloud, x, y, z.

        Cell indices stop at ``2^depth - 2``, so a neighbour's key (plus or minus one along any axes) never meets the
        key of a cell elsewhere: the last slot of every row, plane and cloud is empty.
        """
        x, y, z = self.cells.long().unbind(1)
        d = self.depth
        return (self.batch << (3 * d)) | (x << (2 * d)) | (y << d) | z

    def count_cells(self, factors: Sequence[int]) -> None:
        """Count the occupied cells of each cloud on coarser grids, all in one read-back (``cells_by_factor``).

        Args:
            factors: widths of the coarser cells in these cells, powers of two.
        """
        code = self._code("z").sort().values  # on a Morton curve the points of a coarser cell stand together too
        other = self.batch[1:] != self.batch[:-1]
        ends, counts = to_device([0, *accumulate(self.sizes)], code.device), []
        for factor in factors:
            coarse = code >> (3 * (factor.bit_length() - 1))
            first = torch.ones_like(self.batch)
            first[1:] = (coarse[1:] != coarse[:-1]) | other
            # by running sums: additions to a few counters would wait for each other
            counts.append(F.pad(first.cumsum(0), (1, 0))[ends].diff())
        for factor, sizes in zip(factors, torch.stack(counts).tolist(), strict=True):
            self.cells_by_factor[factor] = sizes

    def point_depth(self) -> int | Tensor:
        """Depth of each point's curve: one number where all agree, else (N,) int64."""
        depths = [(top + 1).bit_length() for top in self.tops]
        if self.origin == "batch" or len(set(depths)) == 1:
            return self.depth
        return to_device(depths, self.batch.device)[self.batch]

    def curve(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """One curve's codes, order (row at each place) and inverse (place of each row), each (N,) int64."""
        return self.memo(("curve", name), lambda: self._sort_by_curve(name))

    def _code(self, name: str) -> Tensor:
        depth = self.memo("point_depth", self.point_depth)
        return encode(self.cells, depth=depth, order=name) | (self.batch << (3 * self.depth))

    def _sort_by_curve(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        code = self._code(name)
        order = sort_rows(code, self.within())[1]
        return code, order, invert_permutation(order)

    def within(self) -> Tensor | None:
        """(N,) int64 rows in which those of one cell stand in the order of `ties`; None where rows need no order.

        So nothing depends on the order of the input's rows, but for such as are equal in all columns.
        """
        return self.memo("within", self._order_within)

    def _order_within(self) -> Tensor | None:
        if self.cells_sorted or not self.ties or sum(self.cells_by_factor.get(1, ())) == len(self):
            return None
        keys, order = torch.sort(self.keys(), stable=True)
        if reads_wait(keys):  # all rows are sorted rather than those in question counted
            return order[lexsort([keys, *(column[order] for column in self.ties)])]
        shared = keys[1:] == keys[:-1]
        places = (F.pad(shared, (1, 0)) | F.pad(shared, (0, 1))).nonzero().flatten()
        rows = order[places]
        order[places] = rows[lexsort([keys[places], *(column[rows] for column in self.ties)])]
        return order if len(places) else None

    def curves(self, names: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Codes, orders and inverses of several curves, each (len(names), N) int64, in the order asked for."""
        code, order, inverse = zip(*(self.curve(name) for name in names), strict=True)
        return torch.stack(code), torch.stack(order), torch.stack(inverse)


def sort_rows(keys: Tensor, within: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Keys (N,) sorted, and their rows (N,); rows of equal keys stand as in ``within`` (N,), else lowest first."""
    if within is None:
        return torch.sort(keys, stable=True)
    keys, order = torch.sort(keys[within], stable=True)
    return keys, within[order]


def invert_permutation(order: Tensor) -> Tensor:
    """(N,) row at each place -> (N,) place of each row."""
    places = torch.arange(order.shape[0], device=order.device)
    return torch.empty_like(order).index_copy_(0, order, places)


def curve_names(order: str | Sequence[str]) -> tuple[str, ...]:
    """The curves named by ``order``, checked.

    Raises:
        ValueError: none, or one that is unknown.
    """
    names = (order,) if isinstance(order, str) else tuple(order)
    unknown = [name for name in names if name not in CURVES]
    if unknown or not names:
        raise ValueError(f"order={order!r}: curves are {', '.join(CURVES)}")
    return names

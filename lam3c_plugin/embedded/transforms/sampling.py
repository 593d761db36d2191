"""Transforms that choose points: one a grid cell, a ball, a random share, an order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lam3c_plugin.embedded.registry import TRANSFORMS
from lam3c_plugin.embedded.transforms.compose import (
    Sample,
    as_float32,
    fast_rng,
    index_operator,
    mark_indexed,
    require_points,
    scene_name,
)
from lam3c_plugin.errors import ConfigError, DataError


@TRANSFORMS.register_module()
class GridSample:
    """Keeps one point a grid cell.

    ``mode="train"``: a random point of each cell. ``mode="test"``: a list of samples, the i-th with point i (modulo the
    cell's count) of each cell, so that together they hold every point; each carries its rows as ``index`` (M,).
    Points come out in the order of their cells.

    Args:
        grid_size: edge of a cell in metres, or one edge an axis.
        hash_type: accepted for the host's configs; cells are told apart by their exact number, never by a hash.
        mode: "train" or "test".
        return_inverse: adds ``inverse`` (N,), the row of each input point's cell in the output.
        return_grid_coord: adds ``grid_coord`` (M, 3) int64, cells counted from the lowest of the cloud.
        return_min_coord: adds ``min_coord`` (1, 3), the corner of cell (0, 0, 0) in metres.
        return_displacement: adds ``displacement`` (M, 3), from the cell's middle to the point, in cells.
        project_displacement: the displacement's component along the normal instead, (M, 1).

    Raises:
        DataError: no points, or coordinates that are not finite; the scene is named.
    """

    def __init__(
        self,
        grid_size: float | Sequence[float] = 0.05,
        hash_type: str = "fnv",
        mode: str = "train",
        return_inverse: bool = False,
        return_grid_coord: bool = False,
        return_min_coord: bool = False,
        return_displacement: bool = False,
        project_displacement: bool = False,
    ) -> None:
        if mode not in ("train", "test"):
            raise ConfigError(f"GridSample: mode must be 'train' or 'test', got {mode!r}")
        self.grid_size = np.broadcast_to(np.asarray(grid_size, dtype=np.float64), (3,))
        if not (self.grid_size > 0).all():
            raise ConfigError(f"GridSample: grid_size must be > 0 m, got {grid_size}")
        self.hash_type = hash_type
        self.mode = mode
        self.return_inverse = return_inverse
        self.return_grid_coord = return_grid_coord
        self.return_min_coord = return_min_coord
        self.return_displacement = return_displacement
        self.project_displacement = project_displacement

    def __call__(self, data_dict: Sample) -> Sample | list[Sample]:
        coord = require_points(data_dict, "GridSample")
        cells, lowest = grid_cells(coord, self.grid_size)
        if cells is None:
            raise DataError(f"{scene_name(data_dict)}: GridSample needs finite coordinates")
        order, start = group_by_key(*cell_keys(cells))
        count = np.diff(start, append=len(order))
        if not (self.return_grid_coord or self.return_displacement):
            cells = None  # 12 bytes a point that nobody reads any more
        if self.mode == "train":
            chosen = order[start + (fast_rng().random(len(start)) * count).astype(np.intp)]
            if "sampled_index" in data_dict:
                chosen = keep_labelled(data_dict, chosen)
            extras = self._extras(data_dict, chosen, order, count, cells, lowest)
            return _with_extras(index_operator(data_dict, chosen), extras)
        parts = []
        for turn in range(int(count.max())):
            chosen = order[start + turn % count]
            extras = self._extras(data_dict, chosen, order, count, cells, lowest)
            part = index_operator(data_dict, chosen, duplicate=True)
            part["index"] = chosen
            parts.append(_with_extras(part, extras))
        return parts

    def _extras(
        self,
        data_dict: Sample,
        chosen: np.ndarray,
        order: np.ndarray,
        count: np.ndarray,
        cells: list[np.ndarray] | None,
        lowest: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """What the ``return_*`` switches ask for; called before the sample is indexed."""
        extras: dict[str, np.ndarray] = {}
        if self.return_inverse:
            extras["inverse"] = _inverse(chosen, order, count)
        if self.return_min_coord:
            extras["min_coord"] = (lowest * self.grid_size).reshape(1, 3)
        if cells is not None:
            grid_coord = np.stack([axis_cells[chosen] for axis_cells in cells], axis=1).astype(np.int64)
            if self.return_grid_coord:
                extras["grid_coord"] = grid_coord
            if self.return_displacement:
                shift = data_dict["coord"][chosen] / self.grid_size - lowest - grid_coord - 0.5
                if self.project_displacement:
                    shift = np.sum(shift * data_dict["normal"][chosen], axis=-1, keepdims=True)
                extras["displacement"] = as_float32(shift)
        return extras


def _inverse(chosen: np.ndarray, order: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Row in the output of each input point (N,): a kept point's own, else one of its cell.

    Points with labels are kept beside the drawn ones, so a cell may have several rows, and rows need not follow cells.
    """
    cell = np.empty(len(order), dtype=np.int64)
    cell[order] = np.repeat(np.arange(len(count)), count)
    rows = np.arange(len(chosen))
    row_of_cell = np.empty(len(count), dtype=np.int64)
    row_of_cell[cell[chosen]] = rows
    inverse = row_of_cell[cell]
    inverse[chosen] = rows
    return inverse


def _with_extras(sample: Sample, extras: dict[str, np.ndarray]) -> Sample:
    for key, value in extras.items():
        sample[key] = value
        if key in ("grid_coord", "displacement"):
            mark_indexed(sample, key)
    return sample


def grid_cells(coord: np.ndarray, grid_size: np.ndarray) -> tuple[list[np.ndarray] | None, np.ndarray]:
    """Cells of points (N, 3) on a grid of ``grid_size`` (3,) metres through the origin.

    Returns:
        one (N,) integer array an axis, counted from the lowest cell, and those lowest cells (3,);
        None in place of the arrays where a coordinate is not finite.
    """
    cells, lowest = [], np.zeros(3)
    for axis in range(3):
        scaled = np.divide(coord[:, axis], grid_size[axis], dtype=np.float64)
        np.floor(scaled, out=scaled)
        lowest[axis] = scaled.min()
        scaled -= lowest[axis]
        highest = scaled.max()
        if not np.isfinite(highest):
            return None, lowest
        cells.append(scaled.astype(np.int32 if highest < 2**31 else np.int64))
    return cells, lowest


def cell_keys(cells: list[np.ndarray]) -> tuple[np.ndarray, int]:
    """One int64 a point, equal for points of one cell and only for those, and the number of possible keys."""
    key, extent = cells[0].astype(np.int64), int(cells[0].max()) + 1
    for axis_cells in cells[1:]:
        size = int(axis_cells.max()) + 1
        if extent * size >= 2**62:  # stray points far away: number the cells in use instead
            key, extent = _renumber(key)
            axis_cells, size = _renumber(axis_cells)
        key = key * size + axis_cells
        extent *= size
    return key, extent


def _renumber(values: np.ndarray) -> tuple[np.ndarray, int]:
    unique, inverse = np.unique(values, return_inverse=True)
    return inverse.astype(np.int64), len(unique)


def group_by_key(key: np.ndarray, extent: int) -> tuple[np.ndarray, np.ndarray]:
    """Group points by ``key`` (N,), integers in [0, ``extent``).

    Returns:
        order (N,): rows sorted by key, rows of a key ascending; start (G,): where each group begins in it.
    """
    row_bits = max(1, (len(key) - 1).bit_length())
    if extent.bit_length() + row_bits <= 63:
        # key and row in one integer: a plain sort, which numpy does several times faster than an argsort
        packed = (key << row_bits) | np.arange(len(key))
        packed.sort()
        order = packed & ((1 << row_bits) - 1)
        packed >>= row_bits
    else:
        order = np.argsort(key, kind="stable")
        packed = key[order]
    start = np.flatnonzero(packed[1:] != packed[:-1]) + 1
    return order, np.concatenate([[0], start])


def keep_labelled(data_dict: Sample, chosen: np.ndarray) -> np.ndarray:
    """Add the points with labels (``sampled_index``, of the data-efficient benchmarks) to the rows ``chosen``.

    Renumbers ``data_dict["sampled_index"]`` for the chosen rows, which come back sorted.
    """
    labelled = np.zeros(len(data_dict["coord"]), dtype=bool)
    labelled[data_dict["sampled_index"]] = True
    chosen = np.union1d(chosen, data_dict["sampled_index"])
    data_dict["sampled_index"] = np.flatnonzero(labelled[chosen])
    return chosen


@TRANSFORMS.register_module()
class RandomDropout:
    """With probability ``dropout_application_ratio`` drops a random share ``dropout_ratio`` of the points (not all)."""

    def __init__(self, dropout_ratio: float = 0.2, dropout_application_ratio: float = 0.5) -> None:
        self.dropout_ratio = dropout_ratio
        self.dropout_application_ratio = dropout_application_ratio

    def __call__(self, data_dict: Sample) -> Sample:
        if np.random.rand() < self.dropout_application_ratio:
            total = len(require_points(data_dict, "RandomDropout"))
            kept = max(1, int(total * (1 - self.dropout_ratio)))
            chosen = fast_rng().choice(total, kept, replace=False)
            if "sampled_index" in data_dict:
                chosen = keep_labelled(data_dict, chosen)
            data_dict = index_operator(data_dict, chosen)
        return data_dict


@TRANSFORMS.register_module()
class SphereCrop:
    """Keeps the ``point_max`` points nearest to a centre, where there are more.

    Args:
        point_max: number of points kept.
        sample_rate: share of the points kept, instead of ``point_max``.
        mode: "random": the centre is a random point; "center": the point in the middle of the order.
    """

    def __init__(self, point_max: int = 80000, sample_rate: float | None = None, mode: str = "random") -> None:
        if mode not in ("random", "center"):
            raise ConfigError(f"SphereCrop: mode must be 'random' or 'center', got {mode!r}")
        self.point_max = point_max
        self.sample_rate = sample_rate
        self.mode = mode

    def __call__(self, data_dict: Sample) -> Sample:
        coord = require_points(data_dict, "SphereCrop")
        total = len(coord)
        size = self.point_max if self.sample_rate is None else max(1, int(self.sample_rate * total))
        if total > size:
            center = coord[np.random.randint(total) if self.mode == "random" else total // 2]
            data_dict = index_operator(data_dict, nearest_rows(as_float32(coord).T, center, size))
        return data_dict


def nearest_rows(columns: np.ndarray, center: np.ndarray, size: int) -> np.ndarray:
    """Rows, ascending, of the ``size`` points nearest to ``center`` (3,); by partition, not by sorting all.

    Args:
        columns: (3, N) coordinates, one axis after the other (fastest when contiguous).
    """
    if size >= columns.shape[1]:
        return np.arange(columns.shape[1])
    distance = np.zeros(columns.shape[1], dtype=np.float32)
    for axis in range(3):
        shift = columns[axis] - center[axis]
        shift *= shift
        distance += shift
    chosen = np.argpartition(distance, size - 1)[:size]
    chosen.sort()  # neighbours in memory are neighbours in space after GridSample: faster reads
    return chosen


@TRANSFORMS.register_module()
class ShufflePoint:
    """Puts the points in random order."""

    def __call__(self, data_dict: Sample) -> Sample:
        return index_operator(data_dict, fast_rng().permutation(len(require_points(data_dict, "ShufflePoint"))))

"""One layer of points where a tour saw a surface again and again: the views that saw a place best keep it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_tools.reconstruction.base import Prediction
from data_tools.reconstruction.geometry import depth_of

RUN = 16  # views in a row that count as one look: what they see is averaged by the cloud, not judged
CELL = 0.03  # of the median depth: edge of the cells that a run keeps or leaves
REACH = 0.06  # of the median depth: surfaces of one facing that lie closer, one behind the other, are one seen twice
SAME_FACING = 0.7  # cosine
SAMPLE = 3  # every so manieth row and column is looked at to find who saw a cell best
MOST_CELLS = 60_000_000
LEAST = 3  # points of a run in a cell, for a plane


@dataclass
class _Cells:
    """What the best run saw in each cell of a box.

    Attributes:
        low: (3,) corner of the box.
        edge: of a cell.
        shape: cells along each axis.
        run: (C,) number of the run, -1 where no run saw anything.
        score: (C,) of that run.
        mean: (C, 3) float32 of its points.
        normal: (C, 3) float32 of its plane, toward its cameras; 0 where there is none.
    """

    low: np.ndarray
    edge: float
    shape: np.ndarray
    run: np.ndarray
    score: np.ndarray
    mean: np.ndarray
    normal: np.ndarray

    def index(self, points: np.ndarray) -> np.ndarray:
        """The cell (N,) of points (N, 3), -1 outside the box."""
        cell = np.floor((points - self.low.astype(points.dtype)) / points.dtype.type(self.edge))
        inside = ((cell >= 0) & (cell < self.shape)).all(axis=1)
        cell = np.where(inside[:, None], cell, 0).astype(np.int64)
        return np.where(inside, (cell[:, 0] * self.shape[1] + cell[:, 1]) * self.shape[2] + cell[:, 2], -1)


def seen_best(prediction: Prediction, keep: np.ndarray) -> np.ndarray:
    """Which points to keep so that every surface is there once.

    Args:
        prediction: of many views; read view by view.
        keep: (V, h, w) bool, the points that count.

    Returns:
        (V, h, w) bool: the points of runs of `RUN` views in the cells that they saw best (confidence over squared
        depth, added up), without cells behind or before a better one of the same facing; and all points outside the
        main box.
    """
    cells = _best_runs(prediction, keep)
    stays = ~_repeated(cells, REACH * cells.edge / CELL)
    out = keep.copy()
    for view in range(len(prediction)):
        place = np.flatnonzero(keep[view])
        cell = cells.index(prediction.points[view].reshape(-1, 3)[place])
        good = (cell < 0) | (stays[cell] & (cells.run[cell] == view // RUN))
        out[view].reshape(-1)[place[~good]] = False
    return out


def _best_runs(prediction: Prediction, keep: np.ndarray) -> _Cells:
    cells = _box(prediction, keep)
    for number in range(-(-len(prediction) // RUN)):
        points, weight, centre = _look(prediction, keep, range(number * RUN, min((number + 1) * RUN, len(prediction))))
        index = cells.index(points)
        points, weight, index = points[index >= 0], weight[index >= 0], index[index >= 0]
        if not len(index):
            continue
        found, inverse = np.unique(index, return_inverse=True)
        score = np.bincount(inverse, weight)
        better = score > cells.score[found]
        mean, normal = _planes(points, inverse, len(found), centre)
        won = found[better]
        cells.run[won], cells.score[won] = number, score[better]
        cells.mean[won], cells.normal[won] = mean[better], normal[better]
    return cells


def _box(prediction: Prediction, keep: np.ndarray) -> _Cells:
    """Empty cells about the points of most views."""
    sample, depths = [], []
    for view in np.unique(np.linspace(0, len(prediction) - 1, 200).astype(int)):
        points = prediction.points[view][keep[view]][::101].astype(np.float64)
        sample.append(points)
        depths.append(depth_of(points, prediction.camera_to_world[view]))
    points = np.concatenate(sample) if sample else np.zeros((0, 3))
    if not len(points):
        points, depths = np.zeros((1, 3)), [np.ones(1)]
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    margin = 0.1 * (high - low).max() + 1e-9
    low, size = low - margin, high - low + 2 * margin
    edge = max(CELL * float(np.median(np.concatenate(depths))), float(np.prod(size) / MOST_CELLS) ** (1 / 3), 1e-9)
    shape = np.ceil(size / edge).astype(np.int64)
    count = int(shape.prod())
    empty = np.zeros((count, 3), np.float32)
    return _Cells(low, edge, shape, np.full(count, -1, np.int32), np.zeros(count, np.float32), empty, empty.copy())


def _look(prediction: Prediction, keep: np.ndarray, views: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3) float32 of some views, their weights (N,), and the views' middle (3,)."""
    points, weight = [], []
    for view in views:
        place = keep[view].copy()
        place[np.arange(len(place)) % SAMPLE != view % SAMPLE] = False
        place[:, np.arange(place.shape[1]) % SAMPLE != (view // SAMPLE) % SAMPLE] = False
        points.append(prediction.points[view][place])
        z = np.maximum(depth_of(points[-1], prediction.camera_to_world[view]), 1e-9)
        weight.append((prediction.confidence[view][place] + 0.01) / z**2)
    return (
        np.concatenate(points),
        np.concatenate(weight),
        prediction.camera_to_world[views.start : views.stop, :3, 3].mean(0),
    )


def _planes(points: np.ndarray, inverse: np.ndarray, count: int, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and normal (toward ``centre``; 0 without `LEAST` points) of the points of each cell."""
    number = np.bincount(inverse, minlength=count)
    mean = np.stack([np.bincount(inverse, points[:, i], count) for i in range(3)], axis=1) / number[:, None]
    off = points - mean[inverse]
    covariance = np.empty((count, 3, 3))
    for i in range(3):
        for j in range(i + 1):
            covariance[:, i, j] = covariance[:, j, i] = np.bincount(inverse, off[:, i] * off[:, j], count)
    normal = np.linalg.eigh(covariance)[1][:, :, 0]
    normal *= np.where(((centre - mean) * normal).sum(axis=1) < 0, -1, 1)[:, None]
    return mean.astype(np.float32), np.where((number >= LEAST)[:, None], normal, 0).astype(np.float32)


def _repeated(cells: _Cells, reach: float) -> np.ndarray:
    """Cells (C,) whose surface another run saw better, a little before or behind."""
    out = np.zeros(len(cells.run), bool)
    mine = np.flatnonzero((cells.run >= 0) & (np.abs(cells.normal).sum(axis=1) > 0))
    mean, normal = cells.mean[mine], cells.normal[mine]
    for step in np.arange(0.5, reach / cells.edge + 0.5, 0.5):
        for sign in (-1, 1):
            other = cells.index(mean + np.float32(sign * step * cells.edge) * normal)
            known = (other >= 0) & (other != mine)
            known &= (cells.run[other] >= 0) & (cells.run[other] != cells.run[mine])
            known &= cells.score[other] > cells.score[mine]
            apart = cells.mean[other] - mean
            across = (apart * normal).sum(axis=1)
            known &= (np.abs(across) < reach) & ((cells.normal[other] * normal).sum(axis=1) > SAME_FACING)
            out[mine[known]] = True
    return out

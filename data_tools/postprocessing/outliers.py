"""Radius and statistical outliers of a large cloud, with a tree look-up for the few points that could be one.

Both tests ask for the distances to a point's nearest neighbours. Points in a well-filled neighbourhood of grid cells
cannot fail them, and at most ``limit`` of all points may go: so only the emptiest neighbourhoods are looked up.
A test holds that against a look-up of every point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from data_tools.postprocessing.sampling import cell_keys
from data_tools.postprocessing.settings import PostprocessSettings

SAMPLE = 30_000  # points that give the mean and spread of the neighbour distances
SCREEN = 5.0  # times the limit: share of the points that is looked up
LEAST_LOOKED_UP = 2_000


def count_around(coord: np.ndarray, cell: float) -> np.ndarray:
    """Points in the 3 x 3 x 3 grid cells around every point (N,), itself included: no tree, no loop over points."""
    key, _ = cell_keys(coord, cell)
    cells, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
    running = np.concatenate([[0], np.cumsum(counts)])
    total = np.zeros(len(cells), dtype=np.int64)
    for x in (-1, 0, 1):
        for y in (-1, 0, 1):  # three cells along z are neighbours in the order of the keys
            middle = cells + (x << 34) + (y << 17)
            total += running[np.searchsorted(cells, middle + 1, "right")] - running[np.searchsorted(cells, middle - 1)]
    return total[inverse.reshape(-1)]


def _distances(coord: np.ndarray, rows: np.ndarray, tree: cKDTree, k: int, workers: int) -> np.ndarray:
    """Distances (R, k) of some points to their nearest others."""
    found = tree.query(coord[rows], k=min(k + 1, len(coord)), workers=workers)[0]
    return found[:, 1:]


def _judge(
    coord: np.ndarray, rows: np.ndarray, tree: cKDTree, settings: PostprocessSettings, radius: float, workers: int = 1
) -> tuple[np.ndarray, dict[str, Any]]:
    """`find_outliers` with a look-up of the given rows; ``radius`` in the unit of ``coord``."""
    pick = np.unique(np.linspace(0, len(coord) - 1, min(SAMPLE, len(coord))).astype(int))
    typical = _distances(coord, pick, tree, settings.outlier_neighbours, workers).mean(axis=1)
    bound = float(typical.mean() + settings.outlier_ratio * typical.std())
    distance = _distances(coord, rows, tree, settings.outlier_neighbours, workers)
    mean = distance.mean(axis=1)
    lonely = np.zeros(len(rows), dtype=bool)
    if 0 < settings.radius_points <= distance.shape[1]:
        lonely = distance[:, settings.radius_points - 1] > radius
    far = mean > bound
    out = np.flatnonzero(lonely | far)
    allowed = int(settings.outlier_limit * len(coord))
    spared = max(0, len(out) - allowed)
    if spared:
        out = out[np.argsort(-mean[out], kind="stable")[:allowed]]
    flag = np.zeros(len(coord), dtype=bool)
    flag[rows[out]] = True
    return flag, _facts(radius, bound, int(lonely.sum()), int(far.sum()), spared)


def _facts(radius: float, bound: float = 0.0, lonely: int = 0, far: int = 0, spared: int = 0) -> dict[str, Any]:
    return {
        "radius": radius,
        "mean_distance_limit": bound,
        "failed_radius": lonely,
        "failed_statistics": far,
        "spared_by_limit": spared,
    }


def find_outliers(
    coord: np.ndarray, tree: cKDTree, settings: PostprocessSettings, spacing: float, workers: int = 1
) -> tuple[np.ndarray, dict[str, Any]]:
    """Points far from all others, at most ``outlier_limit`` of them: the farthest.

    Args:
        spacing: median distance to the nearest neighbour: unit of the radius and of the screen's cells.

    Returns:
        (N,) bool, and for meta.json the limits, how many failed which test (some fail both), and how many of those the
        limit spared.
    """
    radius = settings.radius_factor * spacing
    if settings.outlier_limit <= 0 or len(coord) <= settings.outlier_neighbours or spacing <= 0:
        return np.zeros(len(coord), dtype=bool), _facts(radius)
    looked_up = max(LEAST_LOOKED_UP, int(SCREEN * settings.outlier_limit * len(coord)))
    rows = np.arange(len(coord))
    if looked_up < len(coord):
        around = count_around(coord, max(3 * spacing, float(np.ptp(coord, axis=0).max()) / 100_000))
        emptiest = np.partition(around, looked_up)[looked_up]
        rows = np.flatnonzero(around < emptiest)
        if len(rows) < looked_up / 2:  # one count holds very many points
            rows = np.flatnonzero(around <= emptiest)
    return _judge(coord, rows, tree, settings, radius, workers)

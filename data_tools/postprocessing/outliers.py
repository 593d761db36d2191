"""Radius and statistical outliers of a large cloud, with a tree look-up for the few points that could be one.

Both tests ask for the distances to a point's nearest neighbours. Points in a well-filled neighbourhood of grid cells
cannot fail them, and at most ``limit`` of all points may go: so only the emptiest neighbourhoods are looked up.
A test holds that against a look-up of every point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from data_tools.postprocessing.sampling import cell_keys

SAMPLE = 30_000  # points that give the mean and spread of the neighbour distances
SCREEN = 5.0  # times the limit: share of the points that is looked up
LEAST_LOOKED_UP = 2_000


@dataclass(frozen=True)
class OutlierReport:
    """Who is out, and why.

    Attributes:
        outlier: (N,) bool.
        radius: distance within which ``radius_points`` others were asked for.
        limit: largest mean distance allowed.
        by_radius: points that fail this test, before the limit.
        by_statistics: points that fail that one; some fail both.
        spared: points that failed, but the limit kept the nearer ones.
    """

    outlier: np.ndarray
    radius: float
    limit: float
    by_radius: int
    by_statistics: int
    spared: int


@dataclass(frozen=True)
class OutlierRule:
    """The two tests; see `PostprocessSettings` for the fields."""

    neighbours: int
    ratio: float
    radius_points: int
    radius: float
    limit: float


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


def _judge(coord: np.ndarray, rows: np.ndarray, tree: cKDTree, rule: OutlierRule, workers: int) -> OutlierReport:
    pick = np.unique(np.linspace(0, len(coord) - 1, min(SAMPLE, len(coord))).astype(int))
    typical = _distances(coord, pick, tree, rule.neighbours, workers).mean(axis=1)
    bound = float(typical.mean() + rule.ratio * typical.std())
    distance = _distances(coord, rows, tree, rule.neighbours, workers)
    mean = distance.mean(axis=1)
    lonely = np.zeros(len(rows), dtype=bool)
    if 0 < rule.radius_points <= distance.shape[1]:
        lonely = distance[:, rule.radius_points - 1] > rule.radius
    far = mean > bound
    out = np.flatnonzero(lonely | far)
    allowed = int(rule.limit * len(coord))
    kept_back = max(0, len(out) - allowed)
    if kept_back:
        out = out[np.argsort(-mean[out], kind="stable")[:allowed]]
    flag = np.zeros(len(coord), dtype=bool)
    flag[rows[out]] = True
    return OutlierReport(flag, rule.radius, bound, int(lonely.sum()), int(far.sum()), kept_back)


def find_outliers(
    coord: np.ndarray, tree: cKDTree, rule: OutlierRule, spacing: float, workers: int = 1
) -> OutlierReport:
    """Points far from all others, at most ``rule.limit`` of them: the farthest.

    Args:
        coord: (N, 3).
        tree: of ``coord``.
        rule: the tests.
        spacing: median distance to the nearest neighbour, from which the screen's cells follow.
        workers: threads of the look-ups.
    """
    if rule.limit <= 0 or len(coord) <= rule.neighbours or spacing <= 0:
        return OutlierReport(np.zeros(len(coord), dtype=bool), rule.radius, 0.0, 0, 0, 0)
    looked_up = max(LEAST_LOOKED_UP, int(SCREEN * rule.limit * len(coord)))
    rows = np.arange(len(coord))
    if looked_up < len(coord):
        around = count_around(coord, max(3 * spacing, float(np.ptp(coord, axis=0).max()) / 100_000))
        emptiest = np.partition(around, looked_up)[looked_up]
        rows = np.flatnonzero(around < emptiest)
        if len(rows) < looked_up / 2:  # one count holds very many points
            rows = np.flatnonzero(around <= emptiest)
    return _judge(coord, rows, tree, rule, workers)

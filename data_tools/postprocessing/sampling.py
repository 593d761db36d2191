"""Fewer points without bias: a cap before anything costly, and thinning to an even spacing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from data_tools.clouds.normals import grid_cells, make_tree, nearest_distance

AXIS_BITS = 17  # three cell indices and a 12-bit distance fit an int64
RANK_LEVELS = 4095
CLOSE_ENOUGH = 0.01  # of the spacing wanted
FIRST_CELL = 1.25  # cell edge over the spacing it leaves, on noisy surfaces at any angle


@dataclass(frozen=True)
class Thinning:
    """What `thin_to_spacing` did.

    Attributes:
        index: (M,) rows kept, sorted by grid cell.
        cell: edge of the cells, 0 where nothing was done.
        before: median distance to the nearest neighbour in the input.
        after: the same in the result.
        rule: "voxel", "as it was" (the input is no denser than wanted) or "point floor" (stopped early).
    """

    index: np.ndarray
    cell: float
    before: float
    after: float
    rule: str


def cell_keys(coord: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Grid cell (N,) int64 of every point (neighbours along z differ by 1), and its place (N, 3) in the cell, 0..1.

    Indices start at 1, so that a neighbour's key never borrows from the next axis.

    Raises:
        ValueError: more than 2^17 - 2 cells along an axis.
    """
    place = (coord - coord.min(axis=0)) / np.asarray(cell, dtype=coord.dtype)
    if float(place.max(initial=0)) >= (1 << AXIS_BITS) - 2:
        raise ValueError(f"a grid of {cell:.3g} over {np.ptp(coord, axis=0).max():.3g} has too many cells")
    index = place.astype(np.int32)
    key = index[:, 0].astype(np.int64) + 1
    for axis in (1, 2):
        key = (key << AXIS_BITS) + (index[:, axis] + 1)
    place -= index
    return key, place


def cap_points(
    coord: np.ndarray, cap: int, rule: str, confidence: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """Draw at most ``cap`` of N points, by chance and not by order.

    Every point gets an exponential waiting time divided by its weight and the earliest are kept: sampling without
    replacement in proportion to the weight. "uniform": all weights 1; "even": 1 over the points in its cell, so that
    dense places lose more; "confidence": the confidence.

    Returns:
        Sorted row indices.
    """
    if len(coord) <= cap:
        return np.arange(len(coord))
    wait = rng.standard_exponential(len(coord), dtype=np.float32)
    if rule == "confidence" and confidence is not None:
        wait /= np.maximum(confidence, 1e-6)
    elif rule == "even":
        low, high = np.quantile(coord[:: max(1, len(coord) // 100_000)], [0.01, 0.99], axis=0)
        size = float((high - low).max())
        _, inverse, counts = grid_cells(np.clip(coord, low - size, high + size), max(size, 1e-9) / 300)
        wait *= counts[inverse]
    return np.sort(np.argpartition(wait, cap)[:cap])


def thin(coord: np.ndarray, cell: float) -> np.ndarray:
    """One point per cube of edge ``cell``: the one nearest to its middle; rows sorted by cell."""
    key, place = cell_keys(coord, cell)
    place -= 0.5
    off = np.einsum("ni,ni->n", place, place) * np.float32(RANK_LEVELS / 0.75)
    key = (key << 12) | np.minimum(off, RANK_LEVELS).astype(np.int64)
    order = np.argsort(key, kind="stable")
    cells = key[order] >> 12
    first = np.empty(len(cells), dtype=bool)
    first[:1] = True
    np.not_equal(cells[1:], cells[:-1], out=first[1:])
    return order[first]


def _blocks(coord: np.ndarray, edge: float, want: int, rng: np.random.Generator) -> np.ndarray:
    """Whole cubes of the cloud, about ``want`` points: what thinning does there it does everywhere."""
    if len(coord) <= want:
        return np.arange(len(coord))
    _, inverse, counts = grid_cells(coord, edge)
    order = rng.permutation(len(counts))
    chosen = np.zeros(len(counts), dtype=bool)
    chosen[order[: int(np.searchsorted(np.cumsum(counts[order]), want)) + 1]] = True
    return np.flatnonzero(chosen[inverse])


def _fit_cell(coord: np.ndarray, spacing: float, rng: np.random.Generator, workers: int) -> float:
    """Cell edge whose thinning leaves ``spacing``, by a few secant steps on part of the cloud."""
    part = coord[_blocks(coord, 20 * spacing, 400_000, rng)]
    cell, low, high = FIRST_CELL * spacing, 0.0, np.inf
    for _ in range(8):
        kept = part[thin(part, cell)]
        got = nearest_distance(kept, make_tree(kept), np.random.default_rng(0), workers) / spacing
        if abs(got - 1) < CLOSE_ENOUGH / 2:
            break
        low, high = (max(low, cell), high) if got < 1 else (low, min(high, cell))
        step = cell / got
        cell = step if low < step < high else (low + min(high, 2 * cell)) / 2
    return cell


def _finest(coord: np.ndarray, cell: float, min_points: int) -> tuple[np.ndarray, float]:
    """The coarsest thinning finer than ``cell`` that leaves ``min_points`` (to 2 %), by bisection; its cell."""
    index, best, low, high = np.arange(len(coord)), 0.0, 0.0, cell
    while high - low > 0.01 * cell and len(index) >= 1.02 * min_points:
        middle = (low + high) / 2
        trial = thin(coord, middle)
        if len(trial) < min_points:
            high = middle
        else:
            low, index, best = middle, trial, middle
    return index, best


def thin_to_spacing(
    coord: np.ndarray,
    before: float,
    spacing: float,
    min_points: int,
    rng: np.random.Generator,
    workers: int = 1,
    most: float = 1.0,
) -> Thinning:
    """Thin a cloud until its points are ``spacing`` apart (median distance to the nearest neighbour).

    Points are left out, never moved and never made: rescaling would change the room's size, averaging would blur
    colours. Where so few points would stay that the scene is lost, a finer spacing is taken that leaves ``min_points``.

    Args:
        before: the spacing now, metres.
        spacing: the one wanted, metres; 0 leaves the cloud as it is.
        min_points: points to keep if there are as many.
        most: largest share of the points left by cells of ``spacing`` (which leaves less than the spacing) that may be
            thinned further to reach it.
    """
    everything = np.arange(len(coord))
    if spacing <= 0 or before >= spacing * (1 - CLOSE_ENOUGH) or len(coord) <= min_points:
        return Thinning(everything, 0.0, before, before, "as it was")
    cell, rule = _fit_cell(coord, spacing, rng, workers), "voxel"
    index = thin(coord, cell)
    fewest = min_points if most >= 1 else max(min_points, math.ceil((1 - most) * len(thin(coord, spacing))))
    if len(index) < fewest:
        rule = "point floor"
        index, cell = _finest(coord, cell, fewest)
    kept = coord[index]
    after = nearest_distance(kept, make_tree(kept), np.random.default_rng(0), workers)
    return Thinning(index, cell, before, after, rule)

"""Neighbourhoods of points: cells, trees, spacing, planes; normals, and places to look from that give them a side."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from data_tools.clouds.types import CloudError

PROBES = 20_000  # points whose nearest neighbour is looked up to know the spacing
BLOCK = 65536  # points per batched eigen decomposition: bounds the (block, k, 3) neighbour tensor to ~50 MB


def grid_cells(coord: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort finite points (N, 3) into cubes of edge ``cell``, in their unit.

    Returns:
        first (M,) index of each cell's first point, inverse (N,) cell of each point, counts (M,).

    Raises:
        CloudError: more than 2^21 cells along an axis, so that three indices do not fit 63 bits.
    """
    low = coord.min(axis=0)
    index = np.floor((coord - low) / cell).astype(np.int64)
    if index.max(initial=0) >= 1 << 21:
        raise CloudError(
            f"a grid of {cell} over {np.ptp(coord, axis=0).max():.3g} has too many cells; use a larger cell"
        )
    key = (index[:, 0] << 42) | (index[:, 1] << 21) | index[:, 2]
    _, first, inverse, counts = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    return first, inverse.reshape(-1), counts


def cell_means(values: np.ndarray, inverse: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(M, C) mean of (N, C) values over the cells of `grid_cells`."""
    sums = [np.bincount(inverse, values[:, axis], len(counts)) for axis in range(values.shape[1])]
    return np.stack(sums, axis=1) / counts[:, None]


def plane_moments(query: np.ndarray, tree: cKDTree, k: int, workers: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Principal axes of the k nearest points of every query point.

    Returns:
        normal (M, 3) float64: the axis of least variance, unit, of either sign; variance (M, 3), ascending, in the
        square of the unit: the first is the mean squared distance to the plane through the neighbours.
    """
    normal, variance = np.empty((len(query), 3)), np.empty((len(query), 3))
    points = np.asarray(tree.data)
    k = min(k, len(points))
    columns = [np.ascontiguousarray(points[:, axis]) for axis in range(3)]
    for start in range(0, len(query), BLOCK):
        block = query[start : start + BLOCK]
        _, index = tree.query(block, k=k, workers=workers)
        index = index.reshape(len(block), k)
        near = [column[index] for column in columns]
        near = [axis - axis.mean(axis=1, keepdims=True) for axis in near]
        covariance = np.empty((len(block), 3, 3))
        for i in range(3):
            for j in range(i + 1):
                covariance[:, i, j] = covariance[:, j, i] = np.einsum("nk,nk->n", near[i], near[j])
        value, vectors = np.linalg.eigh(covariance / k)
        normal[start : start + BLOCK], variance[start : start + BLOCK] = vectors[:, :, 0], value
    return normal, np.maximum(variance, 0.0)


def plane_fits(query: np.ndarray, tree: cKDTree, k: int, workers: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Fit a plane to the k nearest points of every query point.

    Returns:
        normal (M, 3) float64, unit, of either sign; flatness (M,) in [0, 1]: 1 - smallest / middle variance
        (1 on a plane, near 0 in clutter and on lines).
    """
    normal, variance = plane_moments(query, tree, k, workers)
    return normal, np.clip(1.0 - variance[:, 0] / np.maximum(variance[:, 1], 1e-30), 0.0, 1.0)


def make_tree(coord: np.ndarray) -> cKDTree:
    """A k-d tree that is quick to build; the sliding midpoint suits clouds."""
    return cKDTree(coord, balanced_tree=False, compact_nodes=False)


def nearest_distance(coord: np.ndarray, tree: cKDTree, rng: np.random.Generator, workers: int = 1) -> float:
    """Median distance from a point to its nearest other point, over at most `PROBES` of them."""
    pick = np.sort(rng.permutation(len(coord))[:PROBES]) if len(coord) > PROBES else np.arange(len(coord))
    distance = tree.query(coord[pick], k=2, workers=workers)[0][:, 1]
    distance = distance[np.isfinite(distance) & (distance > 0)]
    return float(np.median(distance)) if len(distance) else 0.0


def fit_normals(coord: np.ndarray, tree: cKDTree, k: int, cell: float, workers: int = 1) -> np.ndarray:
    """Normals (N, 3) of either sign: planes through the k nearest points, one a grid cell (``cell`` 0: one a point)."""
    if cell <= 0:
        return plane_fits(coord, tree, k, workers)[0]
    _, inverse, counts = grid_cells(coord, cell)
    return plane_fits(cell_means(coord, inverse, counts), tree, k, workers)[0][inverse]


def estimate_normals(
    coord: np.ndarray,
    k: int = 32,
    viewpoints: np.ndarray | None = None,
    cell: float = 0.0,
    workers: int = 1,
) -> np.ndarray:
    """Normals from the plane through each point's k nearest points, all on the side of a viewpoint.

    Args:
        coord: (N, 3) finite coordinates.
        k: neighbours per plane, the point itself included (32 in the RoomTours release).
        viewpoints: (3,) one for all; (N, 3) one per point; (V, 3) the nearest one counts. None: `inner_viewpoints`.
        cell: > 0 fits one plane per grid cell of that size and shares it among the cell's points (several times
            faster on dense clouds, the same normals on surfaces that are flat at that size).
        workers: threads of the neighbour search; the result does not depend on it.

    Returns:
        (N, 3) float32 unit normals; (0, 0, 1) where fewer than 3 distinct points make no plane.

    Raises:
        CloudError: not (N, 3), empty or not finite.
    """
    coord = np.asarray(coord)
    if coord.ndim != 2 or coord.shape[1] != 3 or not len(coord) or not np.isfinite(coord).all():
        raise CloudError(f"normals need finite (N, 3) coordinates, got shape {coord.shape}; drop the others first")
    point = coord.astype(np.float64)
    if len(point) < 3:
        return np.tile(np.float32([0, 0, 1]), (len(point), 1))
    normal = fit_normals(point, make_tree(point), k, cell, workers)
    view = inner_viewpoints(point) if viewpoints is None else np.asarray(viewpoints, dtype=np.float64)
    return orient_normals(point, normal, view).astype(np.float32)


def orient_normals(coord: np.ndarray, normal: np.ndarray, viewpoints: np.ndarray) -> np.ndarray:
    """Flip normals (N, 3) that look away from their viewpoint: (3,), one per point (N, 3), or the nearest of (V, 3)."""
    if viewpoints.ndim == 2 and len(viewpoints) != len(coord):
        _, nearest = cKDTree(viewpoints).query(coord)
        viewpoints = viewpoints[nearest]
    facing = np.einsum("ni,ni->n", viewpoints - coord, normal)
    return np.where(facing[:, None] < 0, -normal, normal)


def inner_viewpoints(coord: np.ndarray, cell: float = 0.5, limit: int = 500) -> np.ndarray:
    """Places inside the free space of a z-up cloud (N, 3) in metres, from which its surfaces can be seen.

    Columns of ``cell`` x ``cell`` that have points, but none at the height of a standing person's chest and head,
    are taken as free floor. Where there is none (an object, another unit), the middle of the cloud is the one place.

    Returns:
        (V, 3) viewpoints, 1 <= V <= ``limit``.
    """
    low, high = np.quantile(coord, [0.01, 0.99], axis=0)
    middle = (low + high) / 2
    middle[2] = low[2] + 0.6 * (high[2] - low[2])
    size = high - low
    if not (0.5 < size[2] < 20 and cell < size[:2].max() < 500):
        return middle[None]
    eye = min(1.5, 0.6 * size[2])
    shape = np.ceil(size[:2] / cell).astype(int) + 1
    inside = ((coord >= low) & (coord <= high)).all(axis=1)
    cells = ((coord[inside, :2] - low[:2]) / cell).astype(int)
    flat = cells[:, 0] * shape[1] + cells[:, 1]
    height = coord[inside, 2] - low[2]
    total = np.bincount(flat, minlength=shape.prod())
    blocked = np.bincount(flat[(height > 0.6 * eye) & (height < min(eye + 0.4, 0.9 * size[2]))], minlength=shape.prod())
    free = np.flatnonzero((total > 0) & (blocked <= 0.01 * total.max()))
    if not len(free):
        return middle[None]
    free = free[:: -(-len(free) // limit)]
    places = np.stack([free // shape[1], free % shape[1]], axis=1)
    return np.concatenate([low[:2] + (places + 0.5) * cell, np.full((len(free), 1), low[2] + eye)], axis=1)


def largest_plane(
    coord: np.ndarray, near: float, tries: int, rng: np.random.Generator
) -> tuple[np.ndarray, float, np.ndarray] | None:
    """The plane through three points that has most points near it, fitted to those: unit normal, offset, who is near.

    None where the points lie on a line.
    """
    best = np.zeros(len(coord), dtype=bool)
    for _ in range(tries if len(coord) >= 3 else 0):
        a, b, c = coord[rng.choice(len(coord), 3, replace=False)]
        across = np.cross(b - a, c - a)
        length = float(np.linalg.norm(across))
        if length > 1e-12:
            inside = np.abs((coord - a) @ (across / length)) <= near
            best = inside if inside.sum() > best.sum() else best
    if not best.any():
        return None
    normal = np.linalg.eigh(np.cov(coord[best].T))[1][:, 0]
    return normal, float(normal @ coord[best].mean(axis=0)), best

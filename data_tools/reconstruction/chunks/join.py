"""How one chunk lies to another: a robust similarity from the points of the frames that both hold, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_tools.reconstruction.alignment import Similarity, umeyama
from data_tools.reconstruction.chunks.store import Chunk

MOST_PAIRS = 40_000
LEAST_PAIRS = 200
ROUNDS = 20
NEAR = 0.05  # of the depth: pairs that lie closer agree
LEAST_AGREEING = 0.4  # share of the pairs


@dataclass(frozen=True)
class Joint:
    """Chunk ``b`` as seen from chunk ``a``.

    Attributes:
        a: number of a chunk.
        b: number of another.
        similarity: moves points of ``b`` to the world of ``a``.
        anchors: (7, 3) in the world of ``b``: the shared points' middle and one spread along each of their axes.
        depth: median depth of the shared points in the unit of ``a``: what distances are measured in.
        agreeing: share of the pairs that agree within `NEAR` of their depth.
        is_loop: the two hold no frame in common: a third reconstruction, of views of both, links them.
    """

    a: int
    b: int
    similarity: Similarity
    anchors: np.ndarray
    depth: float
    agreeing: float
    is_loop: bool = False


def join(first: Chunk, second: Chunk, a: int, b: int) -> Joint | None:
    """The joint of two chunks (``second`` to ``first``); None where they share too little or do not agree."""
    shared = np.intersect1d(first.rows, second.rows)
    if not len(shared):
        return None
    source, target, weight, depth = shared_points(first, second, shared)
    if len(source) < LEAST_PAIRS:
        return None
    similarity, agree = robust_similarity(source, target, weight, depth)
    if agree.mean() < LEAST_AGREEING:
        return None
    return Joint(a, b, similarity, anchors_of(source[agree]), float(np.median(depth)), float(agree.mean()))


def shared_points(
    first: Chunk, second: Chunk, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of points of the frames ``rows``, evenly over frames and pixels.

    Returns:
        Points (N, 3) of the second chunk; of the first; weights (N,), the lesser of the two confidences over the
        squared depth (noise grows with it); depths (N,) in the unit of the first.
    """
    views = first.views_of(rows), second.views_of(rows)
    step = max(1, round(np.sqrt(len(rows) * first.points[0, ..., 0].size / MOST_PAIRS)))
    source, target, weight, depth = [], [], [], []
    for one, other in zip(*views, strict=True):
        both = first.valid(np.array([one]))[0] & second.valid(np.array([other]))[0]
        grid = np.zeros(both.shape, bool)
        grid[(one % step) :: step, (one % step) :: step] = True  # other pixels in every frame
        place = both & grid
        source.append(second.world(np.array([other]))[0][place])
        target.append(first.world(np.array([one]))[0][place])
        z = first.points[one, ..., 2][place].astype(np.float64) * first.depth
        depth.append(np.maximum(z, 1e-3 * first.depth))
        sure = np.minimum(first.confidence[one][place], second.confidence[other][place]).astype(np.float64)
        weight.append((sure + 0.01) / depth[-1] ** 2)
    return (
        np.concatenate(source).astype(np.float64),
        np.concatenate(target).astype(np.float64),
        np.concatenate(weight),
        np.concatenate(depth),
    )


def robust_similarity(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray, depth: np.ndarray
) -> tuple[Similarity, np.ndarray]:
    """The similarity of point pairs of which some are wrong: weighted least squares again and again (IRLS).

    Weights are Geman and McClure's, ``1 / (1 + (r / s) ** 2) ** 2`` of the distance over the depth; ``s`` falls to
    three times its median.

    Args:
        source: (N, 3).
        target: (N, 3).
        weight: (N,) before robust ones.
        depth: (N,) of ``target`` from its camera.

    Returns:
        The similarity; which pairs (N,) agree within `NEAR` of their depth.
    """
    now, width = umeyama(source, target, weight), np.inf
    for _ in range(ROUNDS):
        error = np.linalg.norm(now.apply(source) - target, axis=1) / depth
        width = max(min(3 * float(np.median(error)), 0.7 * width), 1e-9)
        before, now = now, umeyama(source, target, weight / (1 + (error / width) ** 2) ** 2)
        if abs(now.scale / before.scale - 1) < 1e-7 and np.abs(now.rotation - before.rotation).max() < 1e-7:
            break
    return now, np.linalg.norm(now.apply(source) - target, axis=1) < NEAR * depth


def anchors_of(points: np.ndarray) -> np.ndarray:
    """Seven points (7, 3) with the mean and the spread of many (N, 3): what moves them little moves these little."""
    mean = points.mean(0)
    spread, axes = np.linalg.eigh(np.cov((points - mean).T))
    arms = (axes * np.sqrt(np.maximum(spread, 0))).T
    return np.concatenate([mean[None], mean + arms, mean - arms])

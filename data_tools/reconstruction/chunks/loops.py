"""Places that a tour comes back to: found by how frames look, made sure by reconstructing views of both visits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_tools.reconstruction.chunks.join import NEAR, Joint, join
from data_tools.reconstruction.chunks.store import Chunk
from data_tools.reconstruction.geometry import reproject

SIDE = (16, 12)  # width and height of the small picture a frame is compared by
BINS = 8  # directions of edges
GRID = (4, 3)  # columns and rows of the histograms of edges
MOST_LOOKED_AT = 1500  # frames compared, evenly spread
COMPONENTS = 64
ALIKE = 0.5  # cosine of two whitened descriptors
PER_CHUNK = 2  # loops tried a chunk: each costs a pass of the views of both visits
VIEWS = (8, 24)  # of each visit: an eighth of a chunk within these
LOOKED_AT = 7  # every so manieth point
SEEN_TWICE = 0.25  # share of one visit's points that the other sees, at the same depth


def describe(images: np.ndarray) -> np.ndarray:
    """What frames look like: a small grey picture without its mean and contrast, and edges by direction on a grid.

    Args:
        images: (F, H, W, 3) uint8.

    Returns:
        (F, D) float32.
    """
    import cv2

    out = []
    for image in images:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        wide = (
            8 * GRID[0] * max(1, grey.shape[1] // (8 * GRID[0])),
            8 * GRID[1] * max(1, grey.shape[0] // (8 * GRID[1])),
        )
        medium = cv2.resize(grey, (min(wide[0], 160), min(wide[1], 120)), interpolation=cv2.INTER_AREA)
        small = cv2.resize(medium, SIDE, interpolation=cv2.INTER_AREA).astype(np.float32)
        tiny = cv2.resize(image, GRID, interpolation=cv2.INTER_AREA).astype(np.float32)
        colour = (tiny / np.maximum(tiny.sum(-1, keepdims=True), 1) - 1 / 3).reshape(-1)
        parts = [(small - small.mean()) / (small.std() + 4), _edge_directions(medium.astype(np.float32)), 6 * colour]
        out.append(np.concatenate([part.reshape(-1) for part in parts]))
    return np.stack(out).astype(np.float32)


def _edge_directions(grey: np.ndarray) -> np.ndarray:
    """(cells, BINS) histograms of the gradients' directions, weighted by strength, of unit length together."""
    down, right = np.gradient(grey)
    strength = np.hypot(down, right)
    direction = (np.arctan2(down, right) % np.pi * (BINS / np.pi)).astype(int) % BINS
    rows = np.arange(grey.shape[0]) * GRID[1] // grey.shape[0]
    columns = np.arange(grey.shape[1]) * GRID[0] // grey.shape[1]
    cell = (rows[:, None] * GRID[0] + columns) * BINS + direction
    counts = np.bincount(cell.reshape(-1), strength.reshape(-1), GRID[0] * GRID[1] * BINS)
    return np.sqrt(counts / max(counts.sum(), 1e-9)) * np.sqrt(GRID[0] * GRID[1])


def whiten(descriptors: np.ndarray) -> np.ndarray:
    """Descriptors (F, D) in their main directions, of equal spread and unit length: what all frames share is gone."""
    centred = descriptors - descriptors.mean(0)
    _, basis = np.linalg.eigh(centred.T @ centred)
    found = centred @ basis[:, ::-1][:, : min(COMPONENTS, len(centred) - 1)]
    found /= found.std(0) + 0.1 * float(found.std(0).mean()) + 1e-9
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def find_candidates(images: np.ndarray, spans: Sequence[np.ndarray]) -> list[tuple[int, int, int, int]]:
    """Pairs of frames that look alike, of chunks that share no frame.

    Args:
        images: (F, H, W, 3) uint8 of the tour.
        spans: the rows of the tour's frames that each chunk holds.

    Returns:
        (chunk a, row in it, chunk b, row in it), a < b, the most alike first; at most `PER_CHUNK` times as many as
        there are chunks, none near another.
    """
    step = max(1, -(-len(images) // MOST_LOOKED_AT))
    rows = np.arange(0, len(images), step)
    found = whiten(describe(images[rows]))
    alike = found @ found.T
    homes = [np.flatnonzero(np.isin(rows, span)) for span in spans]
    reach = len(spans[0]) // 4
    pairs = []
    for a in range(len(spans)):
        for b in range(a + 1, len(spans)):
            if len(np.intersect1d(spans[a], spans[b])) or not len(homes[a]) or not len(homes[b]):
                continue
            table = alike[np.ix_(homes[a], homes[b])]
            i, j = np.unravel_index(table.argmax(), table.shape)
            pairs.append((float(table[i, j]), a, int(rows[homes[a][i]]), b, int(rows[homes[b][j]])))
    chosen: list[tuple[int, int, int, int]] = []
    for score, a, i, b, j in sorted(pairs, reverse=True):
        near = any(abs(i - other[1]) < reach and abs(j - other[3]) < reach for other in chosen)
        often = max(sum(c in (o[0], o[2]) for o in chosen) for c in (a, b)) >= 2 * PER_CHUNK
        if score >= ALIKE and not near and not often:
            chosen.append((a, i, b, j))
    return chosen[: PER_CHUNK * len(spans)]


def views_of_both(candidate: tuple[int, int, int, int], spans: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of the tour's frames around both frames of a candidate, within their chunks; rising."""
    a, i, b, j = candidate
    parts = []
    for chunk, row in ((a, i), (b, j)):
        span, wanted = spans[chunk], int(np.clip(len(spans[chunk]) // 8, *VIEWS))
        middle = int(np.searchsorted(span, row))
        low = max(0, min(middle - wanted // 2, len(span) - wanted))
        parts.append(span[low : low + wanted])
    return np.unique(np.concatenate(parts))


def close_loop(visit: Chunk, first: Chunk, second: Chunk, a: int, b: int) -> Joint | None:
    """The joint of two chunks by way of a reconstruction that holds views of both; None where it does not hold.

    It holds where the views agree with both chunks, pixel by pixel, and the two visits see the same surface.
    """
    to_first, to_second = join(first, visit, a, -1), join(second, visit, b, -1)
    if to_first is None or to_second is None:
        return None
    ones, others = visit.views_of(first.rows), visit.views_of(second.rows)
    if seen_twice(visit, ones, others) < SEEN_TWICE:
        return None
    similarity = to_first.similarity.after(to_second.similarity.inverse())
    anchors = to_second.similarity.apply(to_second.anchors)
    agreeing = min(to_first.agreeing, to_second.agreeing)
    return Joint(a, b, similarity, anchors, to_first.depth, agreeing, is_loop=True)


def seen_twice(visit: Chunk, ones: np.ndarray, others: np.ndarray) -> float:
    """The largest share of a view's points that a view of the other visit sees at their depth, over a few pairs."""
    best, shape = 0.0, visit.points.shape[1:3]
    for one in _spread(ones):
        points = visit.world(one[None])[0][visit.valid(one[None])[0]][::LOOKED_AT]
        for other in _spread(others):
            pixel, z = reproject(points, visit.camera_to_world[other], visit.intrinsics[other], shape)
            inside = pixel >= 0
            there = visit.points[other, ..., 2].reshape(-1)[pixel[inside]].astype(np.float64) * visit.depth
            good = (np.abs(there - z[inside]) < NEAR * z[inside]) & visit.valid(other[None])[0].reshape(-1)[
                pixel[inside]
            ]
            best = max(best, float(good.sum()) / max(len(points), 1))
    return best


def _spread(views: np.ndarray) -> np.ndarray:
    return views[np.linspace(0, len(views) - 1, min(len(views), 5)).astype(int)]

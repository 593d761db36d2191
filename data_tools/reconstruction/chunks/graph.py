"""Where all chunks lie: a pose graph over similarities, by Gauss and Newton on sparse matrices.

Chunks are the nodes, joints the edges. An edge's residual is how far its anchors, carried from ``b`` to ``a`` through
the world, lie from where its similarity puts them, over its depth: what rotations do to far points counts as it should,
and a graph cannot gain by shrinking. Loops may be wrong: their weights follow Geman and McClure with a falling width
(graduated non-convexity: Yang et al. 2020, "Graduated Non-Convexity for Robust Spatial Perception", section IV).
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

import numpy as np

from data_tools.reconstruction.alignment import IDENTITY, Similarity, rotation_about
from data_tools.reconstruction.chunks.join import Joint

ROUNDS = 60
SHRINK = 1.5  # the width of the loops' weights is divided by it every round
LOOP_ERROR = 0.05  # of the depth: the width it ends at
DAMPING = 1e-6  # of the diagonal
USED = 0.25  # weight above which a loop counts as used


def chain(count: int, joints: Sequence[Joint]) -> tuple[list[Similarity | None], list[int]]:
    """Every chunk in the world of one of them, along the joints from it.

    Args:
        count: of the chunks.
        joints: of any order; loops are taken only to what nothing else leads to.

    Returns:
        A similarity a chunk (chunk to world), None where no chain of joints leads there; the numbers of the reached.
        The start is the first chunk of the largest connected part.
    """
    best: dict[int, Similarity] = {}
    steps: list[list[tuple[bool, int, Similarity]]] = [[] for _ in range(count)]
    for joint in joints:
        steps[joint.a].append((joint.is_loop, joint.b, joint.similarity))
        steps[joint.b].append((joint.is_loop, joint.a, joint.similarity.inverse()))
    for start in range(count):
        found: dict[int, Similarity] = {}
        queue = [] if start in best else [(False, 0, start, IDENTITY)]
        while queue:
            _, _, node, place = heappop(queue)
            if node not in found:
                found[node] = place
                for is_loop, other, step in steps[node]:
                    heappush(queue, (is_loop, len(found) * count + other, other, place.after(step)))
        if len(found) > len(best):
            best = found
    return [best.get(node) for node in range(count)], sorted(best)


def optimise(start: Sequence[Similarity], joints: Sequence[Joint]) -> tuple[list[Similarity], np.ndarray]:
    """The similarities (chunk to world) that fit all joints best; the first stays.

    Args:
        start: a guess a chunk, as `chain` gives it.
        joints: between these chunks.

    Returns:
        The similarities; a weight in [0, 1] a joint: 1 for all but loops that do not fit.
    """
    now, loops = list(start), np.array([joint.is_loop for joint in joints])
    error = np.array([np.sqrt((_residual(now, joint) ** 2).sum(1).mean()) for joint in joints])
    width = max(LOOP_ERROR, 2 * float(np.median(error[loops]))) if loops.any() else LOOP_ERROR
    weight = np.ones(len(joints))
    for _ in range(ROUNDS):
        step = _solve(now, joints, weight)
        now = [_moved(node, delta) for node, delta in zip(now, step, strict=True)]
        error = np.array([np.sqrt((_residual(now, joint) ** 2).sum(1).mean()) for joint in joints])
        weight = np.where(loops, 1 / (1 + (error / width) ** 2) ** 2, 1.0)
        if width == LOOP_ERROR and np.abs(step).max() < 1e-6:
            break
        width = max(LOOP_ERROR, width / SHRINK)
    return now, weight


def _residual(nodes: Sequence[Similarity], joint: Joint) -> np.ndarray:
    """(7, 3) in depths of the joint, in the axes of its chunk ``a``."""
    carried = nodes[joint.a].inverse().after(nodes[joint.b]).apply(joint.anchors)
    return (carried - joint.similarity.apply(joint.anchors)) / joint.depth


def _moved(node: Similarity, delta: np.ndarray) -> Similarity:
    """A node moved in its own axes by turn (3), shift (3) and logarithm of scale (1)."""
    return node.after(Similarity(float(np.exp(delta[6])), rotation_about(delta[:3]), delta[3:6]))


def _jacobians(nodes: Sequence[Similarity], joint: Joint) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives (21, 7) of the residual by the moves (`_moved`) of chunks ``a`` and ``b``."""
    step = nodes[joint.a].inverse().after(nodes[joint.b])
    carried = step.apply(joint.anchors)

    def rows(points: np.ndarray) -> np.ndarray:
        zero, (x, y, z) = np.zeros(len(points)), points.T
        turn = np.stack([[zero, z, -y], [-z, zero, x], [y, -x, zero]]).transpose(2, 0, 1)  # -[p]x
        return np.concatenate([turn, np.tile(np.eye(3), (len(points), 1, 1)), points[..., None]], axis=2)

    by_a = -rows(carried)
    by_b = step.scale * step.rotation @ rows(joint.anchors)
    return by_a.reshape(-1, 7) / joint.depth, by_b.reshape(-1, 7) / joint.depth


def _solve(nodes: Sequence[Similarity], joints: Sequence[Joint], weight: np.ndarray) -> np.ndarray:
    """The step (N, 7) of one weighted, damped least squares; 0 for the first node."""
    from scipy.sparse import coo_matrix, diags
    from scipy.sparse.linalg import spsolve

    size = 7 * len(nodes)
    row, column, value, right = [], [], [], []
    for number, (joint, w) in enumerate(zip(joints, np.sqrt(weight), strict=True)):
        residual = _residual(nodes, joint).reshape(-1)
        place = number * len(residual) + np.arange(len(residual))
        for node, block in zip((joint.a, joint.b), _jacobians(nodes, joint), strict=True):
            row.append(np.repeat(place, 7))
            column.append(np.tile(7 * node + np.arange(7), len(place)))
            value.append((w * block).reshape(-1))
        right.append(-w * residual)
    matrix = coo_matrix(
        (np.concatenate(value), (np.concatenate(row), np.concatenate(column))), shape=(sum(map(len, right)), size)
    ).tocsc()[:, 7:]
    normal = matrix.T @ matrix
    normal += DAMPING * diags(normal.diagonal())
    step = spsolve(normal.tocsc(), matrix.T @ np.concatenate(right))
    return np.concatenate([np.zeros(7), np.atleast_1d(step)]).reshape(-1, 7)

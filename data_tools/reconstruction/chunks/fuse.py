"""All chunks in one world, each frame once: the tour's prediction, in files that are mapped into memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_tools.reconstruction.alignment import Similarity, nearest_rotation
from data_tools.reconstruction.base import Prediction
from data_tools.reconstruction.chunks.store import Chunk

APART = 0.05  # of the depth: two chunks' points that lie farther apart are not averaged, the surer one stays


def fuse(chunks: Sequence[Chunk], places: Sequence[Similarity], folder: Path) -> Prediction:
    """One prediction of all chunks' frames.

    A frame that two chunks hold has its points averaged, weighted by confidence and by how far it lies from its chunk's
    ends; so has its pose.

    Args:
        chunks: in the order of time; their rows overlap with the next one's.
        places: chunk to world.
        folder: gets the arrays, which stay on disk until they are read.

    Returns:
        The prediction; ``view`` are the rows of the tour's frames. Its grids are in ``folder``.
    """
    rows = np.unique(np.concatenate([chunk.rows for chunk in chunks]))
    shape = (len(rows), *chunks[0].points.shape[1:3])
    arrays = {
        name: np.lib.format.open_memmap(folder / f"fused_{name}.npy", "w+", kind, (*shape, *more))
        for name, kind, more in (
            ("points", np.float32, (3,)), ("valid", bool, ()), ("confidence", np.float32, ()), ("color", np.uint8, (3,))
        )
    }  # fmt: skip
    poses, intrinsics = np.empty((len(rows), 4, 4)), np.empty((len(rows), 3, 3))
    for view, row in enumerate(rows):
        holders = [(c, p, np.searchsorted(c.rows, row)) for c, p in zip(chunks, places, strict=True) if row in c.rows]
        blend = np.array([1 + min(place, len(chunk) - 1 - place) for chunk, _, place in holders], float)
        blend /= blend.sum()
        points, valid, confidence = _fuse_view([(c, p, place) for c, p, place in holders], blend)
        arrays["points"][view], arrays["valid"][view], arrays["confidence"][view] = points, valid, confidence
        chunk, _, place = holders[int(blend.argmax())]
        arrays["color"][view], intrinsics[view] = chunk.color[place], chunk.intrinsics[place]
        poses[view] = _mean_pose(np.stack([s.poses(c.camera_to_world[[p]])[0] for c, s, p in holders]), blend)
    return Prediction(
        **arrays,
        camera_to_world=poses,
        intrinsics=intrinsics,
        view=rows,
        is_metric=chunks[0].is_metric,
        min_confidence=chunks[0].min_confidence,
        edge=chunks[0].edge,
    )


def _fuse_view(
    holders: Sequence[tuple[Chunk, Similarity, int]], blend: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (h, w, 3), valid (h, w) and confidence (h, w) of a frame that some chunks hold."""
    points = np.stack([s.apply(c.world(np.array([p]))[0].reshape(-1, 3)) for c, s, p in holders])
    confidence = np.stack([np.asarray(c.confidence[p], np.float32).reshape(-1) for c, _, p in holders])
    shape = holders[0][0].points.shape[1:3]
    valid = confidence >= 0
    weight = np.where(valid, (confidence + 0.01) * blend[:, None].astype(np.float32), 0)
    best = weight.argmax(0)
    surest = np.take_along_axis(points, best[None, :, None], 0)[0]
    chunk, place, view = holders[int(blend.argmax())]
    depth = np.maximum(np.asarray(chunk.points[view, ..., 2], np.float32).reshape(-1), 0) * chunk.depth * place.scale
    weight *= np.linalg.norm(points - surest, axis=-1) < APART * depth + 1e-9
    total = weight.sum(0)
    mean = (points * weight[..., None]).sum(0) / np.maximum(total, 1e-30)[:, None]
    mean = np.where((total > 0)[:, None], mean, surest)
    sure = np.take_along_axis(confidence, best[None], 0)[0]
    return mean.reshape(*shape, 3).astype(np.float32), valid.any(0).reshape(shape), np.maximum(sure, 0).reshape(shape)


def _mean_pose(poses: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The weighted mean (4, 4) of poses (K, 4, 4) that lie near one another."""
    out = np.tensordot(weight, poses, axes=1)
    out[:3, :3] = nearest_rotation(out[:3, :3])
    return out

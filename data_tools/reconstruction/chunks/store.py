"""Chunks of a tour on disk: points at half precision, read view by view, so that memory does not grow with the tour."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_tools.reconstruction.base import Prediction
from data_tools.reconstruction.geometry import depth_of
from data_tools.stages.files import replacing_folder

FAR = 60_000.0  # the largest coordinate kept, in units of a chunk's depth: half precision ends at 65,504
GRIDS = ("points", "confidence", "color")


@dataclass
class Chunk:
    """A reconstructed stretch of a tour, or a loop's views, in a world of its own.

    Attributes:
        rows: (V,) rows of the tour's frames.
        points: (V, h, w, 3) float16 in camera axes, in units of ``depth``.
        confidence: (V, h, w) float16; -1 where the point is not valid.
        color: (V, h, w, 3) uint8.
        camera_to_world: (V, 4, 4) float64.
        intrinsics: (V, 3, 3) float64.
        depth: median depth of the valid points, in the chunk's unit.
        is_metric: as the backend says.
        min_confidence: as the backend says.
        edge: as the backend says.
    """

    rows: np.ndarray
    points: np.ndarray
    confidence: np.ndarray
    color: np.ndarray
    camera_to_world: np.ndarray
    intrinsics: np.ndarray
    depth: float
    is_metric: bool
    min_confidence: float
    edge: str

    def __len__(self) -> int:
        return len(self.rows)

    def world(self, views: np.ndarray) -> np.ndarray:
        """Points (K, h, w, 3) float32 of some views (K,) in the chunk's world."""
        pose = self.camera_to_world[views].astype(np.float32)
        local = np.asarray(self.points[views], np.float32) * np.float32(self.depth)
        return np.einsum("vij,vhwj->vhwi", pose[:, :3, :3], local) + pose[:, None, None, :3, 3]

    def valid(self, views: np.ndarray) -> np.ndarray:
        """Which points (K, h, w) of some views the backend stands by."""
        return self.confidence[views] >= 0

    def views_of(self, rows: np.ndarray) -> np.ndarray:
        """The views (K,) of some rows of the tour's frames; those without a view are passed over."""
        place = np.searchsorted(self.rows, rows)
        there = (place < len(self.rows)) & (self.rows[np.minimum(place, len(self.rows) - 1)] == rows)
        return place[there]


def pack(prediction: Prediction, rows: np.ndarray) -> Chunk:
    """A prediction at half precision.

    Args:
        prediction: of V views.
        rows: (V,) rows of the tour's frames that the views are of; rising.
    """
    shape = prediction.points.shape
    points = np.empty(shape, np.float16)
    confidence = prediction.confidence.astype(np.float16)
    confidence[~prediction.valid] = -1
    depth = _median_depth(prediction)
    for view, pose in enumerate(prediction.camera_to_world.astype(np.float32)):
        with np.errstate(invalid="ignore", over="ignore"):  # what is not valid may be anything
            local = (prediction.points[view] - pose[:3, 3]) @ pose[:3, :3] / np.float32(depth)
        inside = (np.abs(local) < FAR).all(axis=-1)  # neither infinite nor beyond half precision
        confidence[view][~inside] = -1
        points[view] = np.where(inside[..., None], local, 0)
    return Chunk(
        rows,
        points,
        confidence,
        prediction.color,
        prediction.camera_to_world,
        prediction.intrinsics,
        depth,
        prediction.is_metric,
        prediction.min_confidence,
        prediction.edge,
    )


def _median_depth(prediction: Prediction) -> float:
    depths = []
    for view, pose in enumerate(prediction.camera_to_world):
        good = prediction.valid[view] & np.isfinite(prediction.points[view]).all(axis=-1)
        depths.append(depth_of(prediction.points[view][good], pose)[:: max(1, int(good.sum()) // 1000)])
    depth = np.concatenate(depths)
    depth = depth[np.isfinite(depth) & (depth > 0)]
    return float(np.median(depth)) if len(depth) else 1.0


def save(chunk: Chunk, folder: Path) -> None:
    """Write a chunk to a folder, whole or not at all.

    Raises:
        OSError: the disk is full or not writable.
    """
    with replacing_folder(folder, folder.parent) as partial:
        for name in GRIDS:
            np.save(partial / f"{name}.npy", getattr(chunk, name))
        facts = {name: value for name, value in vars(chunk).items() if name not in GRIDS}
        np.savez(partial / "facts.npz", **facts)


def load(folder: Path) -> Chunk | None:
    """The chunk of a folder, its grids left on disk until they are read; None where there is none."""
    try:
        facts = dict(np.load(folder / "facts.npz"))
        grids = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in GRIDS}
    except (OSError, ValueError):
        return None
    single = {name: facts.pop(name).item() for name in ("depth", "is_metric", "min_confidence", "edge")}
    return Chunk(**facts, **single, **grids)

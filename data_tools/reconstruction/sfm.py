"""The backend without weights and GPU: structure from motion, plane-sweep depth, geometric consistency."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from data_tools.reconstruction.base import Frames, Prediction, ReconstructSettings, take_options
from data_tools.reconstruction.depth_fusion import choose_sources, depth_range, fuse_depths, plane_count
from data_tools.reconstruction.depth_sweep import DepthMap, View, estimate_depth
from data_tools.reconstruction.planar_fill import confirm_filled, fill_planes
from data_tools.reconstruction.sfm_poses import PosedFrames, PoseSettings, find_poses
from data_tools.stages.record import StageError

OPTIONS = {
    "max_features": 4096,
    "overlap": 8,
    "depth_side": 320,
    "max_views": 200,
    "sources": 6,
    "min_planes": 48,
    "max_planes": 128,
    "min_consistent": 2,
    "planar_fill": 1,
    "threads": 2,
}
LEAST_TEXTURE = 0.05
CORE_SECONDS = 1.5  # CPU-seconds a frame, whole chain
FILLED_CONFIDENCE = 0.15


class SfmReconstructor:
    """pycolmap poses and dense depth on the CPU. Options: see `OPTIONS` and docs/sfm.md.

    Args:
        settings: of the stage; ``deterministic`` makes COLMAP run in one thread.

    Raises:
        StageError: an unknown option, or opencv is missing.
    """

    name = "sfm"
    max_frames: int | None = 200
    chunk_frames: int | None = None

    def __init__(self, settings: ReconstructSettings) -> None:
        try:
            import cv2  # noqa: F401
        except ImportError as error:
            message = "the sfm backend needs opencv: pip install opencv-python-headless"
            raise StageError(message, permanent=False) from error
        self.options = take_options(settings, OPTIONS)
        self.deterministic = settings.deterministic

    @staticmethod
    def frame_size(settings: ReconstructSettings, width: int, height: int) -> tuple[int, int]:
        """See `Reconstructor`; never larger than the source."""
        scale = min(1.0, settings.max_side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    def reconstruct(self, frames: Frames, seed: int) -> Prediction:
        """Poses, then depth of every posed view.

        Raises:
            StageError: too few frames, no parallax, or no depth that two views agree on; one line.
        """
        threads = min(int(self.options["threads"]), os.cpu_count() or 1)
        settings = PoseSettings(
            max_features=int(self.options["max_features"]),
            overlap=int(self.options["overlap"]),
            threads=1 if self.deterministic else threads,
        )
        return self.densify(frames, find_poses(frames, settings, seed), threads)

    def densify(self, frames: Frames, posed: PosedFrames, threads: int = 1) -> Prediction:
        """Depth of posed frames.

        Raises:
            StageError: no view has neighbours under a useful angle, or nothing is consistent.
        """
        views, colors = make_views(frames, posed, int(self.options["depth_side"]))
        sources = choose_sources(posed, int(self.options["sources"]))
        if not any(sources):
            raise StageError("no parallax: no two frames see the same points from places far enough apart")
        maps = self._depths(views, sources, posed, threads)
        keep = _some_depth([row for row, found in enumerate(maps) if (found.depth > 0).any()], len(views))
        depth, confidence = self._fuse(views, colors, maps, sources, threads)
        prediction = self._predict(posed, views, colors, keep, depth[keep], confidence[keep])
        if not prediction.valid.any():
            raise StageError("no depth that two views agree on: blurred frames, moving things or too little texture")
        return prediction

    def _fuse(
        self, views: list[View], colors: np.ndarray, maps: list[DepthMap], sources: list[list[int]], threads: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Depth (V, h, w), 0 where views do not agree, and confidence in (0, 1] where it is; flat patches filled."""
        least, rows = int(self.options["min_consistent"]), range(len(views))
        with ThreadPoolExecutor(threads) as pool:
            fused = list(pool.map(lambda row: fuse_depths(views, maps, sources, row), rows))
            depth, count = (np.stack(part) for part in zip(*fused, strict=True))
            score = np.stack([one.score for one in maps])
            sure = (count >= least) & (score > LEAST_TEXTURE) & (depth > 0)
            depth = np.where(sure, depth, np.float32(0))
            confidence = np.where(sure, np.clip(count / 4, 0, 1) * (0.3 + 0.7 * score), 0).astype(np.float32)
            if not self.options["planar_fill"]:
                return depth, confidence
            filled = pool.map(lambda row: fill_planes(colors[row], depth[row], sure[row]), rows)
            whole = [DepthMap(depth[row] + more, score[row]) for row, more in zip(rows, filled, strict=True)]
            guesses = pool.map(lambda row: confirm_filled(views, whole, sure, sources, row, max(least, 2)), rows)
            for row, (guess, good) in zip(rows, guesses, strict=True):
                depth[row][good], confidence[row][good] = guess[good], FILLED_CONFIDENCE
        return depth, confidence

    def _depths(self, views: list[View], sources: list[list[int]], posed: PosedFrames, threads: int) -> list[DepthMap]:
        from tqdm import tqdm

        least, most = int(self.options["min_planes"]), int(self.options["max_planes"])
        spread = set(np.linspace(0, len(views) - 1, min(len(views), int(self.options["max_views"]))).astype(int))

        def one(row: int) -> DepthMap:
            limits = depth_range(posed, row)
            if not sources[row] or limits is None or row not in spread:
                empty = np.zeros(views[row].gray.shape, np.float32)
                return DepthMap(empty, empty)
            near_by = [views[other] for other in sources[row]]
            planes = plane_count(views[row], near_by, *limits, least, most)
            return estimate_depth(views[row], near_by, *limits, planes)

        with ThreadPoolExecutor(threads) as pool:
            rows = pool.map(one, range(len(views)))
            return list(tqdm(rows, total=len(views), desc="depth", leave=False, disable=None))

    def _predict(
        self,
        posed: PosedFrames,
        views: list[View],
        colors: np.ndarray,
        keep: list[int],
        depth: np.ndarray,
        confidence: np.ndarray,
    ) -> Prediction:
        valid = depth > 0
        poses = posed.camera_to_world[keep]
        height, width = depth.shape[1:]
        y, x = np.mgrid[:height, :width].astype(np.float64)
        matrix = views[0].matrix
        rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(matrix).T
        points = np.empty((*depth.shape, 3), np.float32)
        for row, pose in enumerate(poses):
            points[row] = (rays * depth[row][..., None]) @ pose[:3, :3].T + pose[:3, 3]
        guessed = valid & (confidence == np.float32(FILLED_CONFIDENCE))
        figures = {
            **posed.figures,
            "depth_views": len(keep),
            "consistent_share": round(float((valid & ~guessed).mean()), 4),
            "filled_share": round(float(guessed.mean()), 4),
        }
        intrinsics = np.tile(matrix, (len(keep), 1, 1))
        return Prediction(
            points, valid, confidence, colors[keep], poses, intrinsics, posed.view[keep],
            notes=list(posed.notes), figures=figures,
        )  # fmt: skip


def make_views(frames: Frames, posed: PosedFrames, side: int) -> tuple[list[View], np.ndarray]:
    """Frames without distortion at the sweep's size: views, and their colours (V, h, w, 3) uint8."""
    import cv2

    full_h, full_w = frames.images.shape[1:3]
    scale = min(1.0, side / max(full_h, full_w))
    height, width = max(round(full_h * scale), 8), max(round(full_w * scale), 8)
    stretch = np.array([width / full_w, height / full_h])
    matrix = posed.matrix.copy()
    matrix[:2] *= stretch[:, None]
    matrix[:2, 2] += 0.5 * stretch - 0.5
    maps = cv2.initUndistortRectifyMap(
        posed.matrix, posed.distortion, None, posed.matrix, (full_w, full_h), cv2.CV_32FC1
    )
    views, colors = [], []
    for row, pose in zip(posed.view, posed.camera_to_world, strict=True):
        flat = cv2.remap(frames.images[row], *maps, cv2.INTER_LINEAR)
        small = cv2.resize(flat, (width, height), interpolation=cv2.INTER_AREA) if scale < 1 else flat
        views.append(View(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), matrix, np.linalg.inv(pose)))
        colors.append(small)
    return views, np.stack(colors)


def _some_depth(rows: list[int], total: int) -> list[int]:
    """The rows with a depth map, if there are any."""
    if not rows:
        raise StageError(f"none of {total} posed frames has neighbours under a useful angle: move the camera sideways")
    return rows

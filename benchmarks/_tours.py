"""A tour through the filmed flat, and a backend that predicts it from the truth, with errors that are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from data_tools.reconstruction.alignment import Similarity
from data_tools.reconstruction.base import Frames, Prediction, ReconstructSettings
from data_tools.reconstruction.geometry import unproject
from data_tools.synthetic.walkthrough.film import Studio, WalkSettings

FARTHEST = 50.0  # metres: beyond it a ray slipped between two faces
UNKNOWN_SCALE = 3.0  # a pass is between a third and three times as large as the truth


@dataclass(frozen=True)
class Tour:
    """A walk: frames, and the truth of each: depth (F, h, w) float16 metres, poses (F, 4, 4), intrinsics (3, 3)."""

    frames: Frames
    depth: np.ndarray
    camera_to_world: np.ndarray
    intrinsics: np.ndarray


@dataclass(frozen=True)
class Errors:
    """What is wrong with a prediction.

    Attributes:
        noise: of each point's depth, relative (1 sigma).
        outliers: share of the points whose depth is wrong altogether.
        pose: metres of each camera's centre (1 sigma); the turn is as many radians times `TURN`.
        bend: metres that the walk of errors along a pass's frames makes in a hundred frames (1 sigma), with its points.
    """

    noise: float = 0.003
    outliers: float = 0.05
    pose: float = 0.003
    bend: float = 0.01


TURN = 0.1


def film(seconds: float, fps: float, size: tuple[int, int], seed: int = 0) -> Tour:
    """Walk through the flat of a seed: a round of a room every 30 seconds, back at the start after an odd number."""
    settings = WalkSettings(seed=seed, seconds=seconds, fps=fps, width=size[0], height=size[1])
    studio = Studio(settings)
    poses = studio.walk.camera_to_world
    depth = np.empty((len(poses), size[1], size[0]), np.float16)
    images = np.empty((*depth.shape, 3), np.uint8)
    for number, pose in enumerate(poses):
        shot = studio.renderer.render(pose)
        images[number] = np.clip(shot.color, 0, 255)
        depth[number] = np.where(shot.depth < FARTHEST, shot.depth, 0)
    frames = Frames(images, np.arange(len(poses)), studio.walk.time)
    return Tour(frames, depth, poses, studio.intrinsics)


class TourReconstructor:
    """A backend that knows a tour: every pass in a random similarity of its own, with `Errors`."""

    name, max_frames, chunk_frames = "tour", None, 300

    def __init__(self, tour: Tour, errors: Errors | None = None, seed: int = 0) -> None:
        self.tour, self.errors, self.seed, self.passes = tour, errors or Errors(), seed, 0

    @staticmethod
    def frame_size(settings: ReconstructSettings, width: int, height: int) -> tuple[int, int]:
        """See `Reconstructor`."""
        return width, height

    def reconstruct(self, frames: Frames, seed: int) -> Prediction:
        """See `Reconstructor`; the errors depend on the frames and the seed alone."""
        rng = np.random.default_rng([self.seed, seed, *frames.index[[0, -1]], len(frames)])
        self.passes += 1
        errors, count = self.errors, len(frames)
        depth = self.tour.depth[frames.index].astype(np.float64)
        depth *= 1 + errors.noise * rng.standard_normal(depth.shape)
        wrong = rng.random(depth.shape) < errors.outliers
        depth[wrong] *= rng.uniform(0.3, 2.5, int(wrong.sum()))
        poses = self.tour.camera_to_world[frames.index].copy()
        poses = _shaken(poses, _walk(errors.bend, frames.index, rng) + errors.pose * rng.standard_normal((count, 6)))
        turn = Rotation.random(random_state=int(rng.integers(1 << 31))).as_matrix()
        place = Similarity(float(UNKNOWN_SCALE ** rng.uniform(-1, 1)), turn, rng.normal(0, 5, 3))
        poses = place.poses(poses)
        camera = np.tile(self.tour.intrinsics, (count, 1, 1))
        points = unproject((depth * place.scale).astype(np.float32), camera, poses)
        confidence = rng.uniform(0.2, 1, depth.shape).astype(np.float32)
        return Prediction(
            points, self.tour.depth[frames.index] > 0, confidence, frames.images, poses, camera, np.arange(count)
        )


def _walk(bend: float, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(V, 6) a random walk over the frames; a leap from one visit to another counts as ten frames."""
    steps = np.minimum(np.abs(np.diff(index, prepend=index[0])), 10)
    return np.cumsum(bend * np.sqrt(steps / 100)[:, None] * rng.standard_normal((len(index), 6)), axis=0)


def _shaken(poses: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Poses with errors (V, 6): metres, and turns about the camera of as many times `TURN` radians."""
    poses[:, :3, 3] += error[:, :3]
    poses[:, :3, :3] = poses[:, :3, :3] @ Rotation.from_rotvec(TURN * error[:, 3:]).as_matrix()
    return poses

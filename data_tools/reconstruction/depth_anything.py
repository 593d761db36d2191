"""Depth Anything 3 (PyPI ``depth-anything-3``), all frames in one call.

The package gives depth, a confidence above 1, world-to-camera extrinsics and intrinsics; points are the unprojected
depth. The licence depends on the weights: SMALL, BASE and METRIC are Apache-2.0, the larger ones are CC BY-NC 4.0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from data_tools.clouds.predictions import share_ranks
from data_tools.reconstruction.base import Frames, Prediction, ReconstructSettings, take_options
from data_tools.reconstruction.geometry import invert_poses, patch_grid, resize_images, rigid_poses, unproject
from data_tools.reconstruction.torch_tools import import_package, load_model, pick_device, repeatable
from data_tools.stages.record import StageError

HOW = "pip install depth-anything-3"
HUB = "depth-anything/DA3-BASE"
OPTIONS = {"process_res": 504, "ray_pose": False}
DROPPED = 0.4  # share of the pixels, the least sure ones; also the package's own export


class DepthAnythingReconstructor:
    """Adapter of Depth Anything 3.

    Args:
        settings: options ``process_res`` (longer side in pixels, 504) and ``ray_pose`` (poses from the ray head).
        model: a ``DepthAnything3`` to use instead of loading one.

    Raises:
        StageError: the package or the weights are not there; the line tells how to get them.
    """

    name = "depth_anything"
    max_frames = None
    chunk_frames = 300

    def __init__(self, settings: ReconstructSettings, model: Any = None) -> None:
        self.settings = settings
        self.options = take_options(settings, OPTIONS)
        self.device = pick_device(settings)
        if model is None:
            found = import_package("depth_anything_3.api", "DEPTH_ANYTHING_ROOT", HOW).DepthAnything3
            model = load_model(found, settings.weights, HUB, self.device)
        self.model = model

    @staticmethod
    def frame_size(settings: ReconstructSettings, width: int, height: int) -> tuple[int, int]:
        """See `Reconstructor`: what the package would make of a frame, so that it need not."""
        rows, columns = patch_grid(height, width, longest=int(take_options(settings, OPTIONS)["process_res"]))
        return columns, rows

    def reconstruct(self, frames: Frames, seed: int) -> Prediction:
        """See `Reconstructor`; ``confidence`` is the share of the scene's pixels that are not surer.

        Raises:
            StageError: weights that give no poses (the MONO and METRIC ones see one image at a time).
        """
        with repeatable(seed, self.settings.deterministic):
            out = self.model.inference(
                list(frames.images),
                process_res=int(self.options["process_res"]),
                use_ray_pose=bool(self.options["ray_pose"]),
            )
        if out.extrinsics is None or out.intrinsics is None:
            raise StageError("these Depth Anything weights give no poses; use DA3-SMALL, -BASE, -LARGE or a NESTED one")
        depth = np.asarray(out.depth, dtype=np.float32)
        camera = np.asarray(out.intrinsics, dtype=np.float64)
        poses = invert_poses(rigid_poses(np.asarray(out.extrinsics)))
        points = unproject(depth, camera, poses)
        valid = np.isfinite(points).all(axis=-1) & (depth > 1e-8)
        notes = ["Depth Anything sets its own precision"] if self.settings.dtype != "auto" else []
        if frames.intrinsics is not None:
            notes.append("Depth Anything takes known intrinsics only with known poses: not used")
        sky = getattr(out, "sky", None)
        if sky is not None:
            valid &= ~np.asarray(sky, dtype=bool)
        conf = getattr(out, "conf", None)
        confidence = np.ones(depth.shape, np.float32) if conf is None else share_ranks(np.asarray(conf, np.float32))
        return Prediction(
            points,
            valid,
            confidence,
            resize_images(frames.images, *depth.shape[1:]),
            poses,
            camera,
            np.arange(len(frames)),
            is_metric=bool(getattr(out, "is_metric", 0)),
            notes=notes,
            min_confidence=DROPPED if conf is not None else 0.0,
        )

"""VGGT (https://github.com/facebookresearch/vggt), all frames in one forward pass.

The network gives depth with a confidence above 1, and an encoding of world-to-camera poses and fields of view. Points
are the unprojected depth, which its authors found better than the point head. The weights ``facebook/VGGT-1B`` are for
non-commercial use; ``facebook/VGGT-1B-Commercial`` are given out on request.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from data_tools.clouds.predictions import VGGT_DROPPED, share_ranks
from data_tools.reconstruction.base import Frames, Prediction, ReconstructSettings, take_options
from data_tools.reconstruction.geometry import (
    invert_poses,
    patch_grid,
    rigid_poses,
    unproject,
)
from data_tools.reconstruction.torch_tools import (
    autocast,
    image_batch,
    import_package,
    load_model,
    pick_device,
    pick_dtype,
    repeatable,
    to_numpy,
)

HOW = (
    "git clone https://github.com/facebookresearch/vggt, then export VGGT_ROOT=/path/to/vggt and "
    "pip install torchvision huggingface_hub safetensors einops"
)
HUB = "facebook/VGGT-1B"
OPTIONS = {"longest": 518}


class VggtReconstructor:
    """Adapter of VGGT.

    Args:
        settings: option ``longest``, pixels of the longer side (518, as trained).
        model: a network to use instead of loading one.

    Raises:
        StageError: the repository or the weights are not there; the line tells how to get them.
    """

    name = "vggt"
    max_frames = None
    chunk_frames = 300

    def __init__(self, settings: ReconstructSettings, model: Any = None) -> None:
        self.settings = settings
        take_options(settings, OPTIONS)
        self.device = pick_device(settings)
        self.dtype = pick_dtype(settings, self.device)
        if model is None:
            found = import_package("vggt.models.vggt", "VGGT_ROOT", HOW).VGGT
            model = load_model(found, settings.weights, HUB, self.device)
            model.point_head = model.track_head = None  # not used here; the point head costs memory
        self.model = model

    @staticmethod
    def frame_size(settings: ReconstructSettings, width: int, height: int) -> tuple[int, int]:
        """See `Reconstructor`."""
        rows, columns = patch_grid(height, width, longest=int(take_options(settings, OPTIONS)["longest"]))
        return columns, rows

    def reconstruct(self, frames: Frames, seed: int) -> Prediction:
        """See `Reconstructor`; ``confidence`` is the share of the scene's pixels that are not surer."""
        images = frames.images
        with repeatable(seed, self.settings.deterministic), autocast(self.device, self.dtype):
            out = self.model(image_batch(images, self.device))
        depth = to_numpy(out["depth"][0])[..., 0]
        world_to_camera, camera = decode_poses(to_numpy(out["pose_enc"][0], np.float64), *images.shape[1:3])
        poses = invert_poses(rigid_poses(world_to_camera))
        points = unproject(depth, camera, poses)
        notes = [] if frames.intrinsics is None else ["VGGT takes no known intrinsics: not used"]
        return Prediction(
            points,
            np.isfinite(points).all(axis=-1) & (depth > 1e-8),
            share_ranks(to_numpy(out["depth_conf"][0])),
            images,
            poses,
            camera,
            np.arange(len(frames)),
            notes=notes,
            figures={"dtype": str(self.dtype).removeprefix("torch.")},
            min_confidence=VGGT_DROPPED,
        )


def decode_poses(encoding: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """VGGT's camera code ``absT_quaR_FoV`` to matrices.

    Args:
        encoding: (V, 9): translation, quaternion (x, y, z, w) of world-to-camera, vertical and horizontal field of
            view in radians.
        height: of the image.
        width: of the image.

    Returns:
        world-to-camera (V, 4, 4), intrinsics (V, 3, 3) with the principal point at (width / 2, height / 2), which is
        where the network was taught to see it on whole-number pixels.
    """
    from scipy.spatial.transform import Rotation

    views = len(encoding)
    pose = np.tile(np.eye(4), (views, 1, 1))
    pose[:, :3, :3] = Rotation.from_quat(encoding[:, 3:7]).as_matrix()
    pose[:, :3, 3] = encoding[:, :3]
    camera = np.tile(np.eye(3), (views, 1, 1))
    with np.errstate(divide="ignore"):  # no field of view, as untrained weights give: an infinite focal length
        camera[:, 0, 0] = width / 2 / np.tan(encoding[:, 8] / 2)
        camera[:, 1, 1] = height / 2 / np.tan(encoding[:, 7] / 2)
    camera[:, 0, 2], camera[:, 1, 2] = width / 2, height / 2
    return pose, camera

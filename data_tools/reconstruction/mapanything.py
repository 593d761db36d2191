"""MapAnything (https://github.com/facebookresearch/map-anything), and through it the models that it wraps.

Every model of the package gives the same per view: points in camera axes and in the world, a camera-to-world
translation and quaternion (x, y, z, w; OpenCV axes), a confidence. The code and the weights
``facebook/map-anything-apache`` are Apache-2.0; ``facebook/map-anything`` is CC BY-NC 4.0, and wrapped models keep
their own licences. Read at f7ebafb of March 2026; never run with its weights here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_tools.clouds.predictions import share_ranks
from data_tools.reconstruction.base import Frames, Prediction, ReconstructSettings, take_options
from data_tools.reconstruction.geometry import fit_intrinsics, patch_grid, rigid_poses
from data_tools.reconstruction.torch_tools import (
    autocast,
    image_batch,
    import_package,
    import_torch,
    load_model,
    pick_device,
    pick_dtype,
    repeatable,
    to_numpy,
)
from data_tools.stages.record import StageError

HOW = (
    "git clone https://github.com/facebookresearch/map-anything, then pip install -e map-anything "
    "(wrapped models: pip install -e 'map-anything[pi3]' and so on)"
)
HUB = "facebook/map-anything-apache"
#: model -> (how its images are normalised, whether it is metric)
MODELS = {
    "mapanything": ("dinov2", True),
    "vggt": ("identity", False),
    "vggt_commercial": ("identity", False),
    "pi3": ("identity", False),
    "pi3x": ("identity", True),
    "da3": ("dinov2", False),
    "da3_nested": ("dinov2", True),
}
OPTIONS = {"model": "mapanything", "longest": 518}
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet: "dinov2"
DROPPED = 0.1  # share of the pixels, the least sure ones, as in the package's ``infer``


class MapAnythingReconstructor:
    """Adapter of MapAnything.

    Args:
        settings: options ``model`` (see `MODELS`) and ``longest``, pixels of the longer side (518, as trained).
        model: a network to use instead of loading one.

    Raises:
        StageError: the package or the weights are not there; the line tells how to get them.
    """

    name = "mapanything"
    max_frames = None
    chunk_frames = 300

    def __init__(self, settings: ReconstructSettings, model: Any = None) -> None:
        self.kind = take_options(settings, OPTIONS)["model"]
        if self.kind not in MODELS:
            raise StageError(f"mapanything model {self.kind!r} is unknown: choose from {', '.join(MODELS)}")
        self.settings, self.device = settings, pick_device(settings)
        self.dtype = pick_dtype(settings, self.device)
        self.model = self._load() if model is None else model

    def _load(self) -> Any:
        package = import_package("mapanything.models", "MAPANYTHING_ROOT", HOW)
        if self.kind != "mapanything":
            if self.settings.weights:
                raise StageError(f"mapanything loads the weights of {self.kind} itself; leave --weights out")
            try:
                return package.init_model_from_config(self.kind, device=str(self.device)).eval()
            except Exception as error:  # the hub's, Hydra's and the wrapped packages' errors share no base class
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
                raise StageError(f"mapanything: {self.kind} could not be loaded ({reason}); {HOW}", False) from None
        if Path(self.settings.weights).is_file():
            raise StageError(f"{self.settings.weights}: give the folder with its config.json, as the hub lays it out")
        return load_model(package.MapAnything, self.settings.weights, HUB, self.device)

    @staticmethod
    def frame_size(settings: ReconstructSettings, width: int, height: int) -> tuple[int, int]:
        """See `Reconstructor`."""
        rows, columns = patch_grid(height, width, longest=int(take_options(settings, OPTIONS)["longest"]))
        return columns, rows

    def reconstruct(self, frames: Frames, seed: int) -> Prediction:
        """See `Reconstructor`; ``confidence`` is the share of the scene's pixels that are not surer."""
        from scipy.spatial.transform import Rotation

        torch = import_torch()
        norm, is_metric = MODELS[self.kind]
        takes_camera = self.kind == "mapanything"
        with repeatable(seed, self.settings.deterministic), autocast(self.device, self.dtype):
            views = self._views(frames, norm, frames.intrinsics if takes_camera else None)
            if takes_camera:
                half = "fp16" if self.dtype == torch.float16 else "bf16"
                out = self.model.infer(views, use_amp=self.dtype != torch.float32, amp_dtype=half, mask_edges=False)
            else:
                out = self.model(views)
        poses = np.tile(np.eye(4), (len(frames), 1, 1))
        poses[:, :3, :3] = Rotation.from_quat(_stacked(out, "cam_quats", np.float64)).as_matrix()
        poses[:, :3, 3] = _stacked(out, "cam_trans", np.float64)
        local, points = _stacked(out, "pts3d_cam"), _stacked(out, "pts3d")
        valid = np.isfinite(points).all(axis=-1) & (local[..., 2] > 1e-8)
        if "mask" in out[0]:
            valid &= _stacked(out, "mask").reshape(valid.shape) > 0.5
        confidence = share_ranks(_stacked(out, "conf").reshape(valid.shape))
        notes = []
        if frames.intrinsics is not None and not takes_camera:
            notes.append(f"{self.kind} takes no known intrinsics by way of mapanything: not used")
        return Prediction(
            points,
            valid,
            confidence,
            frames.images,
            rigid_poses(poses),
            fit_intrinsics(local, valid & (confidence > DROPPED)),
            np.arange(len(frames)),
            is_metric=is_metric,
            notes=notes,
            figures={"model": self.kind, "dtype": str(self.dtype).removeprefix("torch.")},
            min_confidence=DROPPED,
            edge="normal",
        )

    def _views(self, frames: Frames, norm: str, camera: np.ndarray | None) -> list[dict[str, Any]]:
        """A dictionary a view, as the package takes them: a batch of one, normalised."""
        torch = import_torch()
        images = image_batch(frames.images, self.device)
        if norm == "dinov2":
            mean, spread = (torch.tensor(value, device=self.device)[:, None, None] for value in (MEAN, SPREAD))
            images = (images - mean) / spread
        known = {} if camera is None else {"intrinsics": torch.from_numpy(camera).float().to(self.device)[None]}
        return [{"img": image[None], "data_norm_type": [norm], **known} for image in images]


def _stacked(out: list[dict[str, Any]], name: str, dtype: type = np.float32) -> np.ndarray:
    """One output of all views (V, ...), without the batch of one."""
    return np.stack([to_numpy(view[name], dtype)[0] for view in out])

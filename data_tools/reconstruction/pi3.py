"""pi3: Pi3 and Pi3X (https://github.com/yyfz/Pi3), all frames in one forward pass.

The network gives points in camera axes, confidence logits, and camera-to-world poses. Its weights are CC BY-NC 4.0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from data_tools.clouds.predictions import PI3_CONFIDENCE
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
    "git clone https://github.com/yyfz/Pi3, then export PI3_ROOT=/path/to/Pi3 and "
    "pip install torchvision huggingface_hub safetensors einops plyfile opencv-python-headless"
)
MODELS = {"pi3": ("pi3.models.pi3", "Pi3", "yyfz233/Pi3"), "pi3x": ("pi3.models.pi3x", "Pi3X", "yyfz233/Pi3X")}
OPTIONS = {"model": "pi3", "pixels": 255_000}


class Pi3Reconstructor:
    """Adapter of pi3.

    Args:
        settings: options ``model`` ("pi3", or "pi3x": smoother, about metric) and ``pixels`` a frame (255,000).
        model: a network to use instead of loading one.

    Raises:
        StageError: the repository or the weights are not there; the line tells how to get them.
    """

    name = "pi3"
    max_frames = None
    chunk_frames = 300

    def __init__(self, settings: ReconstructSettings, model: Any = None) -> None:
        options = take_options(settings, OPTIONS)
        if options["model"] not in MODELS:
            raise StageError(f"pi3 model {options['model']!r} is unknown: choose from {', '.join(MODELS)}")
        self.settings, self.kind = settings, options["model"]
        self.device = pick_device(settings)
        self.dtype = pick_dtype(settings, self.device)
        if model is None:
            module, attribute, hub = MODELS[self.kind]
            found = getattr(import_package(module, "PI3_ROOT", HOW), attribute)
            model = load_model(found, settings.weights, hub, self.device)
            if self.kind == "pi3x" and settings.intrinsics is None:
                model.disable_multimodal()  # branches for what is known of the cameras: their memory is freed
        self.model = model

    @staticmethod
    def frame_size(settings: ReconstructSettings, width: int, height: int) -> tuple[int, int]:
        """See `Reconstructor`."""
        rows, columns = patch_grid(height, width, pixels=int(take_options(settings, OPTIONS)["pixels"]))
        return columns, rows

    def reconstruct(self, frames: Frames, seed: int) -> Prediction:
        """See `Reconstructor`; ``confidence`` is the sigmoid of the network's logits."""
        images, known = frames.images, frames.intrinsics
        out = self._forward(images, known, seed)
        local, points = to_numpy(out["local_points"][0]), to_numpy(out["points"][0])
        logit = to_numpy(out["conf"][0])[..., 0]
        poses = rigid_poses(to_numpy(out["camera_poses"][0], np.float64))
        confidence = 1.0 / (1.0 + np.exp(-np.clip(logit, -60, 60)))
        valid = np.isfinite(points).all(axis=-1) & (local[..., 2] > 0)
        camera = fit_intrinsics(local, valid & (confidence > PI3_CONFIDENCE))
        notes = []
        if known is not None and self.kind == "pi3":
            notes.append("Pi3 takes no known intrinsics: not used (Pi3X does: --option model=pi3x)")
        figures: dict[str, Any] = {"model": self.kind, "dtype": str(self.dtype).removeprefix("torch.")}
        if "metric" in out:
            figures["metric_factor"] = round(float(to_numpy(out["metric"]).reshape(-1)[0]), 6)
        return Prediction(
            points,
            valid,
            confidence.astype(np.float32),
            images,
            poses,
            camera,
            np.arange(len(frames)),
            is_metric=self.kind == "pi3x",
            notes=notes,
            figures=figures,
            min_confidence=PI3_CONFIDENCE,
            edge="normal" if self.kind == "pi3x" else "depth",  # as their authors' scripts have it
        )

    def _forward(self, images: np.ndarray, known: np.ndarray | None, seed: int) -> dict[str, Any]:
        torch = import_torch()
        batch = image_batch(images, self.device)[None]
        extra: dict[str, Any] = {}
        if self.kind == "pi3x" and known is not None:
            shifted = known + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # pi3's pixel centres are at 0.5
            extra["intrinsics"] = torch.from_numpy(np.tile(shifted, (1, len(images), 1, 1))).float().to(self.device)
        elif self.kind == "pi3x":
            extra["with_prior"] = False
        with repeatable(seed, self.settings.deterministic), autocast(self.device, self.dtype):
            return self.model(batch, **extra)

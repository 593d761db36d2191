"""Features of a running model's backbone as a hook may compute them: eval mode, no gradients, no trace left behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lam3c_plugin.errors import ConfigError
from lam3c_plugin.hooks.common import bare_model
from lam3c_plugin.host import Point
from lam3c_plugin.ops.device import AMP_DTYPES

ALL_LEVELS = 64  # more pooling stages than any encoder has


def backbone_of(model: nn.Module, part: str = "teacher") -> nn.Module:
    """The backbone of a pre-training model's teacher or student, or of any other model its only one.

    Raises:
        ConfigError: the model has none.
    """
    holder = getattr(model, part, None)
    if isinstance(holder, nn.ModuleDict) and "backbone" in holder:
        return holder["backbone"]
    if isinstance(getattr(model, "backbone", None), nn.Module):
        return model.backbone
    raise ConfigError(f"{type(model).__name__} has neither {part}.backbone nor a backbone to take features from")


def frozen_features(trainer: Any, scene: Mapping[str, Any], part: str = "teacher", level: int = ALL_LEVELS) -> Tensor:
    """`scene_features` of a trainer's model, ``part`` "teacher" or "student", in eval mode and under the run's AMP."""
    cfg, backbone = trainer.cfg, backbone_of(bare_model(trainer), part)
    device = next(backbone.parameters()).device
    dtype = AMP_DTYPES.get(str(getattr(cfg, "amp_dtype", "float16")), torch.float16)
    enabled = bool(getattr(cfg, "enable_amp", False))
    with eval_mode(backbone), torch.autocast(device.type, dtype=dtype, enabled=enabled):
        return scene_features(backbone, scene, level)


@torch.no_grad()  # and not inference_mode: what a module may cache must stay usable in training
def scene_features(backbone: nn.Module, scene: Mapping[str, Any], level: int = ALL_LEVELS) -> Tensor:
    """(N, C) float32 features of every point of a scene (see ``scenes.prepare_scene``).

    Args:
        backbone: of either engine.
        scene: ``coord`` (N, 3), ``feat`` (N, 9), ``grid_size``.
        level: pooling stages to up-cast by concatenation; below, each point has its cell's features.
    """
    device = next(backbone.parameters()).device
    batch: dict[str, Tensor] = {key: torch.from_numpy(np.asarray(scene[key])).to(device) for key in ("coord", "feat")}
    batch["offset"] = torch.tensor([len(scene["coord"])], device=device)
    batch["grid_size"] = torch.tensor(float(scene["grid_size"]), device=device)
    return point_features(backbone(Point(batch)), level).float()


def point_features(point: Any, level: int) -> Tensor:
    """Features of every input point: up-cast by concatenation for ``level`` stages, below by gathering."""
    while "pooling_parent" in point:
        parent, inverse = point["pooling_parent"], point["pooling_inverse"]
        gathered = point["feat"][inverse]
        parent["feat"] = torch.cat([parent["feat"], gathered], dim=-1) if level > 0 else gathered
        point, level = parent, level - 1
    return point["feat"]


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; afterwards every submodule is in the mode it was in."""
    modes = [(item, item.training) for item in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for item, training in modes:
            item.training = training

"""Checkpoints to test with: a small backbone with real numbers, and files in the shape of Base and Large."""

import json
from pathlib import Path

import torch

from lam3c_plugin.embedded.ptv3 import PointTransformerV3

DATA = Path(__file__).parents[1] / "data"
TINY = dict(
    in_channels=9,
    order=("z", "hilbert"),
    stride=(2, 2),
    enc_depths=(1, 1, 2),
    enc_channels=(16, 32, 48),
    enc_num_head=(1, 2, 3),
    enc_patch_size=(64, 64, 64),
    drop_path=0.1,
    mask_token=True,
    enc_mode=True,
)
TOTAL = {"base": 1232, "large": 1728}


def tiny_backbone(seed=0, **changes):
    torch.manual_seed(seed)
    model = PointTransformerV3(**{**TINY, **changes}).eval()
    with torch.no_grad():  # biases and norms too
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def tiny_state(seed=0, **changes):
    return {key: value.clone() for key, value in tiny_backbone(seed, **changes).state_dict().items()}


def tiny_head(channels=96, classes=20):
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(classes, channels, generator=generator)
    return {"seg_head.weight": weight, "seg_head.bias": torch.randn(classes, generator=generator)}


def shaped(file, start=1.0):
    """Tensors of the shapes in a key list; each is one number, so that the file is small."""
    shapes = json.loads((DATA / file).read_text())
    return {key: torch.tensor(start + i).expand(shape) for i, (key, shape) in enumerate(shapes.items())}


def training(student, teacher, prefix="module.", heads=None):
    """A training checkpoint with all that a host puts into it."""
    state = {f"{prefix}student.backbone.{key}": value for key, value in student.items()}
    state.update({f"{prefix}teacher.backbone.{key}": value for key, value in teacher.items()})
    state.update({prefix + key: value for key, value in (heads or {}).items()})
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
    extra = {"optimizer": optimizer, "scheduler": {"last_epoch": 7}, "scaler": None, "best_metric_value": 0.5}
    return {"epoch": 7, "state_dict": state, **extra}


def finetuned(backbone, head, prefix="module."):
    state = {f"{prefix}backbone.{key}": value for key, value in backbone.items()}
    return {"epoch": 3, "state_dict": {**state, **{prefix + key: value for key, value in head.items()}}}


def cloud(points=300, seed=1):
    generator = torch.Generator().manual_seed(seed)
    coord = torch.rand(points, 3, generator=generator)
    feat = torch.randn(points, 9, generator=generator)
    return {"coord": coord, "feat": feat, "offset": torch.tensor([points]), "grid_size": 0.05}


@torch.no_grad()
def features(config, state):
    model = PointTransformerV3(**config).eval()
    model.load_state_dict(state)
    return model(cloud()).feat


def same(first, second):
    return first.keys() == second.keys() and all(
        value.dtype == second[key].dtype and torch.equal(value, second[key]) for key, value in first.items()
    )

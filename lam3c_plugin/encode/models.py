"""Backbones to encode with: out of a checkpoint of any kind, or of a known size with random weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lam3c_plugin.checkpoints.architecture import empty_backbone
from lam3c_plugin.checkpoints.keys import compare
from lam3c_plugin.checkpoints.run_config import FEATURES
from lam3c_plugin.checkpoints.weights import Weights
from lam3c_plugin.embedded.ptv3 import PointTransformerV3
from lam3c_plugin.errors import CheckpointError, ConfigError, did_you_mean
from lam3c_plugin.recipes.ptv3 import ENCODERS
from lam3c_plugin.zoo import open_weights

_COMMON: dict[str, Any] = {"in_channels": 9, "order": ["z", "z-trans", "hilbert", "hilbert-trans"], "mask_token": True}


def find_weights(name_or_path: str | os.PathLike[str], student: bool = True) -> Weights:
    """The weights of a zoo name, a file or a folder.

    Raises:
        CheckpointError: not found, unreadable, of another architecture, or a head without a backbone.
    """
    weights = open_weights(name_or_path, part="student" if student else "teacher")
    weights.check_usable()
    return weights


def build_encoder(
    config: Mapping[str, Any], state: Mapping[str, Tensor] | None = None, drop_path: float = 0.0
) -> PointTransformerV3:
    """The encoder of a backbone's config, without a decoder and without shuffled curves; random without a state.

    Raises:
        CheckpointError: a tensor of the encoder is missing or of another shape.
    """
    arguments = {**config, "enc_mode": True, "shuffle_orders": False, "freeze_encoder": False, "drop_path": drop_path}
    arguments = {key: value for key, value in arguments.items() if not key.startswith("dec_")}
    if state is not None:
        wanted = empty_backbone(arguments)  # before memory is taken for what the config says
        report = compare({key: value for key, value in state.items() if key in wanted}, wanted)
        lacking = [key for key in report.missing if key != "embedding.mask_token"]  # read in training only
        if lacking or report.reshaped:
            raise CheckpointError(f"the encoder's weights do not fit its config: {report.summary()}")
    model = PointTransformerV3(**arguments)
    if state is not None:
        model.load_state_dict({key: state[key] for key in report.matched}, strict=False)
    return model


def random_backbone(size: str = "base", seed: int = 0, drop_path: float = 0.0) -> PointTransformerV3:
    """An encoder of a known size with random weights, the same for a seed; the global generator is left as it was.

    Raises:
        CheckpointError: an unknown size.
    """
    if size not in ENCODERS:
        raise CheckpointError(f"no size {size!r}{did_you_mean(size, ENCODERS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_encoder({**_COMMON, **ENCODERS[size]}, drop_path=drop_path)


def stage_widths(backbone: PointTransformerV3) -> list[int]:
    """Channels of each stage of an encoder, finest first."""
    widths = [backbone.embedding.stem.linear.out_features]
    for s in range(1, backbone.num_stages):
        widths.append(getattr(backbone.enc, f"enc{s}").down.proj.out_features)
    return widths


def feature_columns(backbone: PointTransformerV3, features: Sequence[str]) -> list[int]:
    """Columns of a prepared cloud's nine (coord, color, normal) that an encoder reads.

    Raises:
        CheckpointError: they are not as many as it has input channels.
    """
    columns = [3 * FEATURES.index(name) + axis for name in features for axis in range(3)]
    channels = backbone.embedding.stem.linear.in_features
    if len(columns) != channels:
        raise CheckpointError(
            f"the encoder reads {channels} input channels, where {' and '.join(features)} are {len(columns)}; "
            "it was trained on other inputs than these, and cannot be used here"
        )
    return columns


def pick_device(device: str | torch.device) -> torch.device:
    """The device meant.

    Raises:
        ConfigError: PyTorch does not know it, or has no such GPU.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device={device!r} is unknown: give auto, cpu, cuda or cuda:NUMBER") from error
    if chosen.type == "cuda" and (not torch.cuda.is_available() or (chosen.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(f"device={device!r}: PyTorch sees {torch.cuda.device_count()} CUDA devices; give auto or cpu")
    return chosen

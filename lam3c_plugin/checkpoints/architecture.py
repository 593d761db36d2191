"""What a backbone's tensors say about its architecture (PT-v3m2), and whether they are all there."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lam3c_plugin.checkpoints.keys import MASK_TOKEN, LoadReport, compare, is_encoder
from lam3c_plugin.embedded.ptv3 import PointTransformerV3
from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.recipes.ptv3 import DECODERS, ENCODERS

LEAST_SHARE = 0.95
_BLOCK = re.compile(r"(enc|dec)\.(?:enc|dec)(\d+)\.block(\d+)\.")
_ORDER = ("z", "z-trans", "hilbert", "hilbert-trans")
_PATCH = 1024
_COUNTS = {
    "stride",
    *(f"{part}_{what}" for part in ("enc", "dec") for what in ("depths", "channels", "num_head", "patch_size")),
}

#: attention heads of the known encoders and decoders; the tensors themselves do not tell
_KNOWN_HEADS: dict[tuple[int, ...], tuple[int, ...]] = {
    **{size["enc_channels"]: size["enc_num_head"] for size in ENCODERS.values()},
    **{size["dec_channels"]: size["dec_num_head"] for size in DECODERS.values()},
    (32, 64, 128, 256, 512): (2, 4, 8, 16, 32),  # the default of PT-v3m2
    (64, 64, 128, 256): (4, 4, 8, 16),  # its default decoder
}
_HEAD_CHANNELS = 16  # channels of a head in all of them


def guess_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of PT-v3m2 that fit a backbone's weights (keys without prefix).

    Depths, widths, input channels, MLP ratio, biases and mask token are read off the shapes. Heads, patch size, curves
    and strides leave no trace in a state dict: heads are those of the known sizes, else one for 16 channels
    (`heads_are_known`); the rest is what LAM3C and Sonata were trained with.

    Raises:
        CheckpointError: these are not the weights of a PT-v3m2 encoder.
    """
    try:
        stages = _stages(state, "enc")
        width = int(state["embedding.stem.linear.weight"].shape[0])
        block = f"enc.enc{min(stages)}.block0."
        hidden, channels = state[f"{block}mlp.0.fc1.weight"].shape
        enc_channels = [_width(state, "enc", s) for s in range(len(stages))]
        if sorted(stages) != list(range(len(stages))) or width != enc_channels[0]:
            raise KeyError("enc.enc0")
        config: dict[str, Any] = {
            "in_channels": int(state["embedding.stem.linear.weight"].shape[1]),
            "order": list(_ORDER),
            "stride": [2] * (len(stages) - 1),
            "enc_depths": [stages[s] for s in range(len(stages))],
            "enc_channels": enc_channels,
            "enc_num_head": list(_heads(enc_channels)),
            "enc_patch_size": [_PATCH] * len(stages),
            "mlp_ratio": hidden / channels if hidden % channels else hidden // channels,
            "qkv_bias": f"{block}attn.qkv.bias" in state,
            "layer_scale": 1e-5 if f"{block}ls1.0.gamma" in state else None,
            "mask_token": MASK_TOKEN in state,
            "enc_mode": not any(key.startswith("dec.") for key in state),
        }
        if not config["enc_mode"]:
            config.update(_guess_decoder(state, len(stages) - 1))
    except (KeyError, ValueError, IndexError) as error:
        names = ", ".join(sorted(state)[:3]) or "none"
        reason = f"{error} is missing" if isinstance(error, KeyError) else f"its tensors have other shapes ({error})"
        raise CheckpointError(
            f"these are not the weights of a LAM3C or Sonata encoder (PT-v3m2): {reason}; "
            f"the names begin with {names}; other architectures cannot be used here"
        ) from error
    return config


def _guess_decoder(state: Mapping[str, Tensor], stages: int) -> dict[str, Any]:
    depths = _stages(state, "dec")
    channels = [int(state[f"dec.dec{s}.up.proj.0.weight"].shape[0]) for s in range(stages)]
    return {
        "dec_depths": [depths.get(s, 0) for s in range(stages)],
        "dec_channels": channels,
        "dec_num_head": list(_heads(channels)),
        "dec_patch_size": [_PATCH] * stages,
    }


def _stages(state: Mapping[str, Tensor], part: str) -> dict[int, int]:
    """Stage -> number of its blocks."""
    found: dict[int, int] = {}
    for key in state:
        match = _BLOCK.match(key)
        if match and match[1] == part:
            stage = int(match[2])
            found[stage] = max(found.get(stage, 0), int(match[3]) + 1)
    return found


def _width(state: Mapping[str, Tensor], part: str, stage: int) -> int:
    return int(state[f"{part}.{part}{stage}.block0.attn.proj.weight"].shape[0])


def _heads(channels: list[int]) -> tuple[int, ...]:
    known = _KNOWN_HEADS.get(tuple(channels))
    if known:
        return known
    return tuple(next(n for n in range(max(1, c // _HEAD_CHANNELS), 0, -1) if c % n == 0) for c in channels)


def heads_are_known(config: Mapping[str, Any]) -> bool:
    """Whether the numbers of heads in a guessed config are a known model's, not an assumption."""
    widths = [config["enc_channels"], *([] if config.get("enc_mode", True) else [config["dec_channels"]])]
    return all(tuple(channels) in _KNOWN_HEADS for channels in widths)


def plain(value: Any) -> Any:
    """The value as JSON has it: tuples become lists, NumPy numbers Python's; so a config survives every format."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def backbone_arguments(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A backbone's config without what the embedded PTv3 does not take (``type``, …), and the names left out."""
    known = set(inspect.signature(PointTransformerV3).parameters)
    taken = {key: value for key, value in plain(config).items() if key in known}
    if taken.get("grid_origin") == "cloud":  # the embedded engine's own, at its default: others do not know it
        del taken["grid_origin"]
    return taken, [key for key in config if key not in known and key != "type"]


def check_backbone(config: Mapping[str, Any], state: Mapping[str, Tensor], source: Any) -> LoadReport:
    """How the weights meet a backbone of this config (built without memory).

    Raises:
        CheckpointError: less than 95 % of the encoder's tensors match, or PTv3 does not take the config.
    """
    try:
        for key in _COUNTS & config.keys():
            if not all(type(value) is int for value in config[key] or ()):
                raise ValueError(f"{key} {config[key]} are not whole numbers")
        blocks = sum(map(int, [*config["enc_depths"], *(config.get("dec_depths") or ())]))
        if blocks > len(state):  # a damaged or ill-meant config may ask for more than any machine can build
            raise ValueError(f"{blocks} blocks for {len(state)} tensors")
        target = empty_backbone(config)
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split()):.120}"
        raise CheckpointError(
            f"{source}: its config is not one of PTv3 ({reason}); correct it with --config"
        ) from error
    report = compare(state, target)
    wanted = max(sum(map(is_encoder, names)) for names in (target, state))  # a config may also ask for too few
    hits = sum(map(is_encoder, report.matched))
    if hits < LEAST_SHARE * wanted:
        raise CheckpointError(
            f"{source}: only {hits} of the encoder's {wanted} tensors match its config (at least {LEAST_SHARE:.0%} "
            f"have to): {report.summary()}; get the file again, or give the config that it was trained with (--config)"
        )
    return report


def empty_backbone(config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The names and shapes of a backbone's tensors, without memory."""
    return _empty_backbone(json.dumps(plain(config), sort_keys=True))


@lru_cache(maxsize=8)
def _empty_backbone(config: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        return PointTransformerV3(**json.loads(config)).state_dict()

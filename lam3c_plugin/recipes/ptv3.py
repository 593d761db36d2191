"""The backbone (PT-v3m2) and its sizes, for config files and for whoever has to know them."""

from __future__ import annotations

import importlib.util
from typing import Any

_BASE = dict(
    enc_depths=(3, 3, 3, 12, 3),
    enc_channels=(48, 96, 192, 384, 512),
    enc_num_head=(3, 6, 12, 24, 32),
    enc_patch_size=(1024, 1024, 1024, 1024, 1024),
)
_BASE_DECODER = dict(
    dec_depths=(2, 2, 2, 2),
    dec_channels=(64, 96, 192, 384),
    dec_num_head=(4, 6, 12, 24),
    dec_patch_size=(1024, 1024, 1024, 1024),
)
ENCODERS: dict[str, dict[str, tuple[int, ...]]] = {
    "tiny": dict(
        enc_depths=(1, 1, 1, 2, 1),
        enc_channels=(24, 48, 64, 96, 128),
        enc_num_head=(2, 4, 4, 6, 8),
        enc_patch_size=(256, 256, 256, 256, 256),
    ),
    "base": _BASE,
    "large": {**_BASE, "enc_channels": (64, 128, 256, 512, 768), "enc_num_head": (4, 8, 16, 32, 48)},
}
DECODERS: dict[str, dict[str, tuple[int, ...]]] = {
    "tiny": dict(
        dec_depths=(1, 1, 1, 1),
        dec_channels=(48, 48, 64, 96),
        dec_num_head=(4, 4, 4, 6),
        dec_patch_size=(256, 256, 256, 256),
    ),
    "base": _BASE_DECODER,
    "large": _BASE_DECODER,
}


def width(size: str, levels: int = 5) -> int:
    """Channels of a point once the encoder's last ``levels`` levels are up-cast and put side by side."""
    return sum(ENCODERS[size]["enc_channels"][-levels:])


def backbone(size: str = "base", **changes: Any) -> dict[str, Any]:
    """Give ``model.backbone`` of a config: the encoder of a size, with what LAM3C and Sonata set.

    Args:
        size: a key of ``ENCODERS``.
        changes: arguments of PT-v3m2 that differ, or that are added.
    """
    return (
        dict(
            type="PT-v3m2",
            in_channels=9,  # xyz after CenterShift (m), rgb / 255, unit normal
            order=("z", "z-trans", "hilbert", "hilbert-trans"),
            stride=(2, 2, 2, 2),
            **ENCODERS[size],
            mlp_ratio=4,
            qkv_bias=True,
            qk_scale=None,
            attn_drop=0.0,
            proj_drop=0.0,
            drop_path=0.3,
            shuffle_orders=True,
            pre_norm=True,
            enable_rpe=False,
            enable_flash=importlib.util.find_spec("flash_attn") is not None,  # without it: patches of 128 save memory
            upcast_attention=False,
            upcast_softmax=False,
            enc_mode=True,
        )
        | changes
    )

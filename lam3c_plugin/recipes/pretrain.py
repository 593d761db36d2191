"""Pieces that several configs share: the view pipeline and layer-wise learning rates.

A config imports a function, calls it and deletes the name, so that what is dumped is plain data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def view_transforms(
    grid_size: float = 0.02,
    max_size: int = 65536,
    num_global_view: int = 2,
    num_local_view: int = 4,
    drop_color: float = 0.0,
    drop_normal: float = 0.0,
) -> list[dict[str, Any]]:
    """Transforms from a scene to the views of one pre-training sample (arXiv 2512.23042; the views are Sonata's).

    Input channels of a view: xyz after CenterShift (m; x, y at the box's middle, z at its bottom), rgb / 255, unit
    normal. The coordinates before augmentation stay as ``origin_coord`` for matching.

    Args:
        grid_size: edge of the sampling grid in metres.
        max_size: most points of a view; a global view takes a 0.4-1.0 share of it, a local one 0.1-0.4.
        num_global_view: global views a scene.
        num_local_view: local views a scene.
        drop_color: probability that a view loses its colours (becomes zeros), which prepares the model for clouds
            without them; the paper has none.
        drop_normal: the same of its normals.
    """
    drop = [
        dict(type=f"RandomDrop{name}", drop_ratio=1.0, drop_application_ratio=ratio)
        for name, ratio in (("Color", drop_color), ("Normal", drop_normal))
        if ratio > 0
    ]
    views = dict(
        type="MultiViewGenerator",
        view_keys=("coord", "origin_coord", "color", "normal"),
        global_view_num=num_global_view,
        global_view_scale=(0.4, 1.0),
        local_view_num=num_local_view,
        local_view_scale=(0.1, 0.4),
        global_shared_transform=_color(),
        global_transform=_geometry() + drop,
        local_transform=_geometry() + _color() + drop,
        max_size=max_size,
    )
    kept = [f"{kind}_{key}" for kind in ("global", "local") for key in ("origin_coord", "coord", "color", "offset")]
    collect = dict(
        type="Collect",
        keys=(*kept, "grid_size", "name"),
        offset_keys_dict=dict(),
        global_feat_keys=("global_coord", "global_color", "global_normal"),
        local_feat_keys=("local_coord", "local_color", "local_normal"),
    )
    return [
        dict(type="GridSample", grid_size=grid_size, hash_type="fnv", mode="train"),
        dict(type="Copy", keys_dict={"coord": "origin_coord"}),
        views,
        dict(type="ToTensor"),
        dict(type="Update", keys_dict={"grid_size": grid_size}),
        collect,
    ]


def _color() -> list[dict[str, Any]]:
    return [
        dict(type="RandomColorJitter", brightness=0.4, contrast=0.4, saturation=0.2, hue=0.02, p=0.8),
        dict(type="ChromaticTranslation", p=0.95, ratio=0.05),
        dict(type="NormalizeColor"),
    ]


def _geometry() -> list[dict[str, Any]]:
    return [
        dict(type="CenterShift", apply_z=True),
        dict(type="RandomScale", scale=[0.9, 1.1]),
        dict(type="RandomRotate", angle=[-1, 1], axis="z", center=[0, 0, 0], p=0.8),
        dict(type="RandomRotate", angle=[-1 / 64, 1 / 64], axis="x", p=0.8),
        dict(type="RandomRotate", angle=[-1 / 64, 1 / 64], axis="y", p=0.8),
        dict(type="RandomFlip", p=0.5),
        dict(type="RandomJitter", sigma=0.005, clip=0.02),
        dict(type="ElasticDistortion", distortion_params=[[0.2, 0.4], [0.8, 1.6]]),
    ]


def layerwise_learning_rates(depths: Sequence[int], base_lr: float, decay: float = 0.9) -> list[dict[str, Any]]:
    """Parameter groups of the encoder's blocks: the last has ``base_lr``, each one before it ``decay`` times less.

    Returns:
        ``param_dicts`` of a config: one ``dict(keyword="enc<stage>.block<i>.", lr=...)`` a block, in order.
    """
    last = sum(depths) - 1
    groups = []
    for stage, depth in enumerate(depths):
        for block in range(depth):
            groups.append(dict(keyword=f"enc{stage}.block{block}.", lr=base_lr * decay ** (last - len(groups))))
    return groups

"""Transforms that the downstream configs share: training, validation and test-time voting over labelled indoor scans.

As with `lam3c_plugin.recipes.pretrain`, a config calls a function and deletes its name: what is dumped is plain
data. The protocol is Sonata's (arXiv 2503.16429). Input channels: xyz after CenterShift (m; x, y at the box's middle, z
at its bottom), rgb / 255, unit normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

GRID_SIZE = 0.02  # metres
FEATURES = ("coord", "color", "normal")
Transforms = list[dict[str, Any]]


def train_transforms(
    dropout: float,
    point_max: int | None = None,
    sample_rate: float | None = None,
    stuff: Sequence[int] | None = None,
    condition: str | None = None,
    grid_size: float = GRID_SIZE,
) -> Transforms:
    """Augmentation of a labelled scan, cropped to what a batch can hold.

    Args:
        dropout: probability with which a fifth of the points is dropped.
        point_max: at most so many points, around a random one.
        sample_rate: before that, at most this share of the points, around a random one.
        stuff: for instance segmentation: labels that are no instances.
        condition: for joint training on several datasets (PPT): this one's name.
        grid_size: edge of the sampling grid in metres.
    """
    crops = [{"sample_rate": sample_rate}] if sample_rate else []
    crops += [{"point_max": point_max}] if point_max else []
    keys: tuple[str, ...] = ("coord", "grid_coord", "segment")
    if stuff is not None:
        keys += ("instance", "instance_centroid", "bbox")
    return [
        dict(type="CenterShift", apply_z=True),
        dict(type="RandomDropout", dropout_ratio=0.2, dropout_application_ratio=dropout),
        dict(type="RandomRotate", angle=[-1, 1], axis="z", center=[0, 0, 0], p=0.5),
        dict(type="RandomRotate", angle=[-1 / 64, 1 / 64], axis="x", p=0.5),
        dict(type="RandomRotate", angle=[-1 / 64, 1 / 64], axis="y", p=0.5),
        dict(type="RandomScale", scale=[0.9, 1.1]),
        dict(type="RandomFlip", p=0.5),
        dict(type="RandomJitter", sigma=0.005, clip=0.02),
        dict(type="ElasticDistortion", distortion_params=[[0.2, 0.4], [0.8, 1.6]]),
        dict(type="ChromaticAutoContrast", p=0.2, blend_factor=None),
        dict(type="ChromaticTranslation", p=0.95, ratio=0.05),
        dict(type="ChromaticJitter", p=0.95, std=0.05),
        dict(type="GridSample", grid_size=grid_size, hash_type="fnv", mode="train", return_grid_coord=True),
        *[dict(type="SphereCrop", **crop, mode="random") for crop in crops],
        dict(type="CenterShift", apply_z=False),
        dict(type="NormalizeColor"),
        *([] if stuff is None else [_parser(stuff)]),
        *_finish(keys, condition),
    ]


def val_transforms(condition: str | None = None, grid_size: float = GRID_SIZE) -> Transforms:
    """A whole scan on the grid, with what it takes to read predictions back at every original point."""
    return [
        dict(type="CenterShift", apply_z=True),
        dict(type="Copy", keys_dict={"segment": "origin_segment"}),
        dict(
            type="GridSample",
            grid_size=grid_size,
            hash_type="fnv",
            mode="train",
            return_grid_coord=True,
            return_inverse=True,
        ),
        dict(type="CenterShift", apply_z=False),
        dict(type="NormalizeColor"),
        *_finish(("coord", "grid_coord", "segment", "origin_segment", "inverse"), condition),
    ]


def instance_val_transforms(stuff: Sequence[int]) -> Transforms:
    """A whole scan on the grid, with its instances and its original points (evaluation and test)."""
    originals = {"coord": "origin_coord", "segment": "origin_segment", "instance": "origin_instance"}
    keys = ("coord", "grid_coord", "segment", "instance", *originals.values(), "instance_centroid", "bbox", "name")
    return [
        dict(type="CenterShift", apply_z=True),
        dict(type="Copy", keys_dict=originals),
        dict(type="GridSample", grid_size=GRID_SIZE, hash_type="fnv", mode="train", return_grid_coord=True),
        dict(type="CenterShift", apply_z=False),
        dict(type="NormalizeColor"),
        _parser(stuff),
        dict(type="ToTensor"),
        dict(
            type="Collect",
            keys=keys,
            feat_keys=FEATURES,
            offset_keys_dict=dict(offset="coord", origin_offset="origin_coord"),
        ),
    ]


def instance_evaluation(stuff: Sequence[int]) -> tuple[Transforms, dict[str, Any]]:
    """``hooks`` and ``test`` of a run of instance segmentation, on the host's evaluator and tester."""
    ignored = dict(segment_ignore_index=tuple(stuff), instance_ignore_index=-1)
    hooks = [
        dict(type="EncoderLoader"),
        dict(type="IterationTimer", warmup_iter=2),
        dict(type="InformationWriter"),
        dict(type="InsSegEvaluator", **ignored),
        dict(type="CheckpointSaver", save_freq=None),
        dict(type="PreciseEvaluator", test_last=False),
    ]
    return hooks, dict(type="InsSegTester", **ignored, verbose=False)


def vote_transforms(dense: bool = False) -> Transforms:
    """What a scan goes through before voting.

    Args:
        dense: thin the scan to 1 cm first and read the votes back at every point (ScanNet++ and S3DIS are that dense).
    """
    thin = [
        dict(type="Copy", keys_dict={"segment": "origin_segment"}),
        dict(type="GridSample", grid_size=0.01, hash_type="fnv", mode="train", return_inverse=True),
    ]
    return [dict(type="CenterShift", apply_z=True), dict(type="NormalizeColor"), *(thin if dense else [])]


def vote_config(
    condition: str | None = None,
    grid_size: float = GRID_SIZE,
    turns: Sequence[float] = (0, 0.5, 1, 1.5),
    scales: Sequence[float] = (0.95, 1.05),
) -> dict[str, Any]:
    """``test_cfg``: every point is seen in each copy of the scan; by default 13: four turns at three scales, a flip.

    Args:
        condition: see `train_transforms`.
        grid_size: likewise.
        turns: about the vertical axis, in units of pi.
        scales: of further copies, each in all turns.
    """
    turned = [dict(type="RandomRotateTargetAngle", angle=[turn], axis="z", center=[0, 0, 0], p=1) for turn in turns]
    scaled = [dict(type="RandomScale", scale=[scale, scale]) for scale in scales]
    copies = [[turn] for turn in turned] + [[turn, scale] for scale in scaled for turn in turned]
    return dict(
        voxelize=dict(type="GridSample", grid_size=grid_size, hash_type="fnv", mode="test", return_grid_coord=True),
        crop=None,
        post_transform=[
            dict(type="CenterShift", apply_z=False),
            *_finish(("coord", "grid_coord", "index"), condition),
        ],
        aug_transform=[*copies, [dict(type="RandomFlip", p=1)]],
    )


def _parser(stuff: Sequence[int]) -> dict[str, Any]:
    return dict(type="InstanceParser", segment_ignore_index=tuple(stuff), instance_ignore_index=-1)


def _finish(keys: tuple[str, ...], condition: str | None) -> Transforms:
    steps: Transforms = [dict(type="ToTensor")]
    if condition is not None:
        steps.insert(0, dict(type="Update", keys_dict={"condition": condition}))
        keys += ("condition",)
    return [*steps, dict(type="Collect", keys=keys, feat_keys=FEATURES)]

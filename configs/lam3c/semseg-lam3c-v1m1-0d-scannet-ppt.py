"""Baseline: PPT (PPT-v1m3), joint supervised training of PTv3 Base on Structured3D and ScanNet, tested on ScanNet.

Runs on Pointcept only: it needs its MultiDatasetTrainer, OpenAI's `clip` and Structured3D prepared. Without `weight=`
it is the supervised baseline; with it, supervised joint training on top of a pre-trained encoder.
"""

from lam3c_plugin.labels import SCANNET_20
from lam3c_plugin.recipes.downstream import train_transforms, val_transforms, vote_config, vote_transforms

_base_ = ["./_base_/downstream.py", "./_base_/ptv3.py"]

find_unused_parameters = True
train = dict(type="MultiDatasetTrainer")
model = dict(
    type="PPT-v1m3",
    backbone=dict(enc_mode=False, traceable=True, dec_depths=(3, 3, 3, 3)),
    backbone_out_channels=64,
    criteria=[
        dict(type="CrossEntropyLoss", loss_weight=1.0, ignore_index=-1),
        dict(type="LovaszLoss", mode="multiclass", loss_weight=1.0, ignore_index=-1),
    ],
    conditions=("Structured3D", "ScanNet", "S3DIS"),  # with the host's lists of classes, whose form differs by version
    template="[x]",
    clip_model="ViT-B/16",
    freeze_backbone=False,
    backbone_mode=False,
)

scannet = dict(type="ScanNetDataset", data_root="data/scannet")
structured3d = dict(type="Structured3DDataset", data_root="data/structured3d")
data = dict(
    num_classes=20,
    ignore_index=-1,
    names=SCANNET_20,
    train=dict(
        type="ConcatDataset",
        datasets=[  # the loops are shares of the batches: two of Structured3D to one of ScanNet
            dict(
                **structured3d,
                split=["train", "val", "test"],
                transform=train_transforms(0.2, sample_rate=0.8, point_max=204800, condition="Structured3D"),
                test_mode=False,
                loop=2,
            ),
            dict(
                **scannet,
                split="train",
                transform=train_transforms(0.2, point_max=204800, condition="ScanNet"),
                test_mode=False,
                loop=1,
            ),
        ],
    ),
    val=dict(**scannet, split="val", transform=val_transforms(condition="ScanNet"), test_mode=False),
    test=dict(
        **scannet, split="val", transform=vote_transforms(), test_mode=True, test_cfg=vote_config(condition="ScanNet")
    ),
)

hooks = [
    dict(type="EncoderLoader"),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="SemSegEvaluator"),
    dict(type="CheckpointSaver", save_freq=None),
    dict(type="PreciseEvaluator", test_last=False),
]
test = dict(type="SemSegTester", verbose=True)

del scannet, structured3d, SCANNET_20
del vote_transforms, train_transforms, val_transforms, vote_config

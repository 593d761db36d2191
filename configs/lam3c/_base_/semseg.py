"""Semantic segmentation as a linear probe of PTv3 Base: one linear layer on the frozen encoder's 1,232 channels.

The datasets' bases add classes, folders and training views. Decoder probe and fine-tuning change three keys; Large two.
"""

from lam3c_plugin.recipes.downstream import val_transforms, vote_config, vote_transforms
from lam3c_plugin.recipes.ptv3 import width

_base_ = ["./downstream.py", "./ptv3.py"]

model = dict(
    type="DefaultSegmentorV2",
    num_classes=20,
    backbone_out_channels=width("base"),
    criteria=[
        dict(type="CrossEntropyLoss", loss_weight=1.0, ignore_index=-1),
        dict(type="LovaszLoss", mode="multiclass", loss_weight=1.0, ignore_index=-1),
    ],
    freeze_backbone=True,
)

data = dict(
    num_classes=20,
    ignore_index=-1,
    val=dict(transform=val_transforms(), test_mode=False),
    test=dict(transform=vote_transforms(), test_mode=True, test_cfg=vote_config()),
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

del vote_transforms, val_transforms, vote_config, width

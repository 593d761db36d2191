"""ScanNet200 instances: 198 classes; walls and floors are none."""

from lam3c_plugin.labels import SCANNET_200
from lam3c_plugin.recipes.downstream import instance_val_transforms, train_transforms

_base_ = ["./insseg.py"]

stuff = (-1, 0, 2)
scans = dict(type="ScanNet200Dataset", data_root="data/scannet", test_mode=False)
model = dict(semantic_num_classes=200, segment_ignore_index=stuff)
data = dict(
    num_classes=200,
    ignore_index=-1,
    names=SCANNET_200,
    train=dict(**scans, split="train", transform=train_transforms(dropout=0.5, sample_rate=0.8, stuff=stuff)),
    val=dict(**scans, split="val", transform=instance_val_transforms(stuff)),
    test=dict(**scans, split="val", transform=instance_val_transforms(stuff)),
)
hooks = [
    dict(type="EncoderLoader"),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="InsSegEvaluator", segment_ignore_index=stuff, instance_ignore_index=-1),
    dict(type="CheckpointSaver", save_freq=None),
    dict(type="PreciseEvaluator", test_last=False),
]
test = dict(type="InsSegTester", segment_ignore_index=stuff, instance_ignore_index=-1, verbose=False)

del stuff, scans, SCANNET_200, instance_val_transforms, train_transforms

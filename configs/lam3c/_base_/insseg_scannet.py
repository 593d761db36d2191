"""ScanNet v2 instances: 18 classes; walls and floors are none."""

from lam3c_plugin.labels import SCANNET_20
from lam3c_plugin.recipes.downstream import instance_evaluation, instance_val_transforms, train_transforms

_base_ = ["./insseg.py"]

stuff = (-1, 0, 1)
scans = dict(type="ScanNetDataset", data_root="data/scannet", test_mode=False)
model = dict(semantic_num_classes=20, segment_ignore_index=stuff)
data = dict(
    num_classes=20,
    ignore_index=-1,
    names=SCANNET_20,
    train=dict(**scans, split="train", transform=train_transforms(dropout=0.5, sample_rate=0.8, stuff=stuff)),
    val=dict(**scans, split="val", transform=instance_val_transforms(stuff)),
    test=dict(**scans, split="val", transform=instance_val_transforms(stuff)),
)
hooks, test = instance_evaluation(stuff)

del stuff, scans, SCANNET_20, instance_evaluation, instance_val_transforms, train_transforms

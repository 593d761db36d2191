"""ScanNet200 instances: 198 classes; walls and floors are none."""

from lam3c_plugin.labels import SCANNET_200
from lam3c_plugin.recipes.downstream import instance_evaluation, instance_val_transforms, train_transforms

_base_ = ["./insseg_scannet.py"]

stuff = (-1, 0, 2)
scans = dict(type="ScanNet200Dataset", transform=instance_val_transforms(stuff))
model = dict(semantic_num_classes=200, segment_ignore_index=stuff)
data = dict(
    num_classes=200,
    names=SCANNET_200,
    train=dict(type="ScanNet200Dataset", transform=train_transforms(dropout=0.5, sample_rate=0.8, stuff=stuff)),
    val=scans,
    test=scans,
)
hooks, test = instance_evaluation(stuff)

del stuff, scans, SCANNET_200, instance_evaluation, instance_val_transforms, train_transforms

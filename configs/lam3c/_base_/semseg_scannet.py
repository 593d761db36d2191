"""ScanNet v2, 20 classes, as a linear probe; decoder probe and fine-tuning are variants beside this folder."""

from lam3c_plugin.labels import SCANNET_20
from lam3c_plugin.recipes.downstream import train_transforms

_base_ = ["./semseg.py"]

scans = dict(type="ScanNetDataset", data_root="data/scannet")
model = dict(num_classes=20)
data = dict(
    num_classes=20,
    names=SCANNET_20,
    train=dict(**scans, split="train", transform=train_transforms(dropout=1.0, point_max=102400), test_mode=False),
    val=dict(**scans, split="val"),
    test=dict(**scans, split="val"),
)

del scans, SCANNET_20, train_transforms

"""ScanNet200: the scans of ScanNet v2 with 200 classes."""

from lam3c_plugin.labels import SCANNET_200

_base_ = ["./semseg_scannet.py"]

model = dict(num_classes=200)
data = dict(
    num_classes=200,
    names=SCANNET_200,
    train=dict(type="ScanNet200Dataset"),
    val=dict(type="ScanNet200Dataset"),
    test=dict(type="ScanNet200Dataset"),
)

del SCANNET_200

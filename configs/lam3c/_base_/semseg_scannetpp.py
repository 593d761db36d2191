"""ScanNet++, the 100 classes of its benchmark; training reads the 6 m chunks of the host's chunking script."""

from lam3c_plugin.labels import SCANNETPP_100
from lam3c_plugin.recipes.downstream import train_transforms, vote_transforms

_base_ = ["./semseg.py"]

scans = dict(type="ScanNetPPDataset", data_root="data/scannetpp")
model = dict(num_classes=100)
data = dict(
    num_classes=100,
    names=SCANNETPP_100,
    train=dict(
        **scans,
        split="train_grid1mm_chunk6x6_stride3x3",
        transform=train_transforms(dropout=1.0, point_max=204800),
        test_mode=False,
    ),
    val=dict(**scans, split="val"),
    test=dict(**scans, split="val", transform=vote_transforms(dense=True)),
)

del scans, SCANNETPP_100, vote_transforms, train_transforms

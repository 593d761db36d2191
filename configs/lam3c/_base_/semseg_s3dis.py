"""S3DIS, 13 classes, tested on area 5."""

from lam3c_plugin.labels import S3DIS_13
from lam3c_plugin.recipes.downstream import train_transforms, vote_transforms

_base_ = ["./semseg.py"]

scans = dict(type="S3DISDataset", data_root="data/s3dis")
model = dict(num_classes=13)
data = dict(
    num_classes=13,
    names=S3DIS_13,
    train=dict(
        **scans,
        split=("Area_1", "Area_2", "Area_3", "Area_4", "Area_6"),
        transform=train_transforms(dropout=1.0, sample_rate=0.6, point_max=204800),
        test_mode=False,
    ),
    val=dict(**scans, split="Area_5"),
    test=dict(**scans, split="Area_5", transform=vote_transforms(dense=True)),
)

del scans, S3DIS_13, vote_transforms, train_transforms

"""S3DIS instances: 13 classes, tested on area 5."""

from lam3c_plugin.labels import S3DIS_13
from lam3c_plugin.recipes.downstream import instance_evaluation, instance_val_transforms, train_transforms

_base_ = ["./insseg.py"]

stuff = (-1,)
scans = dict(type="S3DISDataset", data_root="data/s3dis", test_mode=False)
model = dict(semantic_num_classes=13, segment_ignore_index=stuff)
data = dict(
    num_classes=13,
    ignore_index=-1,
    names=S3DIS_13,
    train=dict(
        **scans,
        split=("Area_1", "Area_2", "Area_3", "Area_4", "Area_6"),
        transform=train_transforms(dropout=0.5, sample_rate=0.8, point_max=204800, stuff=stuff),
    ),
    val=dict(**scans, split="Area_5", transform=instance_val_transforms(stuff)),
    test=dict(**scans, split="Area_5", transform=instance_val_transforms(stuff)),
)
hooks, test = instance_evaluation(stuff)

del stuff, scans, S3DIS_13, instance_evaluation, instance_val_transforms, train_transforms

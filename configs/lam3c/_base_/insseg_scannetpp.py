"""ScanNet++ instances: 84 of its 100 classes."""

from lam3c_plugin.labels import SCANNETPP_100, SCANNETPP_STUFF
from lam3c_plugin.recipes.downstream import instance_evaluation, instance_val_transforms, train_transforms

_base_ = ["./insseg.py"]

enable_amp = False
stuff = SCANNETPP_STUFF
scans = dict(type="ScanNetPPDataset", data_root="data/scannetpp", test_mode=False)
model = dict(semantic_num_classes=100, segment_ignore_index=stuff)
data = dict(
    num_classes=100,
    ignore_index=-1,
    names=SCANNETPP_100,
    train=dict(
        **scans,
        split="train_grid1mm_chunk6x6_stride3x3",
        transform=train_transforms(dropout=0.5, sample_rate=0.8, point_max=204800, stuff=stuff),
    ),
    val=dict(**scans, split="val", transform=instance_val_transforms(stuff)),
    test=dict(**scans, split="val", transform=instance_val_transforms(stuff)),
)
hooks, test = instance_evaluation(stuff)

del stuff, scans, SCANNETPP_100, SCANNETPP_STUFF, instance_evaluation, instance_val_transforms, train_transforms

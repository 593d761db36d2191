"""Instance segmentation by PointGroup (PG-v1m2) as a linear probe of PTv3 Base; fine-tuning changes three keys.

Runs on Pointcept from v1.6.1 on, with its pointgroup_ops built; the embedded engine has no instance segmentation.
"""

from lam3c_plugin.recipes.ptv3 import width
from lam3c_plugin.requirements import require_instance_segmentation

require_instance_segmentation()

_base_ = ["./downstream.py", "./ptv3.py"]

clip_grad = None
num_worker = 24
optimizer = dict(weight_decay=0.05)
model = dict(
    type="PG-v1m2",
    backbone_out_channels=width("base"),
    semantic_num_classes=20,
    semantic_ignore_index=-1,
    segment_ignore_index=(-1, 0, 1),
    instance_ignore_index=-1,
    cluster_thresh=1.5,
    cluster_closed_points=600,
    cluster_propose_points=200,
    cluster_min_points=50,
    voxel_size=0.02,
    criteria=[
        dict(type="CrossEntropyLoss", loss_weight=1.0, ignore_index=-1),
        dict(type="LovaszLoss", mode="multiclass", loss_weight=1.0, ignore_index=-1),
    ],
    freeze_backbone=True,
)

del require_instance_segmentation, width

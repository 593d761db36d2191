"""The same recipe in small: 2 CPU cores, 4 GB, minutes. A 4 cm grid, a narrow PTv3, 64 prototypes.

A hundred steps instead of tens of thousands: the teacher follows faster and its targets are sharper, so that clusters
form before the run is over.
"""

from lam3c_plugin.recipes.pretrain import layerwise_learning_rates, view_transforms
from lam3c_plugin.recipes.ptv3 import ENCODERS, width

_base_ = ["./_base_/pretrain_roomtours.py"]

num_worker = 2  # Pointcept's loader needs at least one a rank
batch_size = 2
epoch = 15
eval_epoch = 15
enable_amp = False

model = dict(
    backbone=dict(**ENCODERS["tiny"], drop_path=0.1),
    head=dict(in_channels=width("tiny", levels=3), hidden_channels=512, embed_channels=64, num_prototypes=64),
    # the up-cast features live on a 16 cm grid here, twice Base's 8 cm: so does the longest edge
    laplacian_loss=dict(max_distance=0.16),
    momentum_base=0.9,
    teacher_temp_start=0.03,
    teacher_temp_base=0.04,
)

base_lr = 0.001
param_dicts = layerwise_learning_rates(ENCODERS["tiny"]["enc_depths"], base_lr, decay=0.9)
optimizer = dict(lr=base_lr)
scheduler = dict(max_lr=[base_lr] + [group["lr"] for group in param_dicts])

grid_size = 0.04
data = dict(train=dict(transform=view_transforms(grid_size, max_size=4096)))

probe = dict(train_scenes=4, val_scenes=4, max_points=4096)

hooks = [
    dict(type="WeightLoader"),
    dict(type="ModelHook"),
    dict(type="WeightDecayCosine", base_value=0.04, final_value=0.1),
    dict(type="NonFiniteGuard"),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CollapseMonitor", interval=1, window=20),  # every step: cheap at this size
    dict(type="FeaturePictures", every_epochs=5),
    dict(type="CheckpointSaver", save_freq=None),
    dict(type="OnlineProbe"),
]

del ENCODERS, layerwise_learning_rates, view_transforms, width

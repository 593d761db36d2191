"""Pre-training of ``lam3c-tiny``: a PTv3 of 2.4 M weights (4.9 MB in half precision), a 4 cm grid, one GPU, minutes.

The tiny recipe over more steps of more rooms (a thousand and more of 24, instead of a hundred of two): so there are
more prototypes and the teacher follows more slowly. Rate and temperatures stay that recipe's: at 80 steps of two rooms
twice the rate halved the features' effective rank (19 instead of 36 at step 51). Views may lose their colours or
normals, since the clouds that people bring may lack them.
"""

from lam3c_plugin.recipes.pretrain import layerwise_learning_rates, view_transforms

_base_ = ["../../configs/lam3c/pretrain-lam3c-v1m1-2-tiny.py"]

num_worker = 14
batch_size = 24
epoch = 20  # passes over the rooms between two pauses of the loader; run.py sets max_steps
eval_epoch = 1
enable_amp = True  # bfloat16

depths, channels = (2, 2, 2, 2, 1), (32, 64, 96, 96, 112)
model = dict(
    backbone=dict(
        enc_depths=depths,
        enc_channels=channels,
        enc_num_head=tuple(width // 16 for width in channels),  # what a file without a config is taken to have
        enc_patch_size=(256, 256, 256, 256, 256),
        drop_path=0.1,
    ),
    head=dict(in_channels=sum(channels[2:]), hidden_channels=1024, embed_channels=64, num_prototypes=256),
    laplacian_loss=dict(max_distance=0.16),  # the up-cast features live on a 16 cm grid
    momentum_base=0.98,
)

base_lr = 0.001
param_dicts = layerwise_learning_rates(depths, base_lr, decay=0.9)
optimizer = dict(lr=base_lr)
scheduler = dict(max_lr=[base_lr] + [group["lr"] for group in param_dicts])

grid_size = 0.04
data = dict(train=dict(transform=view_transforms(grid_size, max_size=12288, drop_color=0.1, drop_normal=0.1)))

hooks = [
    dict(type="WeightLoader"),
    dict(type="ModelHook"),
    dict(type="WeightDecayCosine", base_value=0.04, final_value=0.1),
    dict(type="NonFiniteGuard", dump=False),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter", interval=10),
    dict(type="CollapseMonitor", interval=50),
    dict(type="CheckpointSaver", save_freq=None, save_freq_steps=250),
]

del depths, channels, layerwise_learning_rates, view_transforms

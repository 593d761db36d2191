"""Pre-training of the learning proof: the tiny recipe, without pictures, saved often enough to survive a kill.

Views of 8,192 points at most, twice the tiny recipe's: a global view then holds about as large a part of a made room
(18,000 cells) as the paper's holds of a real one.
"""

from lam3c_plugin.recipes.pretrain import view_transforms

_base_ = ["../../../configs/lam3c/pretrain-lam3c-v1m1-2-tiny.py"]

num_worker = 0  # every process of the proof has its core

grid_size = 0.04
data = dict(train=dict(transform=view_transforms(grid_size, max_size=8192)))

hooks = [
    dict(type="WeightLoader"),
    dict(type="ModelHook"),
    dict(type="WeightDecayCosine", base_value=0.04, final_value=0.1),
    dict(type="NonFiniteGuard"),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CollapseMonitor", interval=1, window=20),
    dict(type="CheckpointSaver", save_freq=None, save_freq_steps=50),
]

del view_transforms

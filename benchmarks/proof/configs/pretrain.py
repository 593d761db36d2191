"""Pre-training of the learning proof: the tiny recipe, without pictures, saved often enough to survive a kill."""

_base_ = ["../../../configs/lam3c/pretrain-lam3c-v1m1-2-tiny.py"]

num_worker = 0  # every process of the proof has its core

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

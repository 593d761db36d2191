"""Baseline: the host's own Sonata model on RoomTours, with our data, optimiser and schedules.

Runs on Pointcept only. `pretrain-lam3c-v1m1-3-clustering-only` is the same objective in this project's model, and runs
on both engines: there the step from Sonata to LAM3C is the two regularisers and nothing else.
"""

from lam3c_plugin.recipes.ptv3 import backbone, width

_base_ = ["./_base_/pretrain_roomtours.py"]

model = dict(
    _delete_=True,
    type="Sonata-v1m1",
    backbone=backbone("base", traceable=True, mask_token=True),
    teacher_custom=dict(attn_drop=0.0, proj_drop=0.0, drop_path=0.0),
    head_in_channels=width("base", levels=3),
    head_hidden_channels=4096,
    head_embed_channels=256,
    head_num_prototypes=4096,
    num_global_view=2,
    num_local_view=4,
    mask_size_start=0.1,
    mask_size_base=0.4,
    mask_size_warmup_ratio=0.05,
    mask_ratio_start=0.3,
    mask_ratio_base=0.7,
    mask_ratio_warmup_ratio=0.05,
    mask_jitter=0.01,
    teacher_temp_start=0.04,
    teacher_temp_base=0.07,
    teacher_temp_warmup_ratio=0.05,
    student_temp=0.1,
    mask_loss_weight=2 / 8,
    roll_mask_loss_weight=2 / 8,
    unmask_loss_weight=4 / 8,
    momentum_base=0.994,
    momentum_final=1,
    match_max_k=8,
    match_max_r=0.32,
    up_cast_level=2,
)

hooks = [
    dict(type="CheckpointLoader"),
    dict(type="ModelHook"),
    dict(type="WeightDecayCosine", base_value=0.04, final_value=0.1),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CheckpointSaver", save_freq=25),
    dict(type="OnlineProbe"),
]

del backbone, width

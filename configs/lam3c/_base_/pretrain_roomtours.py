"""What every LAM3C pre-training shares: the recipe for PTv3 Base on RoomTours (arXiv 2512.23042).

The variants beside this folder change a few lines each; `docs/configs.md` says which is which.
"""

from lam3c_plugin.recipes.pretrain import layerwise_learning_rates, view_transforms
from lam3c_plugin.recipes.ptv3 import ENCODERS, backbone, width

_base_ = ["./run.py"]

# ---- run ----
evaluate = False
batch_size = 96  # over all GPUs
epoch = 96  # x 49,219 scenes / 96 = about 49 k steps
eval_epoch = 96
amp_dtype = "bfloat16"
mix_prob = 0
test = dict(type="SemSegTester", verbose=True)

# ---- model ----
model = dict(
    type="LAM3C-v1m1",
    backbone=backbone("base", traceable=True, mask_token=True),
    teacher_custom=dict(attn_drop=0.0, proj_drop=0.0, drop_path=0.0),
    head=dict(
        type="SinkhornHead",
        in_channels=width("base", levels=3),
        hidden_channels=4096,
        embed_channels=256,
        num_prototypes=4096,
    ),
    clustering_loss=dict(type="SinkhornClusteringLoss", student_temp=0.1, num_iters=3),
    laplacian_loss=dict(type="LaplacianSmoothingLoss", k=24, sigma=None, max_distance=0.08, huber_delta=0.5),
    consistency_loss=dict(type="NoiseConsistencyLoss"),
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
    mask_loss_weight=2 / 8,
    roll_mask_loss_weight=2 / 8,
    unmask_loss_weight=4 / 8,
    laplacian_weight_start=2e-4,
    laplacian_weight_base=3e-3,
    laplacian_weight_warmup_ratio=1.0,  # the paper's linear rise; the release: 0.1 and laplacian_weight_final=1.5e-3
    consistency_weight=0.05,
    consistency_view="cross",
    momentum_base=0.994,
    momentum_final=1.0,
    match_max_r=0.32,
    up_cast_level=2,
)

# ---- optimiser: the learning rate falls by a tenth a block towards the input ----
base_lr = 0.001
base_wd = 0.04
final_wd = 0.1
param_dicts = layerwise_learning_rates(ENCODERS["base"]["enc_depths"], base_lr, decay=0.9)
optimizer = dict(type="AdamW", lr=base_lr, weight_decay=base_wd)
scheduler = dict(
    type="OneCycleLR",
    max_lr=[base_lr] + [group["lr"] for group in param_dicts],
    pct_start=0.1,
    anneal_strategy="cos",
    div_factor=10.0,
    final_div_factor=300.0,
)

# ---- data ----
grid_size = 0.02
data = dict(
    train=dict(
        type="RoomToursDataset",
        split="train",
        data_root="data/roomtours",
        transform=view_transforms(grid_size, max_size=65536),
        loop=1,
    ),
)

# ---- probe while training: `probe.data_root=DIR` (train/ and val/ scenes with labels) for mIoU; docs/configs.md ----
probe = dict(data_root=None, every_epochs=1, max_share=0.02)  # every_epochs=0 turns it off

# ---- hooks ----
hooks = [
    dict(type="WeightLoader"),
    dict(type="ModelHook"),
    dict(type="WeightDecayCosine", base_value=base_wd, final_value=final_wd),
    dict(type="NonFiniteGuard"),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CollapseMonitor", interval=50),
    dict(type="FeaturePictures"),
    dict(type="CheckpointSaver", save_freq=25),
    dict(type="OnlineProbe"),
]

del ENCODERS, backbone, layerwise_learning_rates, view_transforms, width

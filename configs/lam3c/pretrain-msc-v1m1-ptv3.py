"""Baseline: Masked Scene Contrast on PTv3 Base over ScanNet, the host's MSC with our thin backbone wrapper.

Runs on Pointcept only. The host's recipe is for SpUNet and SGD; optimiser, rates and the nine input channels (which
the downstream configs expect) are ours: its figures are no reproduction of the paper's MSC row (docs/configs.md).
"""

_base_ = ["./_base_/downstream.py", "./_base_/ptv3.py"]

evaluate = False
batch_size = 32
num_worker = 32
mix_prob = 0
epoch = 600
eval_epoch = 100
enable_amp = False

model = dict(
    type="MSC-v1m1",
    backbone=dict(type="PT-v3m2-feat", enc_mode=False),
    backbone_in_channels=9,
    backbone_out_channels=64,
    mask_grid_size=0.1,
    mask_rate=0.4,
    view1_mix_prob=0.8,
    view2_mix_prob=0,
    matching_max_k=8,
    matching_max_radius=0.03,
    matching_max_pair=8192,
    nce_t=0.4,
    contrast_weight=1,
    reconstruct_weight=1,
    reconstruct_color=True,
    reconstruct_normal=False,
)

data = dict(
    train=dict(
        type="ScanNetDataset",
        split=["train", "val", "test"],
        data_root="data/scannet",
        transform=[
            dict(type="CenterShift", apply_z=True),
            dict(type="RandomScale", scale=[0.9, 1.1]),
            dict(type="Copy", keys_dict={"coord": "origin_coord"}),
            dict(type="Update", keys_dict={"index_valid_keys": ["coord", "color", "normal", "origin_coord"]}),
            dict(
                type="ContrastiveViewsGenerator",
                view_keys=("coord", "color", "normal", "origin_coord"),
                view_trans_cfg=[
                    dict(type="RandomRotate", angle=[-1, 1], axis="z", center=[0, 0, 0], p=1),
                    dict(type="RandomRotate", angle=[-1 / 64, 1 / 64], axis="x", p=1),
                    dict(type="RandomRotate", angle=[-1 / 64, 1 / 64], axis="y", p=1),
                    dict(type="RandomFlip", p=0.5),
                    dict(type="RandomJitter", sigma=0.005, clip=0.02),
                    dict(type="RandomColorJitter", brightness=0.4, contrast=0.4, saturation=0.2, hue=0.02, p=0.8),
                    dict(type="ChromaticJitter", p=0.95, std=0.05),
                    dict(type="GridSample", grid_size=0.02, hash_type="fnv", mode="train", return_grid_coord=True),
                    dict(type="SphereCrop", sample_rate=0.6, mode="random"),
                    dict(type="CenterShift", apply_z=False),
                    dict(type="NormalizeColor"),
                ],
            ),
            dict(type="ToTensor"),
            dict(
                type="Collect",
                keys=(
                    "view1_origin_coord",
                    "view1_grid_coord",
                    "view1_coord",
                    "view1_color",
                    "view1_normal",
                    "view2_origin_coord",
                    "view2_grid_coord",
                    "view2_coord",
                    "view2_color",
                    "view2_normal",
                ),
                offset_keys_dict=dict(view1_offset="view1_coord", view2_offset="view2_coord"),
                view1_feat_keys=("view1_coord", "view1_color", "view1_normal"),
                view2_feat_keys=("view2_coord", "view2_color", "view2_normal"),
            ),
        ],
        test_mode=False,
    ),
)

hooks = [
    dict(type="CheckpointLoader"),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CheckpointSaver", save_freq=None),
]
test = dict(type="SemSegTester", verbose=True)

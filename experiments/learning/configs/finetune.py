"""Fine-tuning of the learning proof: encoder and a linear layer on all its stages, no decoder that starts from nothing.

The tiny recipe for made rooms, on whole rooms as they are tested: on crops of 4,096 points the encoder unlearns what
it knows of rooms. Rooms are turned, mirrored, scaled and jittered; the further augmentations cost in so few steps more
than they bring. Tested in one pass over each room's cells.
"""

from lam3c_plugin.recipes.downstream import train_transforms, vote_config

_base_ = ["../../../configs/lam3c/semseg-lam3c-v1m1-9c-tiny-synthetic-ft.py"]

num_worker = 0  # every process of the proof has its core
evaluate = False  # the last model counts: nothing is chosen during the run
eval_epoch = 1

model = dict(backbone_out_channels=24 + 48 + 64 + 96 + 128, backbone=dict(enc_mode=True))

grid_size = 0.04
left_out = ("ElasticDistortion", "ChromaticAutoContrast", "ChromaticTranslation", "ChromaticJitter")
data = dict(
    train=dict(
        transform=[step for step in train_transforms(dropout=1.0, grid_size=grid_size) if step["type"] not in left_out],
    ),
    test=dict(
        # one point a cell: one fragment a room, read back at every point
        transform=[
            dict(type="CenterShift", apply_z=True),
            dict(type="NormalizeColor"),
            dict(type="Copy", keys_dict={"segment": "origin_segment"}),
            dict(type="GridSample", grid_size=grid_size, hash_type="fnv", mode="train", return_inverse=True),
        ],
        test_cfg=dict(vote_config(grid_size=grid_size), aug_transform=[[]]),
    ),
)
hooks = [
    dict(type="CheckpointLoader"),  # encoder and head: finetune.start
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="CheckpointSaver", save_freq=None),
]
test = dict(type="SemSegTester", verbose=False)

del left_out, train_transforms, vote_config

"""Made rooms with 24 classes, for the tiny model of the quick start: downstream on two CPU cores in a minute or two.

Rooms: `python -m data_tools.synthetic.rooms.generate --out data/synthetic --noise clean --points 20000 --num 12`, and
once more with `--split val --num 3 --seed 9000`.
"""

from lam3c_plugin.labels import SYNTHETIC_24
from lam3c_plugin.recipes.downstream import train_transforms, val_transforms, vote_config
from lam3c_plugin.recipes.ptv3 import DECODERS, ENCODERS, width

_base_ = ["./semseg.py"]

num_worker = 2  # Pointcept's loader needs at least one a rank
batch_size = 2
enable_amp = False
mix_prob = 0
epoch = 6
eval_epoch = 2

model = dict(
    num_classes=24,
    backbone_out_channels=width("tiny"),
    backbone=dict(**ENCODERS["tiny"], **DECODERS["tiny"], drop_path=0.1),
)

grid_size = 0.04
scans = dict(type="DefaultDataset", data_root="data/synthetic")
data = dict(
    num_classes=24,
    names=SYNTHETIC_24,
    train=dict(
        **scans,
        split="train",
        transform=train_transforms(dropout=1.0, point_max=4096, grid_size=grid_size),
        test_mode=False,
    ),
    val=dict(**scans, split="val", transform=val_transforms(grid_size=grid_size)),
    test=dict(**scans, split="val", test_cfg=vote_config(grid_size=grid_size, turns=(0,), scales=())),
)

hooks = [  # without the thorough test at the end: scripts/test.sh does it
    dict(type="EncoderLoader"),
    dict(type="IterationTimer", warmup_iter=2),
    dict(type="InformationWriter"),
    dict(type="SemSegEvaluator"),
    dict(type="CheckpointSaver", save_freq=None),
]

del scans, DECODERS, ENCODERS, SYNTHETIC_24, width, train_transforms, val_transforms, vote_config

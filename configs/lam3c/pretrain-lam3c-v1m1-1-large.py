"""LAM3C, PTv3 Large: 16 scenes a step, about 434 k steps over 49,219 scenes."""

from lam3c_plugin.recipes.ptv3 import ENCODERS, width

_base_ = ["./_base_/pretrain_roomtours.py"]

batch_size = 16
num_worker = 32
epoch = 141
eval_epoch = 141

model = dict(backbone=ENCODERS["large"], head=dict(in_channels=width("large", levels=3)))

del ENCODERS, width

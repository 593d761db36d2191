"""Base for clouds that may come without colours or normals: a fifth of the views loses each in training."""

from lam3c_plugin.recipes.pretrain import view_transforms

_base_ = ["./_base_/pretrain_roomtours.py"]

data = dict(train=dict(transform=view_transforms(drop_color=0.2, drop_normal=0.2)))

del view_transforms

"""S3DIS area 5 instances (PointGroup), linear probe of PTv3 Large, 100 epochs."""

from lam3c_plugin.recipes.ptv3 import ENCODERS, width

_base_ = ["./insseg-lam3c-v1m1-3a-s3dis-pg-lin.py"]

model = dict(backbone_out_channels=width("large"), backbone=ENCODERS["large"])

del ENCODERS, width

"""S3DIS area 5, full fine-tuning of PTv3 Large, 100 epochs."""

from lam3c_plugin.recipes.ptv3 import ENCODERS

_base_ = ["./semseg-lam3c-v1m1-3c-s3dis-ft.py"]

model = dict(backbone=ENCODERS["large"])

del ENCODERS

"""ScanNet instances (PointGroup), full fine-tuning of PTv3 Large, 100 epochs."""

from lam3c_plugin.recipes.ptv3 import ENCODERS

_base_ = ["./insseg-lam3c-v1m1-0c-scannet-pg-ft.py"]

model = dict(backbone=ENCODERS["large"])

del ENCODERS

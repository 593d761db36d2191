"""ScanNet200 instances (PointGroup), full fine-tuning of PTv3 Large, 800 epochs."""

_base_ = ["./insseg-lam3c-v1m1-1c-scannet200-pg-ft-large.py"]

epoch = 800

"""ScanNet instances (PointGroup), full fine-tuning of PTv3 Base, 800 epochs."""

_base_ = ["./insseg-lam3c-v1m1-0c-scannet-pg-ft.py"]

epoch = 800

"""ScanNet200, full fine-tuning of PTv3 Base, 800 epochs."""

_base_ = ["./semseg-lam3c-v1m1-1c-scannet200-ft.py"]

epoch = 800

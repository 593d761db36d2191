"""ScanNet200, full fine-tuning of PTv3 Large, 800 epochs."""

_base_ = ["./semseg-lam3c-v1m1-1c-scannet200-ft-large.py"]

epoch = 800

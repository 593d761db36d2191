"""ScanNet200, linear probe of PTv3 Large, 800 epochs."""

_base_ = ["./semseg-lam3c-v1m1-1a-scannet200-lin-large.py"]

epoch = 800

"""ScanNet200, linear probe of PTv3 Base, 800 epochs."""

_base_ = ["./semseg-lam3c-v1m1-1a-scannet200-lin.py"]

epoch = 800

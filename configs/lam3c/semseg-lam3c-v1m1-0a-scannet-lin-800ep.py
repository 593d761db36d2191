"""ScanNet, linear probe of PTv3 Base, 800 epochs."""

_base_ = ["./semseg-lam3c-v1m1-0a-scannet-lin.py"]

epoch = 800

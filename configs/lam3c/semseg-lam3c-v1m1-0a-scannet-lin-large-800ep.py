"""ScanNet, linear probe of PTv3 Large, 800 epochs."""

_base_ = ["./semseg-lam3c-v1m1-0a-scannet-lin-large.py"]

epoch = 800

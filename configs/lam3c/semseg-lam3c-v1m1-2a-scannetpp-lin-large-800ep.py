"""ScanNet++, linear probe of PTv3 Large, 800 epochs."""

_base_ = ["./semseg-lam3c-v1m1-2a-scannetpp-lin-large.py"]

epoch = 800

"""ScanNet++, full fine-tuning of PTv3 Base, 800 epochs."""

_base_ = ["./semseg-lam3c-v1m1-2c-scannetpp-ft.py"]

epoch = 800

"""ScanNet, full fine-tuning of PTv3 Base, 800 epochs."""

_base_ = ["./semseg-lam3c-v1m1-0c-scannet-ft.py"]

epoch = 800

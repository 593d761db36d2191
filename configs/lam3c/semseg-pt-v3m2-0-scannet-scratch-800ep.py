"""Baseline: ScanNet, PTv3 Base without pre-training, 800 epochs."""

_base_ = ["./semseg-pt-v3m2-0-scannet-scratch.py"]

epoch = 800

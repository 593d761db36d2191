"""Baseline: ScanNet200, PTv3 Base without pre-training, 800 epochs."""

_base_ = ["./semseg-pt-v3m2-1-scannet200-scratch.py"]

epoch = 800

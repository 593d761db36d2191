"""ScanNet200 instances (PointGroup), linear probe of PTv3 Base, 100 epochs."""

_base_ = ["./_base_/insseg_scannet200.py"]

"""ScanNet200, linear probe of PTv3 Base, 100 epochs."""

_base_ = ["./_base_/semseg_scannet200.py"]

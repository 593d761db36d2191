"""ScanNet instances (PointGroup), full fine-tuning of PTv3 Base, 100 epochs."""

_base_ = ["./_base_/insseg_scannet.py"]

model = dict(backbone_out_channels=64, backbone=dict(enc_mode=False), freeze_backbone=False)

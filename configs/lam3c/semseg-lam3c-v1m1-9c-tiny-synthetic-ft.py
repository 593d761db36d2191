"""Made rooms, full fine-tuning of the tiny model."""

_base_ = ["./_base_/semseg_synthetic.py"]

model = dict(backbone_out_channels=48, backbone=dict(enc_mode=False), freeze_backbone=False)

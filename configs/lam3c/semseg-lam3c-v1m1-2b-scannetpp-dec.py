"""ScanNet++, decoder probe: the encoder stays frozen of PTv3 Base, 100 epochs."""

_base_ = ["./_base_/semseg_scannetpp.py"]

model = dict(backbone_out_channels=64, backbone=dict(enc_mode=False, freeze_encoder=True), freeze_backbone=False)

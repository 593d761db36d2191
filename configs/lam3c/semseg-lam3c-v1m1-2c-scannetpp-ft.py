"""ScanNet++, full fine-tuning of PTv3 Base, 100 epochs; cropped more and dropped out less often than for the probes."""

from lam3c_plugin.recipes.downstream import train_transforms

_base_ = ["./_base_/semseg_scannetpp.py"]

model = dict(backbone_out_channels=64, backbone=dict(enc_mode=False), freeze_backbone=False)
data = dict(train=dict(transform=train_transforms(dropout=0.8, sample_rate=0.8, point_max=204800)))

del train_transforms

"""ScanNet, full fine-tuning of PTv3 Large, 100 epochs."""

_base_ = ["./semseg-lam3c-v1m1-0c-scannet-ft.py"]

model = dict(backbone=dict(enc_channels=(64, 128, 256, 512, 768), enc_num_head=(4, 8, 16, 32, 48)))

"""ScanNet++, decoder probe: the encoder stays frozen of PTv3 Large, 100 epochs."""

_base_ = ["./semseg-lam3c-v1m1-2b-scannetpp-dec.py"]

model = dict(backbone=dict(enc_channels=(64, 128, 256, 512, 768), enc_num_head=(4, 8, 16, 32, 48)))

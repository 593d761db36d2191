"""ScanNet++, decoder probe: the encoder stays frozen of PTv3 Large, 100 epochs."""

from lam3c_plugin.recipes.ptv3 import ENCODERS

_base_ = ["./semseg-lam3c-v1m1-2b-scannetpp-dec.py"]

model = dict(backbone=ENCODERS["large"])

del ENCODERS

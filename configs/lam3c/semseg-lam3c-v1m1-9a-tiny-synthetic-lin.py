"""Made rooms, linear probe of the tiny model (`pretrain-lam3c-v1m1-2-tiny`)."""

_base_ = ["./_base_/semseg_synthetic.py"]

"""Baseline: S3DIS area 5, PTv3 Base without pre-training, 3000 epochs."""

_base_ = ["./semseg-pt-v3m2-3-s3dis-scratch.py"]

epoch = 3000

"""S3DIS area 5 instances (PointGroup), full fine-tuning of PTv3 Large, 3000 epochs."""

_base_ = ["./insseg-lam3c-v1m1-3c-s3dis-pg-ft-large.py"]

epoch = 3000

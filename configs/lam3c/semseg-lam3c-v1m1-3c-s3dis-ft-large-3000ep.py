"""S3DIS area 5, full fine-tuning of PTv3 Large, 3000 epochs."""

_base_ = ["./semseg-lam3c-v1m1-3c-s3dis-ft-large.py"]

epoch = 3000

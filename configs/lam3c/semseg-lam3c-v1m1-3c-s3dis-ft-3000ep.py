"""S3DIS area 5, full fine-tuning of PTv3 Base, 3000 epochs."""

_base_ = ["./semseg-lam3c-v1m1-3c-s3dis-ft.py"]

epoch = 3000

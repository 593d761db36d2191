"""S3DIS area 5, linear probe of PTv3 Base, 3000 epochs."""

_base_ = ["./semseg-lam3c-v1m1-3a-s3dis-lin.py"]

epoch = 3000

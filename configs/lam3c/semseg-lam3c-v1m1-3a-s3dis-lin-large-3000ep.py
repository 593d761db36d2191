"""S3DIS area 5, linear probe of PTv3 Large, 3000 epochs."""

_base_ = ["./semseg-lam3c-v1m1-3a-s3dis-lin-large.py"]

epoch = 3000

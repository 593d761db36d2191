"""S3DIS area 5 instances (PointGroup), linear probe of PTv3 Base, 100 epochs."""

_base_ = ["./_base_/insseg_s3dis.py"]

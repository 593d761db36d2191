"""Ablation: clustering and Laplacian smoothing."""

_base_ = ["./_base_/pretrain_roomtours.py"]

model = dict(consistency_weight=0.0)

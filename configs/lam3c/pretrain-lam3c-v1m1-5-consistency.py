"""Ablation: clustering and noise consistency."""

_base_ = ["./_base_/pretrain_roomtours.py"]

model = dict(laplacian_weight_start=0.0, laplacian_weight_base=0.0)

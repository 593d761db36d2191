"""Ablation: clustering alone (Sonata's recipe on RoomTours)."""

_base_ = ["./_base_/pretrain_roomtours.py"]

model = dict(laplacian_weight_start=0.0, laplacian_weight_base=0.0, consistency_weight=0.0)

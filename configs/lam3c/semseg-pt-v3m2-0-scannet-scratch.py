"""Baseline: ScanNet, PTv3 Base without pre-training, 100 epochs; higher rates, half the batch, no clipping."""

_base_ = ["./semseg-lam3c-v1m1-0c-scannet-ft.py"]

batch_size = 12
num_worker = 24
clip_grad = None
optimizer = dict(lr=0.006, weight_decay=0.05)
scheduler = dict(max_lr=[0.006, 0.0006])
param_dicts = [dict(keyword="block", lr=0.0006)]

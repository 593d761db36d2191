"""ScanNet, full fine-tuning of PTv3 Base with 1 % of the scenes (data-efficient benchmark)."""

_base_ = ["./semseg-lam3c-v1m1-0c-scannet-ft.py"]

data = dict(train=dict(lr_file="data/scannet/tasks/scenes/1.txt"))

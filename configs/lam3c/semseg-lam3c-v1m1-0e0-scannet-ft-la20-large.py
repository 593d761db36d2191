"""ScanNet, full fine-tuning of PTv3 Large with 20 labelled points a scene (data-efficient benchmark)."""

_base_ = ["./semseg-lam3c-v1m1-0c-scannet-ft-large.py"]

data = dict(train=dict(la_file="data/scannet/tasks/points/points20"))

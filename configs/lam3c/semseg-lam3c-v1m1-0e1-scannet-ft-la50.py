"""ScanNet, full fine-tuning of PTv3 Base with 50 labelled points a scene (data-efficient benchmark)."""

_base_ = ["./semseg-lam3c-v1m1-0c-scannet-ft.py"]

data = dict(train=dict(la_file="data/scannet/tasks/points/points50"))

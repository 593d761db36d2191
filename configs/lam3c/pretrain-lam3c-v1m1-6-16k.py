"""The paper's 16K row: the base recipe on a fixed draw of 16,000 scenes."""

_base_ = ["./_base_/pretrain_roomtours.py"]

data = dict(train=dict(subset=16000))

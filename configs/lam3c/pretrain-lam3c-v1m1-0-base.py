"""LAM3C, PTv3 Base, all of RoomTours: 96 scenes a step over 8 GPUs or more."""

_base_ = ["./_base_/pretrain_roomtours.py"]

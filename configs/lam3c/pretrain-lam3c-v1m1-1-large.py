"""LAM3C, PTv3 Large: 16 scenes a step, about 434 k steps over 49,219 scenes."""

_base_ = ["./_base_/pretrain_roomtours.py"]

batch_size = 16
num_worker = 32
epoch = 141
eval_epoch = 141

model = dict(
    backbone=dict(enc_channels=(64, 128, 256, 512, 768), enc_num_head=(4, 8, 16, 32, 48)),
    head=dict(in_channels=256 + 512 + 768),
)

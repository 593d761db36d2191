"""PTv3 Base (PT-v3m2) as downstream models take it: the pre-trained encoder, and a decoder where `enc_mode` is off."""

import importlib.util

model = dict(
    backbone=dict(
        type="PT-v3m2",
        in_channels=9,  # xyz after CenterShift (m), rgb / 255, unit normal
        order=("z", "z-trans", "hilbert", "hilbert-trans"),
        stride=(2, 2, 2, 2),
        enc_depths=(3, 3, 3, 12, 3),
        enc_channels=(48, 96, 192, 384, 512),
        enc_num_head=(3, 6, 12, 24, 32),
        enc_patch_size=(1024, 1024, 1024, 1024, 1024),
        dec_depths=(2, 2, 2, 2),  # the decoder is built where enc_mode is off
        dec_channels=(64, 96, 192, 384),
        dec_num_head=(4, 6, 12, 24),
        dec_patch_size=(1024, 1024, 1024, 1024),
        mlp_ratio=4,
        qkv_bias=True,
        qk_scale=None,
        attn_drop=0.0,
        proj_drop=0.0,
        drop_path=0.3,
        shuffle_orders=True,
        pre_norm=True,
        enable_rpe=False,
        enable_flash=importlib.util.find_spec("flash_attn") is not None,  # without it: patches of 128 save memory
        upcast_attention=False,
        upcast_softmax=False,
        traceable=False,
        mask_token=False,
        enc_mode=True,
        freeze_encoder=False,
    ),
)

del importlib

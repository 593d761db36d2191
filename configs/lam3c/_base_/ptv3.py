"""PTv3 Base (PT-v3m2) as downstream models take it: the pre-trained encoder, and a decoder where `enc_mode` is off."""

from lam3c_plugin.recipes.ptv3 import DECODERS, backbone

model = dict(backbone=backbone("base", **DECODERS["base"], traceable=False, mask_token=False, freeze_encoder=False))

del DECODERS, backbone

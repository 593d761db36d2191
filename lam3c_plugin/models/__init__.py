"""The LAM3C model, its clustering head and a plain PTv3, registered in ``MODELS``."""

from lam3c_plugin.models.lam3c_v1m1_base import LAM3C
from lam3c_plugin.models.ptv3_features import PTv3Features
from lam3c_plugin.models.sinkhorn_head import SinkhornHead

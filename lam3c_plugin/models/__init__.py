"""The LAM3C model wrapper and its clustering head, registered in ``MODELS``."""

from lam3c_plugin.models.lam3c_v1m1_base import LAM3C
from lam3c_plugin.models.sinkhorn_head import SinkhornHead

__all__ = ["LAM3C", "SinkhornHead"]

"""Point Transformer V3 (PT-v3m2) in pure PyTorch; importing this package registers it."""

from .attention import SerializedAttention, patch_attention
from .blocks import Block
from .model import PointTransformerV3
from .pooling import GridPooling, GridUnpooling
from .sparse_conv import SubmanifoldConv3d, submanifold_conv3d

__all__ = [
    "Block",
    "GridPooling",
    "GridUnpooling",
    "PointTransformerV3",
    "SerializedAttention",
    "SubmanifoldConv3d",
    "patch_attention",
    "submanifold_conv3d",
]

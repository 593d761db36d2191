"""Point Transformer V3 (PT-v3m2) in pure PyTorch; importing this package registers it."""

from lam3c_plugin.embedded.ptv3.attention import SerializedAttention, patch_attention
from lam3c_plugin.embedded.ptv3.blocks import Block
from lam3c_plugin.embedded.ptv3.model import PointTransformerV3
from lam3c_plugin.embedded.ptv3.pooling import GridPooling, GridUnpooling
from lam3c_plugin.embedded.ptv3.sparse_conv import SubmanifoldConv3d, submanifold_conv3d

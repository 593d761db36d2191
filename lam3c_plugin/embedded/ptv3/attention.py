"""Attention inside patches of a serialised cloud, by ``scaled_dot_product_attention``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from lam3c_plugin.embedded.ptv3.patches import (
    PatchRoute,
    SequenceBlock,
    pack,
    patch_route,
    pieces_of_blocks,
    unpack,
)
from lam3c_plugin.embedded.ptv3.rows import piece_rows
from lam3c_plugin.embedded.structure import Point, PointModule

# Never cuDNN's, which PyTorch prefers on H100 and newer: it plans for every exact shape, some 20 to 40 ms each, keeps
# all plans, and patches come in new numbers every step; in torch 2.5 its gradients are wrong.
BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def patch_attention(
    x: Tensor,
    route: PatchRoute,
    num_heads: int,
    scale: float,
    dropout: float = 0.0,
    upcast: bool = False,
    project: Callable[[Tensor], Tensor] = lambda packed: packed,
) -> Tensor:
    """Multi-head attention among the points of each patch.

    Args:
        x: (N, 3 C) queries, keys and values of the points, each C channels split over the heads; or (N, C'), of which
            ``project`` makes them once the points are packed: a third of the bytes to move.
        route: the patches along one curve.
        num_heads: H, divides C.
        scale: factor on the products of queries and keys.
        dropout: share of attention weights dropped.
        upcast: compute in float32 whatever the type of the queries, autocast or not.
        project: (M, C') to (M, 3 C), each row by itself.

    Returns:
        (N, C) of the queries' type. Differentiable; tests hold it to the same thing written out.
    """
    packed = pack(x, route)
    out = []
    for block in pieces_of_blocks(route.blocks, piece_rows(packed)):
        qkv = project(packed[block.start : block.start + block.count * block.length])
        out.append(_attend(qkv, block, num_heads, scale, dropout, upcast))
    return unpack(out[0] if len(out) == 1 else torch.cat(out), route)


def _attend(qkv: Tensor, block: SequenceBlock, heads: int, scale: float, dropout: float, upcast: bool) -> Tensor:
    """One block of sequences, (count * length, 3 C) -> (count * length, C)."""
    rows, qkv = qkv.shape[0], qkv.view(block.count, block.length, 3, heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (count, H, length, C / H)
    kernels = sdpa_kernel(BACKENDS) if qkv.is_cuda else nullcontext()
    with torch.autocast(qkv.device.type, enabled=False) if upcast else nullcontext(), kernels:
        if upcast:
            q, k, v = q.float(), k.float(), v.float()
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=block.valid, dropout_p=dropout, scale=scale)
    return out.to(qkv.dtype).transpose(1, 2).reshape(rows, -1)


class SerializedAttention(PointModule):
    """Attention among K consecutive points of a curve (PTv3).

    Args:
        channels: C.
        num_heads: H, divides C.
        patch_size: K.
        qkv_bias: bias of the input projection.
        qk_scale: factor on the products of queries and keys; (C / H)^-0.5 by default.
        attn_drop, proj_drop: dropout of the attention weights and of the output.
        order_index: which of the point's curves.
        enable_rpe: must be False; relative position tables were never part of these weights.
        enable_flash: accepted for the host's configs. Patches always follow its rule, and the kernel is PyTorch's
            choice among `BACKENDS`; unlike the host's, float32 features are not rounded to bfloat16 for it.
        upcast_attention: compute the attention in float32.
        upcast_softmax: accepted; every kernel takes the softmax in float32 anyway.

    Raises:
        ValueError: ``enable_rpe``, or heads that do not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        patch_size: int,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        order_index: int = 0,
        enable_rpe: bool = False,
        enable_flash: bool = True,
        upcast_attention: bool = False,
        upcast_softmax: bool = False,
    ) -> None:
        super().__init__()
        if enable_rpe:
            raise ValueError("enable_rpe=True is not supported: set it to False (no published weights use it)")
        if channels % num_heads:
            raise ValueError(f"{num_heads} heads do not divide {channels} channels")
        if patch_size < 1:
            raise ValueError(f"patch_size must be at least 1, got {patch_size}")
        self.channels = channels
        self.num_heads = num_heads
        self.patch_size = patch_size
        self.scale = qk_scale or (channels // num_heads) ** -0.5
        self.order_index = order_index
        self.attn_drop = attn_drop
        self.upcast_attention = upcast_attention
        self.qkv = nn.Linear(channels, channels * 3, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, point: Point) -> Point:
        route = patch_route(point.locate(), self.patch_size, point.curves[self.order_index])
        dropout = self.attn_drop if self.training else 0.0
        feat = patch_attention(point.feat, route, self.num_heads, self.scale, dropout, self.upcast_attention, self.qkv)
        point.feat = self.proj_drop(self.proj(feat))
        return point

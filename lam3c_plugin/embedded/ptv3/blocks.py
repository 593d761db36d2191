"""The block of PTv3: positional convolution, attention, MLP, each added to what came in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lam3c_plugin.embedded.ptv3.attention import SerializedAttention
from lam3c_plugin.embedded.ptv3.rows import in_pieces
from lam3c_plugin.embedded.ptv3.sparse_conv import SubmanifoldConv3d
from lam3c_plugin.embedded.structure import Point, PointModule, PointSequential


class LayerScale(nn.Module):
    """A learnt factor for each channel, ``init_values`` at the start."""

    def __init__(self, channels: int, init_values: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), init_values))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class BranchNorm(nn.LayerNorm):
    """LayerNorm at the end of a branch; on a GPU half precision stays half precision, its statistics are float32.

    Autocast would read it as float32 and write float32, twice the bytes, for a sum that is float32 anyway: the features
    that the branch is added to.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_cuda or x.dtype == torch.float32:
            return super().forward(x)
        with torch.autocast("cuda", enabled=False):
            return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class DropPath(nn.Module):
    """In training, sets a share ``rate`` of the rows (points) of (N, C) to zero and scales the others up to match."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        kept = x.new_empty((x.shape[0], *[1] * (x.dim() - 1))).bernoulli_(keep)
        return x * kept.div_(keep) if keep > 0.0 else x * kept

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


class MLP(nn.Module):
    """Linear, GELU, linear, with dropout behind both; (N, C) -> (N, C)."""

    def __init__(self, channels: int, hidden_channels: int, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_channels, channels)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class Block(PointModule):
    """``x += CPE(x); x += attention(norm(x)); x += MLP(norm(x))``, the last two scaled and dropped by path.

    Args:
        channels: C, in and out.
        num_heads: of the attention.
        patch_size: points of a patch of it.
        mlp_ratio: width of the MLP over C.
        proj_drop: dropout of the attention's output and of the MLP.
        drop_path: share of points whose branch is dropped in training.
        layer_scale: start value of a learnt factor on both branches, or None for no factor.
        pre_norm: normalise before the branches; otherwise after the additions.
        attention: further arguments of `SerializedAttention`.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        patch_size: int = 48,
        mlp_ratio: float = 4.0,
        proj_drop: float = 0.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        pre_norm: bool = True,
        **attention: Any,
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.cpe = PointSequential(
            SubmanifoldConv3d(channels, channels), nn.Linear(channels, channels), BranchNorm(channels)
        )
        self.norm1 = PointSequential(nn.LayerNorm(channels))
        self.ls1 = PointSequential(self._scale(channels, layer_scale))
        self.attn = SerializedAttention(channels, num_heads, patch_size, proj_drop=proj_drop, **attention)
        self.norm2 = PointSequential(nn.LayerNorm(channels))
        self.ls2 = PointSequential(self._scale(channels, layer_scale))
        self.mlp = PointSequential(MLP(channels, int(channels * mlp_ratio), drop=proj_drop))
        self.drop_path = PointSequential(DropPath(drop_path) if drop_path > 0.0 else nn.Identity())

    @staticmethod
    def _scale(channels: int, layer_scale: float | None) -> nn.Module:
        return nn.Identity() if layer_scale is None else LayerScale(channels, layer_scale)

    def forward(self, point: Point) -> Point:
        shortcut = point.feat
        point = self.cpe(point)
        point.feat = shortcut = shortcut + point.feat
        if self.pre_norm:
            point = self.norm1(point)
        point = self.drop_path(self.ls1(self.attn(point)))
        point.feat = shortcut + point.feat
        if not self.pre_norm:
            point = self.norm1(point)
        point.feat = in_pieces(self._mlp_branch, point.feat)
        return point

    def _mlp_branch(self, x: Tensor) -> Tensor:
        branch = self.drop_path(self.ls2(self.mlp(self.norm2(x) if self.pre_norm else x)))
        return x + branch if self.pre_norm else self.norm2(x + branch)

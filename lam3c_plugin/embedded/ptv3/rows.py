"""Moving and reducing rows with backward passes that are rows again: no atomics, so runs repeat to the bit.

PyTorch's own backward of an index is a scatter with possibly colliding rows. Here the collisions are known from the
geometry: where rows move one to one the backward is another gather, where many meet they are summed in a fixed order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lam3c_plugin.embedded.geometry import sort_rows
from lam3c_plugin.ops.device import true_rows

_PIECE_ROWS = 8192  # for each thread of a CPU


def piece_rows(values: Tensor) -> int:
    """How many rows to work on at once: those whose intermediate results stay in a CPU's cache.

    All rows on a GPU, and where a backward pass needs the intermediate results anyway.
    """
    if torch.is_grad_enabled() or values.device.type != "cpu":
        return max(1, values.shape[0])
    return _PIECE_ROWS * torch.get_num_threads()


def in_pieces(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """``function(values)`` of rows (N, C) that it treats each by itself, worked out `piece_rows` at a time."""
    rows = piece_rows(values)
    if values.shape[0] <= rows:
        return function(values)
    return torch.cat([function(part) for part in values.split(rows)])


class Groups(NamedTuple):
    """N rows divided into G groups, none empty."""

    group: Tensor  # (N,) int64 group of each row
    order: Tensor  # (N,) int64 rows sorted by group
    starts: Tensor  # (G + 1,) int64 where each group starts in `order`

    @property
    def counts(self) -> Tensor:
        """(G,) int64 rows of each group."""
        return self.starts[1:] - self.starts[:-1]

    @property
    def first(self) -> Tensor:
        """(G,) int64 first row of each group: the one that represents it."""
        return self.order[self.starts[:-1]]


def group_by_key(keys: Tensor, num_groups: int | None = None, within: Tensor | None = None) -> Groups:
    """Rows with the same key form a group; groups are sorted by key.

    Args:
        keys: (N,) int64.
        num_groups: G; where it is not known, a GPU is waited for to read it back.
        within: (N,) int64 rows in the order that those of one group stand in; the lowest row first by default.
    """
    keys, order = sort_rows(keys, within)
    is_first = F.pad(keys[1:] != keys[:-1], (1, 0), value=True)
    firsts = is_first.nonzero().flatten() if num_groups is None else true_rows(is_first, num_groups)
    starts = F.pad(firsts, (0, 1), value=keys.shape[0])
    group = torch.empty_like(order).index_copy_(0, order, is_first.cumsum(0) - 1)
    return Groups(group, order, starts)


def group_sum(values: Tensor, groups: Groups) -> Tensor:
    """Sum of rows over each group, (N, C) -> (G, C). Not differentiable; the same to the bit on every run."""
    return F.embedding_bag(groups.order, values, groups.starts, mode="sum", include_last_offset=True)


def group_mean(values: Tensor, groups: Groups) -> Tensor:
    """Mean of rows over each group, (N, C) floats -> (G, C). Not differentiable (used for coordinates)."""
    return group_sum(values.detach(), groups) / groups.counts.unsqueeze(1).to(values.dtype)


class _TakeRows(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: Tensor) -> Tensor:
        ctx.rows, ctx.total = rows, values.shape[0]
        return values.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.new_zeros(ctx.total, grad.shape[1]).index_copy_(0, ctx.rows, grad), None


def take_rows(values: Tensor, rows: Tensor) -> Tensor:
    """The rows named, (N, C) -> (R, C); none may be named twice. Differentiable in ``values``."""
    return _TakeRows.apply(values, rows)


class _ExpandRows(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, groups: Groups) -> Tensor:
        ctx.groups = groups
        return values.index_select(0, groups.group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return group_sum(grad.contiguous(), ctx.groups), None


def expand_rows(values: Tensor, groups: Groups) -> Tensor:
    """Every row gets its group's values, (G, C) -> (N, C). Differentiable in ``values``."""
    return _ExpandRows.apply(values, groups)


class _GroupMax(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, groups: Groups) -> Tensor:
        in_order = values.index_select(0, groups.order)
        out = torch.segment_reduce(in_order, "max", lengths=groups.counts, axis=0, unsafe=True)
        ctx.groups = groups
        ctx.save_for_backward(values, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        values, out = ctx.saved_tensors
        won = (values == out.index_select(0, ctx.groups.group)).to(grad.dtype)
        share = grad / group_sum(won, ctx.groups).clamp_(min=1)
        return won.mul_(share.index_select(0, ctx.groups.group)), None


def group_max(values: Tensor, groups: Groups) -> Tensor:
    """Maximum of rows over each group, (N, C) -> (G, C). Differentiable; rows that tie share the gradient evenly."""
    return _GroupMax.apply(values, groups)

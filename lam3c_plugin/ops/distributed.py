"""Sums and means over all ranks; plain local ones where no process group runs."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of ranks, 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum over all ranks, in place and returned; no gradient. Every rank has to call it."""
    if world_size() > 1:
        dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
    return tensor


def all_reduce_max(tensor: Tensor) -> Tensor:
    """Maximum over all ranks, in place and returned; no gradient. Every rank has to call it."""
    if world_size() > 1:
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor


class _GlobalValue(torch.autograd.Function):
    """The value of one tensor with the (scaled) gradient of another."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, local: Tensor, value: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return value.clone()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        (scale,) = ctx.saved_tensors
        return grad * scale, None, None


def global_mean(sum_local: Tensor, count_local: Tensor) -> Tensor:
    """Mean over what all ranks hold, ``sum over ranks of sum_local / sum over ranks of count_local``.

    The value is the same on every rank. The gradient on a rank is that of ``world_size * sum_local / count``, so that
    the average over ranks taken by DistributedDataParallel is the gradient of the whole batch.

    Args:
        sum_local: 0-d floating point, this rank's sum; may carry a gradient.
        count_local: 0-d, this rank's number of summands.

    Returns:
        0-d; exactly 0 where no rank has a summand.
    """
    totals = all_reduce_sum(torch.stack([sum_local.detach(), count_local.detach().to(sum_local.dtype)]))
    count = totals[1].clamp(min=1)
    return _GlobalValue.apply(sum_local, totals[0] / count, world_size() / count)

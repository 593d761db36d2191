"""Clouds of a batch as segments: offsets (running sums), batch indices, and reductions over them.

A batch of B clouds with N points in all is described either by ``offset`` (B,), the running sum of the clouds'
sizes (``offset[-1] == N``), or by ``batch`` (N,), the non-decreasing cloud index of every point.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lam3c_plugin.ops.device import host_values


def offset2bincount(offset: Tensor) -> Tensor:
    """Running sums (B,) to sizes (B,) int64."""
    offset = offset.long()
    return torch.diff(offset, prepend=offset.new_zeros(1))


def bincount2offset(bincount: Tensor) -> Tensor:
    """Sizes (B,) to running sums (B,) int64."""
    return torch.cumsum(bincount.long(), dim=0)


def offset2batch(offset: Tensor, num_points: int | None = None) -> Tensor:
    """Running sums (B,) to the cloud index of every point, (N,) int64.

    A GPU reads ``offset`` back once, and not at all where ``num_points`` (``offset[-1]``) is given.
    """
    if num_points is None:
        num_points = host_values(offset)[-1] if len(offset) else 0
    bincount = offset2bincount(offset)
    cloud = torch.arange(bincount.shape[0], device=offset.device)
    return torch.repeat_interleave(cloud, bincount, output_size=num_points)


def batch2offset(batch: Tensor, num_clouds: int | None = None) -> Tensor:
    """Cloud index of every point (N,) to running sums (B,) int64.

    Without ``num_clouds`` empty clouds at the end cannot be known and are left out, and a GPU has to be waited for.
    """
    if num_clouds is None:
        return bincount2offset(torch.bincount(batch))
    return bincount2offset(segment_count(batch, num_clouds))


def segment_count(index: Tensor, num_segments: int, dtype: torch.dtype = torch.int64) -> Tensor:
    """Number of rows of each segment, (S,); ``index`` (N,) need not be sorted."""
    count = torch.zeros(num_segments, dtype=dtype, device=index.device)
    return count.index_add_(0, index, torch.ones_like(index, dtype=dtype))


def segment_sum(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Sum of ``values`` (N, ...) over each segment, (S, ...); 0 for an empty one. Differentiable."""
    return values.new_zeros((num_segments, *values.shape[1:])).index_add(0, index, values)


def segment_mean(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Mean of ``values`` (N, ...) over each segment, (S, ...); 0 for an empty one. Differentiable."""
    count = segment_count(index, num_segments, values.dtype).clamp_(min=1)
    return segment_sum(values, index, num_segments) / count.view(-1, *[1] * (values.dim() - 1))

"""Laplacian smoothing: features of points that are close in space are kept close.

"3D sans 3D Scans" (LAM3C), arXiv 2512.23042: R_Lap = sum over edges of w_ij * penalty(||z_i - z_j||), with
w_ij = exp(-||p_i - p_j||^2 / sigma^2) and the edges of a k-nearest-neighbour graph; here degree-normalised, with the
Huber penalty and with edges longer than ``max_distance`` cut, as in the authors' release.

The fast path touches features only along edges that survive the cut, each pair of points once, in blocks; its backward
sums weighted differences over each point's neighbours. It never holds an (N, k, C) or (edges, C) tensor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lam3c_plugin.losses.laplacian_graph import LaplacianGraph, build_laplacian_graph, laplacian_edges
from lam3c_plugin.ops.distributed import global_mean
from lam3c_plugin.ops.segments import offset2batch, segment_count
from lam3c_plugin.ops.sinkhorn import block_rows, compute_dtype, row_blocks


def laplacian_smoothing_loss(
    feat: Tensor,
    coord: Tensor,
    offset: Tensor,
    k: int = 24,
    sigma: float | None = None,
    max_distance: float | None = 0.08,
    huber_delta: float = 0.5,
    *,
    graph: LaplacianGraph | None = None,
) -> Tensor:
    """Weighted mean over each point's edges, mean over a cloud's points with an edge, mean over clouds with an edge.

    The penalty of r = ||z_i - z_j|| is Huber's as in `torch.nn.functional.huber_loss`: 0.5 r^2 up to ``huber_delta``,
    ``huber_delta * (r - huber_delta / 2)`` beyond. Where r = 0 the gradient is 0.

    Args:
        feat: (N, C) features; the maths is float32 (float64 for float64), also for bfloat16 and under autocast.
        coord: (N, 3) metres.
        offset: (B,) running sums of the clouds' sizes.
        k: of the graph, see `build_laplacian_graph`.
        sigma: likewise.
        max_distance: likewise.
        huber_delta: > 0, in units of the features.
        graph: built before by `build_laplacian_graph` (then coord, offset, k, sigma and max_distance are not read).

    Returns:
        0-d float32 or float64. All ranks hold the same value; the gradient is scaled for DDP's average
        (`ops.distributed.global_mean`). Without an edge on any rank it is 0 with gradient 0.

    Raises:
        ValueError: shapes that do not fit, coordinates that are not finite, a setting that is not positive.
    """
    if graph is None:
        graph = build_laplacian_graph(coord, offset, k, sigma, max_distance)
    _check(feat, graph.num_points, huber_delta)
    with torch.autocast(feat.device.type, enabled=False):
        total = _EdgePenalty.apply(feat, graph, huber_delta)
    return global_mean(total, graph.clouds)


def laplacian_smoothing_loss_reference(
    feat: Tensor,
    coord: Tensor,
    offset: Tensor,
    k: int = 24,
    sigma: float | None = None,
    max_distance: float | None = 0.08,
    huber_delta: float = 0.5,
) -> Tensor:
    """`laplacian_smoothing_loss` as the formula reads: dense (N, k, C) differences and autograd's gradient."""
    _check(feat, coord.shape[0], huber_delta)
    feat = feat.to(compute_dtype(feat))
    index, weight, _ = laplacian_edges(coord, offset, k, sigma, max_distance)
    batch, num_clouds = offset2batch(offset), offset.shape[0]
    square = (feat[:, None] - feat[index]).square().sum(-1)
    # sqrt has no gradient at 0, where the penalty has 0.
    norm = torch.where(square > 0, square, 1).sqrt() * (square > 0)
    penalty = F.huber_loss(norm, torch.zeros_like(norm), reduction="none", delta=huber_delta)
    degree = weight.sum(1)
    per_point = (weight * penalty).sum(1) / torch.where(degree > 0, degree, 1)
    points = segment_count(batch[degree > 0], num_clouds)
    per_cloud = feat.new_zeros(num_clouds).index_add(0, batch, per_point) / points.clamp(min=1)
    return global_mean(per_cloud.sum(), (points > 0).sum())


def _check(feat: Tensor, num_points: int, huber_delta: float) -> None:
    if feat.dim() != 2 or feat.shape[0] != num_points or not feat.is_floating_point():
        raise ValueError(
            f"feat is {feat.dtype} {tuple(feat.shape)} for {num_points} points: give one floating point row a point"
        )
    if not huber_delta > 0:
        raise ValueError(f"huber_delta={huber_delta}: give a positive one (LAM3C: 0.5)")


class _EdgePenalty(torch.autograd.Function):
    """sum over pairs of weight * huber(||z_i - z_j||)."""

    @staticmethod
    def forward(ctx: Any, feat: Tensor, graph: LaplacianGraph, delta: float) -> Tensor:
        weight = graph.weight.to(compute_dtype(feat))
        norm = _pair_norms(feat, graph.pairs, weight.dtype)
        inner = norm.clamp(max=delta)
        if ctx.needs_input_grad[0]:
            # Huber's derivative over r: 1 up to delta, delta / r beyond.
            strength = weight * (delta / norm.clamp(min=delta))
            ctx.graph = graph
            ctx.save_for_backward(feat, strength[graph.pair_of_neighbour])
            size = block_rows(feat.shape[1], feat.device)
            ctx.blocks = _list_blocks(graph.neighbour_offset, graph.neighbour.shape[0], size)
        return torch.dot(weight, inner * (norm - 0.5 * inner))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        feat, strength = ctx.saved_tensors
        with torch.autocast(feat.device.type, enabled=False):
            grad = _weighted_differences(feat, strength * grad_output, ctx.graph, ctx.blocks)
        return grad.to(feat.dtype), None, None


def _pair_norms(feat: Tensor, pairs: Tensor, dtype: torch.dtype) -> Tensor:
    """||z_i - z_j|| (P,) of all pairs, a block at a time."""
    norm = torch.empty(pairs.shape[1], dtype=dtype, device=feat.device)
    blocks = row_blocks(pairs.shape[1], feat.shape[1], feat.device)
    buffer = feat.new_empty((2, blocks[0].stop if blocks else 0, feat.shape[1]))
    for rows in blocks:
        first, second = pairs[:, rows]
        left = torch.index_select(feat, 0, first, out=buffer[0, : first.shape[0]]).to(dtype)
        right = torch.index_select(feat, 0, second, out=buffer[1, : first.shape[0]]).to(dtype)
        torch.linalg.vector_norm(left.sub_(right), dim=1, out=norm[rows])
    return norm


def _list_blocks(offset: Tensor, entries: int, size: int) -> list[tuple[int, int, int, int]]:
    """Neighbour lists cut into blocks of ``size`` entries: (first entry, end, first list, end); a list may be split."""
    begin = torch.arange(0, entries, size, device=offset.device)
    end = (begin + size).clamp(max=entries)
    first = torch.searchsorted(offset, begin, right=True) - 1
    last = torch.searchsorted(offset, end - 1, right=True)
    return list(map(tuple, torch.stack([begin, end, first, last], 1).tolist()))


def _weighted_differences(
    feat: Tensor, strength: Tensor, graph: LaplacianGraph, blocks: list[tuple[int, int, int, int]]
) -> Tensor:
    """sum_j s_ij (z_i - z_j) over each point's list of neighbours, (N, C).

    Of differences, not as (sum_j s_ij) z_i - sum_j s_ij z_j: equal features give exactly 0. Sums in a fixed order.
    """
    grad = torch.zeros(feat.shape, dtype=strength.dtype, device=feat.device)
    size = max((end - begin for begin, end, _, _ in blocks), default=0)
    buffer = feat.new_empty((2, size, feat.shape[1]))
    entry = torch.arange(size, device=feat.device)
    for begin, end, first, last in blocks:
        points = graph.points[first:last]
        bounds = graph.neighbour_offset[first : last + 1].clamp(begin, end) - begin
        owner = torch.repeat_interleave(points, bounds.diff(), output_size=end - begin)
        here = torch.index_select(feat, 0, owner, out=buffer[0, : end - begin]).to(strength.dtype)
        there = torch.index_select(feat, 0, graph.neighbour[begin:end], out=buffer[1, : end - begin]).to(strength.dtype)
        total = F.embedding_bag(
            entry[: end - begin],
            here.sub_(there),
            bounds,
            mode="sum",
            per_sample_weights=strength[begin:end],
            include_last_offset=True,
        )
        grad.index_add_(0, points, total)
    return grad

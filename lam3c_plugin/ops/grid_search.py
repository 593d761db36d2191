"""Exact k nearest neighbours within a radius by a grid of cells, in plain PyTorch (any device).

Cells are as wide as the radius, so everything within the radius of a point lies in the 27 cells around its own. Sorted
by (cloud, x, y, z), three cells in a line along z are one run of points: 9 runs a query.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lam3c_plugin.ops.device import reads_wait

# 2^17 cells an axis leave 12 of 63 bits for the cloud; wider clouds get wider cells, which stays exact.
_MAX_CELLS = 2**17
_QUERIES_A_BLOCK = 2**18


def grid_knn(
    query: Tensor, query_batch: Tensor, ref: Tensor, ref_batch: Tensor, k: int, max_radius: float
) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest reference points within ``max_radius`` of every query point of the same cloud.

    Args:
        query: (M, 3) floating point, metres.
        query_batch: (M,) int64 cloud of each.
        ref: (N, 3).
        ref_batch: (N,) int64, fewer than 4096 clouds.
        k: how many.
        max_radius: metres, > 0.

    Returns:
        index (M, k) int64 row in ``ref`` or -1, distance (M, k) float32 or +inf, ascending.
    """
    index = torch.full((query.shape[0], k), -1, dtype=torch.long, device=query.device)
    distance = torch.full((query.shape[0], k), torch.inf, device=query.device)
    if query.shape[0] == 0 or ref.shape[0] == 0:
        return index, distance
    origin = ref.double().amin(0)
    cell, dims = _cells(ref, origin, max_radius)
    ref_cell = ((ref.double() - origin) / cell).floor_().long()
    key, order = torch.sort(_key(ref_batch, *ref_cell.unbind(1), dims))
    ref_sorted = ref[order]
    budget = 2**22 if reads_wait(query) else 2**18
    for begin in range(0, query.shape[0], _QUERIES_A_BLOCK):
        block = slice(begin, begin + _QUERIES_A_BLOCK)
        q_cell = ((query[block].double() - origin) / cell).floor_().long()
        start, count = _runs(key, query_batch[block], q_cell, dims)
        nearest = _nearest(query[block], ref_sorted, start, count, k, max_radius, budget)
        for rows, position, near in nearest:
            width = near.shape[1]
            index[begin + rows, :width] = torch.where(near.isfinite(), order[position], -1)
            distance[begin + rows, :width] = near.float()
    return index, distance


def _cells(ref: Tensor, origin: Tensor, max_radius: float) -> tuple[float, list[int]]:
    """Cell width in metres and the number of cells along each axis."""
    extent = (ref.double().amax(0) - origin).tolist()
    # A hair wider than the radius, so that rounding never pushes a neighbour two cells away.
    cell = max(max_radius * (1 + 1e-6), max(extent) / (_MAX_CELLS - 1))
    return cell, [int(length / cell) + 1 for length in extent]


def _key(batch: Tensor, x: Tensor, y: Tensor, z: Tensor, dims: list[int]) -> Tensor:
    return ((batch * dims[0] + x) * dims[1] + y) * dims[2] + z


def _runs(key: Tensor, batch: Tensor, cell: Tensor, dims: list[int]) -> tuple[Tensor, Tensor]:
    """First row and length, both (M, 9), of the runs of sorted reference points around each query's cell."""
    step = torch.arange(-1, 2, device=key.device)
    x = (cell[:, 0, None] + step.repeat_interleave(3)).long()
    y = (cell[:, 1, None] + step.repeat(3)).long()
    low = (cell[:, 2, None] - 1).clamp(min=0)
    high = (cell[:, 2, None] + 1).clamp(max=dims[2] - 1)
    inside = (x >= 0) & (x < dims[0]) & (y >= 0) & (y < dims[1]) & (low <= high)
    start = torch.searchsorted(key, _key(batch[:, None], x, y, low, dims))
    stop = torch.searchsorted(key, _key(batch[:, None], x, y, high, dims), right=True)
    return start, torch.where(inside, stop - start, 0)


def _nearest(query: Tensor, ref: Tensor, start: Tensor, count: Tensor, k: int, max_radius: float, budget: int):  # noqa: ANN202
    """Yield (rows, position in ``ref``, distance) for blocks of queries with about the same number of candidates."""
    total = count.sum(1)
    total, by_total = total.sort(descending=True)
    widths = total.cpu().numpy()  # the only read-back of the search
    begin, end = 0, int((widths > 0).sum())
    while begin < end:
        width = int(widths[begin])
        rows = by_total[begin : min(begin + max(budget // width, 1), end)]
        begin += rows.shape[0]
        stop = count[rows].cumsum(1)
        slot = torch.arange(width, device=query.device).expand(rows.shape[0], -1).contiguous()
        run = torch.searchsorted(stop, slot, right=True)
        real = run < 9
        run.clamp_(max=8)
        shift = start[rows] - stop + count[rows]
        position = torch.where(real, slot + shift.gather(1, run), 0)
        far = (query[rows, None] - ref[position]).square_().sum(-1).sqrt_()
        far.masked_fill_(~real | (far > max_radius), torch.inf)
        near, choice = far.topk(min(k, width), dim=1, largest=False, sorted=True)
        yield rows, position.gather(1, choice), near

"""Submanifold 3x3x3 convolution over occupied cells, without spconv.

A submanifold convolution writes only where there is a point, so it is one small matrix product for each of the 27
kernel entries, over the pairs of cells that lie at that offset. The pairs are found once a stage (`KernelMap`)
and shared by its blocks; half of them are enough, since a pair seen from its other end is the opposite entry's.

**Cells with several points.** One point represents a cell: the first in the order of
`CloudGeometry.within`, which is the nearest to the cell's centre where coordinates are known. Neighbours read
the representative's features, and every point reads the representatives around it, the centre entry that of its own
cell. Points of one cell therefore get the same result, and the features of the others do not enter the convolution.

**Two ways of multiplying.** `_PairedConv` multiplies the pairs that exist, entry by entry: the least arithmetic. It
gathers the pairs of some cells at once and sums the products of each cell in one go. `_GatheredConv` lays all 27
neighbours of a cell side by side, zeros where there is none, and multiplies once: three times the arithmetic on a
surface, which tensor cores do in less time than the other way needs to start its kernels and add its parts in float32.
Half precision on a GPU takes the second, all else the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lam3c_plugin.embedded.geometry import CloudGeometry
from lam3c_plugin.embedded.ptv3.rows import Groups, expand_rows, group_by_key, take_rows
from lam3c_plugin.embedded.structure import Point, PointModule
from lam3c_plugin.ops.device import reads_wait, true_rows

CENTRE = 13  # of the 27 kernel entries, entry (a, b, c) being number 9 a + 3 b + c at offset (a - 1, b - 1, c - 1)
# The offsets above the centre, number 14 to 26, in four columns along z and the upper half of the centre's own.
_COLUMNS = ((0, 1), (1, -1), (1, 0), (1, 1))
_GATHERED_BYTES = 2**28  # of neighbours side by side: enough to fill a GPU, little beside what a step keeps
_PAIRED_CELLS = 2048  # whose pairs a thread of a CPU takes at once: what is gathered of them stays in its cache


class Tap(NamedTuple):
    """Pairs of cells at one offset: ``upper[i]`` lies at the offset of kernel entry ``entry`` from ``lower[i]``."""

    entry: int
    lower: Tensor  # (P,) int32, each cell at most once
    upper: Tensor  # (P,) int32, each cell at most once


class Pairs(NamedTuple):
    """All pairs of some cells, entry after entry, the centre's being each cell with itself."""

    cells: slice  # that are written
    counts: list[int]  # pairs of each of the 27 entries
    read: Tensor  # (P,) int32, cell whose values a pair takes
    written: Tensor  # (P,) int32, cell it adds to
    order: Tensor  # (P,) int32, pairs sorted by the cell written
    starts: Tensor  # (cells + 1,) int32, where each cell's begin in `order`


@dataclass(frozen=True)
class KernelMap:
    """Which cells a 3x3x3 kernel joins. Cells are numbered by cloud, x, y, z."""

    num_cells: int
    points: Groups | None  # the points of each cell; None where row i is cell i
    taps: tuple[Tap, ...]  # entries 14 to 26 that join any cells

    @property
    def num_pairs(self) -> int:
        """Pairs over all 27 entries: the multiply-adds of the convolution are this times C_in times C_out."""
        return self.num_cells + 2 * sum(tap.lower.shape[0] for tap in self.taps)

    @cached_property
    def neighbours(self) -> Tensor:
        """(cells, 27) int32: the cell that each entry meets, `num_cells` where there is none; needs a tap."""
        lower, upper = (torch.cat(parts).long() for parts in zip(*[tap[1:] for tap in self.taps], strict=True))
        entry = torch.cat([torch.full_like(tap.lower, tap.entry) for tap in self.taps])
        table = torch.full((self.num_cells * 27,), self.num_cells, dtype=torch.int32, device=lower.device)
        table.index_copy_(0, lower * 27 + entry, upper.int())
        table.index_copy_(0, upper * 27 + 2 * CENTRE - entry, lower.int())
        table = table.view(-1, 27)
        table[:, CENTRE] = torch.arange(self.num_cells, device=lower.device)
        return table

    @cached_property
    def pairs(self) -> list[Pairs]:
        """Pairs of all cells: in chunks on a CPU, at once on a GPU, which is not waited for; needs a tap."""
        height = self.num_cells if reads_wait(self.neighbours) else _PAIRED_CELLS * torch.get_num_threads()
        starts = range(0, self.num_cells, height)
        return [self._pairs_of(slice(start, min(start + height, self.num_cells))) for start in starts]

    def _pairs_of(self, cells: slice) -> Pairs:
        table = self.neighbours[cells].t()  # (27, cells)
        there = table < self.num_cells
        if cells.stop - cells.start == self.num_cells:
            counts = [0] * 27
            counts[CENTRE] = self.num_cells
            for tap in self.taps:
                counts[tap.entry] = counts[2 * CENTRE - tap.entry] = tap.lower.shape[0]
        else:
            counts = there.sum(1).tolist()
        rows = true_rows(there.reshape(-1), sum(counts))
        number = (there.reshape(-1).cumsum(0, dtype=torch.int32) - 1).view_as(there)
        return Pairs(
            cells,
            counts,
            table.reshape(-1).index_select(0, rows),
            (rows % table.shape[1] + cells.start).int(),
            number.t().reshape(-1)[true_rows(there.t().reshape(-1), sum(counts))],
            F.pad(there.sum(0).cumsum(0, dtype=torch.int32), (1, 0)),
        )


def kernel_map(geometry: CloudGeometry) -> KernelMap:
    """The kernel map of a stage, made on the first call; a GPU is waited for once or twice (see `kernel_maps`)."""
    return geometry.memo("kernel_map", lambda: _build_kernel_maps([geometry])[0])


def kernel_maps(geometries: Sequence[CloudGeometry]) -> None:
    """Make the kernel maps of several stages, with one read-back for all of them."""
    missing = [geometry for geometry in geometries if not geometry.knows("kernel_map")]
    if not missing:
        return
    with torch.no_grad(), torch.inference_mode(False):
        built = _build_kernel_maps(missing)
    for geometry, kmap in zip(missing, built, strict=True):
        geometry.memo("kernel_map", lambda kmap=kmap: kmap)


def _build_kernel_maps(geometries: Sequence[CloudGeometry]) -> list[KernelMap]:
    candidates = [_candidates(geometry) for geometry in geometries]
    counts = torch.stack([found.sum(1) for _, _, found in candidates]).tolist()
    return [_kernel_map(*parts, taps) for parts, taps in zip(candidates, counts, strict=True)]


def _candidates(geometry: CloudGeometry) -> tuple[Groups | None, Tensor, Tensor]:
    """Points of each cell; the cell met at each of 13 offsets from each cell, (13, cells); whether it is there."""
    keys, points = geometry.keys(), None
    if not geometry.cells_sorted:
        sizes = geometry.cells_by_factor.get(1)
        points = group_by_key(keys, None if sizes is None else sum(sizes), geometry.within())
        keys = keys[points.first]
    num_cells = keys.shape[0]
    # the sentinel answers searches that run past the end; no key equals it
    padded = torch.cat([keys, keys.new_full((1,), torch.iinfo(torch.int64).max)])
    place = torch.arange(1, num_cells + 1, device=keys.device)
    places, hits = [place], [padded[place] == keys + 1]
    for dx, dy in _COLUMNS:
        # the three cells of a column are neighbours in the sorted keys too: one search, then steps
        wanted = keys + (dx << (2 * geometry.depth)) + (dy * (1 << geometry.depth)) - 1
        place = torch.searchsorted(padded, wanted)
        for _ in range(3):
            places.append(place)
            hits.append(padded[place] == wanted)
            place = place + hits[-1]
            wanted = wanted + 1
    return points, torch.stack(places), torch.stack(hits)


def _kernel_map(points: Groups | None, places: Tensor, found: Tensor, counts: list[int]) -> KernelMap:
    num_cells = found.shape[1]
    rows = true_rows(found.view(-1), sum(counts))
    # int32: half the memory, and a CPU adds such rows directly where int64 ones are sorted on every call
    lower = (rows % num_cells).int().split(counts)
    upper = places.view(-1)[rows].int().split(counts)
    taps = (Tap(CENTRE + 1 + i, lower[i], upper[i]) for i in range(len(counts)) if counts[i])
    return KernelMap(num_cells, points, tuple(taps))


def _directions(taps: tuple[Tap, ...]) -> list[tuple[int, Tensor, Tensor]]:
    """(kernel entry, cells written, cells read) of the 26 entries around the centre."""
    both = []
    for tap in taps:
        both.append((tap.entry, tap.lower, tap.upper))
        both.append((2 * CENTRE - tap.entry, tap.upper, tap.lower))
    return both


class _PairedConv(Function):
    """Over cells: gather the pairs' values, multiply entry by entry, sum the products of each cell.

    The order of every sum is fixed. Half precision is summed in float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, kmap: KernelMap) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.kmap, ctx.bias_type = kmap, None if bias is None else bias.dtype
        factors = weight.flatten(1, 3).permute(1, 2, 0)  # (27, C_in, C_out)
        total = x.new_empty(x.shape[0], weight.shape[0], dtype=_sum_type(x))
        for pairs in kmap.pairs:
            total[pairs.cells] = _summed(x.index_select(0, pairs.read), factors, pairs)
        if bias is not None:
            total += bias
        return total.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        want_x, want_w, want_b, _ = ctx.needs_input_grad
        # the cell met at an entry meets this one at the opposite entry: the same pairs, read from the other end
        factors = weight.flatten(1, 3).permute(1, 0, 2).flip(0)  # (27, C_out, C_in)
        grad_x = torch.empty_like(x) if want_x else None
        grad_w = x.new_zeros(27, *weight.shape[::4], dtype=_sum_type(x))
        for pairs in ctx.kmap.pairs:
            met = grad.index_select(0, pairs.read)
            if want_x:
                grad_x[pairs.cells] = _summed(met, factors, pairs).to(x.dtype)
            if want_w:
                parts = zip(met.split(pairs.counts), x.index_select(0, pairs.written).split(pairs.counts), strict=True)
                for entry, (theirs, own) in enumerate(parts):
                    grad_w[2 * CENTRE - entry] += theirs.t() @ own
        return (
            grad_x,
            grad_w.to(weight.dtype).transpose(0, 1).reshape(weight.shape) if want_w else None,
            grad.sum(0).to(ctx.bias_type) if want_b else None,
            None,
        )


def _sum_type(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _summed(values: Tensor, factors: Tensor, pairs: Pairs) -> Tensor:
    """Values (P, C) of the pairs times the factors (27, C, C_out) of their entries, summed for each cell written."""
    products = values.new_empty(len(values), factors.shape[2])
    parts = zip(values.split(pairs.counts), factors, products.split(pairs.counts), strict=True)
    for part, factor, product in parts:
        torch.mm(part, factor, out=product)
    products = products.to(_sum_type(values))
    return F.embedding_bag(pairs.order, products, pairs.starts, mode="sum", include_last_offset=True)


class _GatheredConv(Function):
    """Over cells: all neighbours of a chunk of cells side by side, (cells, 27 C), and one product.

    The cell met at an entry meets this one at the opposite entry: the gradient of ``x`` is again such a convolution, of
    the output's gradient, and the same gathered rows give the weight's. Nothing is scattered, every sum is a product's.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, kmap: KernelMap) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.kmap, ctx.bias_type = kmap, None if bias is None else bias.dtype
        turned, out = weight.flatten(1).t(), x.new_empty(x.shape[0], weight.shape[0])
        for rows, gathered in _gathered(x, kmap):
            if bias is None:
                torch.mm(gathered, turned, out=out[rows])
            else:
                torch.addmm(bias.to(x.dtype), gathered, turned, out=out[rows])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        want_x, want_w, want_b, _ = ctx.needs_input_grad
        # entry by entry from the other end, (27 C_out, C_in)
        turned = weight.flatten(1, 3).flip(1).transpose(0, 1).flatten(0, 1)
        grad_x = torch.empty_like(x) if want_x else None
        grad_w = torch.zeros(turned.shape, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        for rows, gathered in _gathered(grad, ctx.kmap):
            if want_x:
                torch.mm(gathered, turned, out=grad_x[rows])
            if want_w:
                grad_w += gathered.t() @ x[rows]
        return (
            grad_x,
            grad_w.unflatten(0, (27, -1)).transpose(0, 1).flip(1).to(weight.dtype).view_as(weight) if want_w else None,
            grad.sum(0, dtype=ctx.bias_type) if want_b else None,
            None,
        )


def _gathers(x: Tensor) -> bool:
    return x.is_cuda and x.dtype in (torch.bfloat16, torch.float16)


def _gathered(values: Tensor, kmap: KernelMap) -> Iterator[tuple[slice, Tensor]]:
    """Chunks of cells and their neighbours' values side by side, (cells, 27 C), zeros where there is no neighbour."""
    padded = torch.cat([values, values.new_zeros(1, values.shape[1])])
    height = max(1, _GATHERED_BYTES // (27 * values.shape[1] * values.element_size()))
    for start in range(0, kmap.num_cells, height):
        rows = slice(start, min(start + height, kmap.num_cells))
        yield rows, padded.index_select(0, kmap.neighbours[rows].view(-1)).view(rows.stop - start, -1)


def submanifold_conv3d(x: Tensor, weight: Tensor, bias: Tensor | None, kmap: KernelMap) -> Tensor:
    """Submanifold 3x3x3 convolution of point features.

    Args:
        x: (N, C_in) features of the points.
        weight: (C_out, 3, 3, 3, C_in); entry (a, b, c) meets the cell at offset (a - 1, b - 1, c - 1).
        bias: (C_out,) or None. Weight has the type of ``x``; bias too, or float32.
        kmap: of these points.

    Returns:
        (N, C_out). Points that share a cell follow the module's rule (see above). Differentiable in x, weight, bias.
    """
    if kmap.points is not None:
        x = take_rows(x, kmap.points.first)
    if not kmap.taps:
        out = F.linear(x, weight[:, 1, 1, 1], None if bias is None else bias.to(x.dtype))
    else:
        out = (_GatheredConv if _gathers(x) else _PairedConv).apply(x, weight, bias, kmap)
    return out if kmap.points is None else expand_rows(out, kmap.points)


class SubmanifoldConv3d(PointModule):
    """3x3x3 submanifold convolution as a layer; parameters as spconv's ``SubMConv3d`` keeps them.

    Args:
        in_channels: width of the input.
        out_channels: width of the result.
        bias: add one.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, 3, 3, 3, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, point: Point) -> Point:
        x, weight, bias = point.feat, self.weight, self.bias
        device = x.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            x, weight = x.to(dtype), weight.to(dtype)  # the bias joins the float32 sum as it is
        point.feat = submanifold_conv3d(x, weight, bias, kernel_map(point.locate()))
        return point

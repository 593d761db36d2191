"""Patches: a cloud lined up along a curve, cut into sequences of K consecutive points.

The rule of variable-length attention, for every cloud by itself: a cloud of fewer than K points is one sequence of
its own length; a larger one is cut into sequences of K, and the last, short one is filled up with the points that
stand K places earlier, in the sequence before it. So a cloud's sequences do not depend on the rest of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lam3c_plugin.embedded.geometry import CloudGeometry
from lam3c_plugin.embedded.ptv3.rows import take_rows
from lam3c_plugin.ops.device import to_device


class SequenceBlock(NamedTuple):
    """``count`` sequences of one length, next to each other in the packed layout."""

    start: int
    count: int
    length: int
    valid: Tensor | None  # (count, 1, 1, length) bool, False for slots that hold no point; None: all hold one


class PatchPlan(NamedTuple):
    """Where the places of a curve go in the packed layout of M slots; the same for all curves of a stage."""

    blocks: tuple[SequenceBlock, ...]
    place: Tensor  # (M,) int64 place on the curve that each slot shows
    slot: Tensor  # (N,) int64 the slot a place writes to
    copy_place: Tensor  # (D,) int64 places shown a second time, each once
    copy_slot: Tensor  # (D,) int64 the slots that show them


class PatchRoute(NamedTuple):
    """A `PatchPlan` along one curve: rows of the point's features in place of places of the curve."""

    blocks: tuple[SequenceBlock, ...]
    row: Tensor  # (M,) int64
    slot: Tensor  # (N,) int64, by row
    copy_row: Tensor  # (D,) int64
    copy_slot: Tensor  # (D,) int64


def patch_route(geometry: CloudGeometry, patch_size: int, curve: str) -> PatchRoute:
    """The route of a stage's points into patches along ``curve``; made on the first call, without synchronisation."""

    def build() -> PatchRoute:
        plan = geometry.memo(
            ("patches", patch_size), lambda: plan_patches(geometry.sizes, patch_size, geometry.batch.device)
        )
        _, order, inverse = geometry.curve(curve)
        return PatchRoute(plan.blocks, order[plan.place], plan.slot[inverse], order[plan.copy_place], plan.copy_slot)

    return geometry.memo(("route", patch_size, curve), build)


def plan_patches(sizes: Sequence[int], patch_size: int, device: torch.device | str = "cpu") -> PatchPlan:
    """Patches of clouds of the given sizes.

    Args:
        sizes: points of each cloud; places of the curve are numbered cloud after cloud.
        patch_size: K, at least 1.
        device: where the index tensors are made.
    """
    starts = list(accumulate(sizes, initial=0))[:-1]
    large = [i for i, size in enumerate(sizes) if size >= patch_size]
    blocks, places, first_slot, used = [], [], [0] * len(sizes), 0
    if large:
        padded = [-(-sizes[i] // patch_size) * patch_size for i in large]
        for i, length in zip(large, padded, strict=True):
            first_slot[i] = used
            used += length
        local, size, start = _ramps(padded, [[sizes[i] for i in large], [starts[i] for i in large]], device)
        places.append(start + torch.where(local < size, local, local - patch_size))
        blocks.append(SequenceBlock(0, used // patch_size, patch_size, None))
    for members, length in _group_short(sizes, patch_size):
        for rank, i in enumerate(members):
            first_slot[i] = used + rank * length
        size = to_device([sizes[i] for i in members], device).unsqueeze(1)
        start = to_device([starts[i] for i in members], device).unsqueeze(1)
        local = torch.arange(length, device=device)
        places.append((start + torch.minimum(local, size - 1)).flatten())
        full = all(sizes[i] == length for i in members)
        blocks.append(SequenceBlock(used, len(members), length, None if full else (local < size)[:, None, None]))
        used += len(members) * length
    shift = to_device([slot - start for slot, start in zip(first_slot, starts, strict=True)], device)
    slot = torch.arange(sum(sizes), device=device) + shift.repeat_interleave(
        to_device(sizes, device), output_size=sum(sizes)
    )
    missing = [-sizes[i] % patch_size for i in large]
    offsets = [[starts[i] + sizes[i] for i in large], [first_slot[i] + sizes[i] for i in large]]
    local, end, end_slot = _ramps(missing, offsets, device)
    return PatchPlan(tuple(blocks), torch.cat(places), slot, end + local - patch_size, end_slot + local)


def pieces_of_blocks(blocks: Sequence[SequenceBlock], rows: int) -> Iterator[SequenceBlock]:
    """The blocks, those of more than ``rows`` slots cut between sequences."""
    for block in blocks:
        most = max(1, rows // block.length)
        for first in range(0, block.count, most):
            count = min(most, block.count - first)
            valid = None if block.valid is None else block.valid[first : first + count]
            yield SequenceBlock(block.start + first * block.length, count, block.length, valid)


def _ramps(lengths: Sequence[int], values: Sequence[Sequence[int]], device: torch.device | str) -> list[Tensor]:
    """0 .. length - 1 for each length, one after the other, and beside it each of ``values`` repeated to match."""
    total = sum(lengths)
    first = list(accumulate(lengths, initial=0))[:-1]
    columns = to_device([first, *values], device)
    repeats = to_device(lengths, device)
    spread = columns.repeat_interleave(repeats, dim=1, output_size=total)
    return [torch.arange(total, device=device) - spread[0], *spread[1:]]


def _group_short(sizes: Sequence[int], patch_size: int) -> list[tuple[list[int], int]]:
    """Clouds smaller than a patch, those of similar size together: (clouds, slots for each), shortest first.

    Sizes within an eighth of a power of two share a block of one length, so that little is spent on empty slots and
    the same few lengths come back in every batch.
    """
    bins: dict[int, list[int]] = {}
    for i, size in enumerate(sizes):
        if 0 < size < patch_size:
            step = max(8, 1 << max(0, (size - 1).bit_length() - 4))
            bins.setdefault(min(-(-size // step) * step, patch_size), []).append(i)
    return [(members, length) for length, members in sorted(bins.items())]


class _Pack(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, route: PatchRoute) -> Tensor:
        ctx.route = route
        return x.index_select(0, route.row)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        route = ctx.route
        out = grad.index_select(0, route.slot)
        # a row is shown a second time at most once, so no two additions meet
        both = out.index_select(0, route.copy_row) + grad.index_select(0, route.copy_slot)
        return out.index_copy_(0, route.copy_row, both), None


def pack(x: Tensor, route: PatchRoute) -> Tensor:
    """Rows of points (N, C) to slots of patches (M, C). Differentiable.

    Slots without a point show some point of the cloud; whoever reads them must mask them (``SequenceBlock.valid``),
    and then they carry no gradient.
    """
    return _Pack.apply(x, route)


def unpack(packed: Tensor, route: PatchRoute) -> Tensor:
    """Slots of patches (M, C) back to rows of points (N, C): each row takes its own slot. Differentiable."""
    return take_rows(packed, route.slot)

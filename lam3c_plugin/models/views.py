"""Masks, matches and the roll between the views of a scene: index work without gradients."""

from __future__ import annotations

from itertools import accumulate, pairwise

import torch
from torch import Tensor

from lam3c_plugin.ops import knn, offset2batch
from lam3c_plugin.ops.device import host_values, offset_on_device, to_device


@torch.no_grad()
def generate_mask(coord: Tensor, offset: Tensor, mask_size: float, mask_ratio: float) -> Tensor:
    """Draw masked points by whole grid patches.

    Args:
        coord: (N, 3) coordinates in metres, as the backbone gets them.
        offset: (B,) running sums of the clouds' sizes.
        mask_size: edge of a patch in metres.
        mask_ratio: share of the batch's patches that is masked.

    Returns:
        (N,) bool, True where a point is masked.
    """
    batch = offset2batch(offset)
    lowest = coord.new_zeros(len(offset), 3)
    for cloud, (start, end) in enumerate(pairwise([0, *host_values(offset)])):
        if end > start:
            lowest[cloud] = coord[start:end].amin(0)
    cell = ((coord - lowest[batch]) / mask_size).long()
    # one integer a cell: unique over rows would sort row by row
    extent = cell.amax(dim=0) + 1 if len(cell) else cell.new_ones(3)
    key = ((batch * extent[0] + cell[:, 0]) * extent[1] + cell[:, 1]) * extent[2] + cell[:, 2]
    patches, patch_of_point = torch.unique(key, return_inverse=True)
    num_masked = int(len(patches) * mask_ratio)
    masked = torch.zeros(len(patches), dtype=torch.bool, device=coord.device)
    masked.index_fill_(0, torch.randperm(len(patches), device=coord.device)[:num_masked], True)
    return masked[patch_of_point]


@torch.no_grad()
def jitter_masked(coord: Tensor, mask: Tensor, sigma: float) -> Tensor:
    """Copy of ``coord`` (N, 3) whose masked points moved by Gaussian noise of ``sigma`` metres, cut at +-2 sigma."""
    noise = torch.randn_like(coord).mul_(sigma).clamp_(-2.0 * sigma, 2.0 * sigma)
    return torch.where(mask.unsqueeze(-1), coord + noise, coord)


@torch.no_grad()
def roll_index(offset: Tensor) -> tuple[Tensor, Tensor]:
    """Swap the two global views of every scene.

    Args:
        offset: (2 S,) running sums; views 2s and 2s + 1 belong to scene s.

    Returns:
        rows (N,) such that ``x[rows]`` is ``x`` with each scene's views swapped, and the offset (2 S,) of the result.

    Raises:
        ValueError: the number of views is odd.
    """
    if len(offset) % 2:
        raise ValueError(f"roll needs two global views a scene, got {len(offset)} views in all")
    spans = list(pairwise([0, *host_values(offset)]))
    rolled = [spans[view ^ 1] for view in range(len(spans))]
    ends = list(accumulate(end - start for start, end in rolled))
    # how far each rolled view stands from where it comes from
    shift = to_device([start - first for (start, _), first in zip(rolled, [0, *ends], strict=False)], offset.device)
    rolled_offset = offset_on_device(ends, offset.device)
    view = offset2batch(rolled_offset)
    return torch.arange(len(view), device=offset.device) + shift[view], rolled_offset


@torch.no_grad()
def principal_rows(offset: Tensor, num_views: int) -> tuple[Tensor, Tensor]:
    """Rows of every scene's first view, ascending, and the offset (S,) of these rows; scenes have ``num_views``."""
    starts = list(pairwise([0, *host_values(offset)]))[::num_views]
    principal_offset = offset_on_device(list(accumulate(end - start for start, end in starts)), offset.device)
    first = [0, *host_values(principal_offset)]
    shift = to_device([start - row for (start, _), row in zip(starts, first, strict=False)], offset.device)
    scene = offset2batch(principal_offset)
    return torch.arange(len(scene), device=offset.device) + shift[scene], principal_offset


@torch.no_grad()
def match_points(
    coord: Tensor, offset: Tensor, target_coord: Tensor, target_offset: Tensor, max_radius: float
) -> Tensor:
    """Nearest target of every point, where one lies within ``max_radius`` metres (a distance, not its square).

    Args:
        coord: (N, 3) points in the original coordinates; ``offset`` (B,) their clouds.
        target_coord: (M, 3) candidates; ``target_offset`` (B,): cloud b is matched to cloud b.

    Returns:
        (P, 2) int64 rows [point, target].
    """
    index, _ = knn(coord.float(), offset, target_coord.float(), target_offset, k=1, max_radius=max_radius)
    index = index.squeeze(1)
    matched = (index >= 0).nonzero().squeeze(1)
    return torch.stack([matched, index[matched]], dim=1)

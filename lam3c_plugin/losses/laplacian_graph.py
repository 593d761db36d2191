"""The graph of the Laplacian term: nearest neighbours, cut by length and weighted. No features, no gradient."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lam3c_plugin.ops.neighbours import knn
from lam3c_plugin.ops.segments import bincount2offset, offset2batch, offset2bincount

# First radius of the search when sigma is to be measured, in units of max_distance: 24 neighbours of a surface
# sampled every max_distance lie within 2.8 of them.
_SIGMA_REACH = 4.0


class LaplacianGraph(NamedTuple):
    """Pairs of points with their share of the loss; build once a batch with `build_laplacian_graph`."""

    pairs: Tensor  # (2, P) int64 rows, first < second, every pair of points once
    weight: Tensor  # (P,) share of the pair in the sum over this rank's clouds, both directions together
    points: Tensor  # (Q,) int64 rows that are in a pair, ascending
    neighbour: Tensor  # (2P,) int64 the pairs as lists of neighbours, one list after the other for each of `points`
    neighbour_offset: Tensor  # (Q + 1,) int64 where each list begins
    pair_of_neighbour: Tensor  # (2P,) int64 column of `pairs` a list entry comes from
    clouds: Tensor  # 0-d int64 clouds with an edge
    num_points: int
    edges: int  # directed edges (point -> one of its k nearest) that survive the cut
    points_with_edge: Tensor  # 0-d int64
    sigma: Tensor  # (B,) metres, 0 for a cloud of fewer than two points


@torch.no_grad()
def build_laplacian_graph(
    coord: Tensor, offset: Tensor, k: int = 24, sigma: float | None = None, max_distance: float | None = 0.08
) -> LaplacianGraph:
    """Edges from each point to its ``k`` nearest other points of its cloud, those beyond ``max_distance`` cut.

    Another point at the same place is another point. An edge weighs exp(-length^2 / sigma^2), divided by the sum over
    its point's edges, by the number of its cloud's points that have an edge.

    Args:
        coord: (N, 3) metres.
        offset: (B,) running sums of the clouds' sizes.
        k: >= 1.
        max_distance: metres, an edge of exactly this length stays; None cuts nothing.
        sigma: metres; None measures it: per cloud, the median over its points of the distance to the k-th other point
            (the farthest where there are fewer).

    Raises:
        ValueError: a setting that is not positive, shapes that do not fit, a coordinate that is not finite.
    """
    index, weight, sigmas = laplacian_edges(coord, offset, k, sigma, max_distance)
    num_points = coord.shape[0]
    batch = offset2batch(offset, num_points)
    degree = weight.sum(1)
    points = torch.zeros_like(sigmas).index_add_(0, batch, (degree > 0).to(sigmas.dtype))
    share = (degree * points[batch]).reciprocal_().nan_to_num_(posinf=0.0)
    source, slot = (weight > 0).nonzero(as_tuple=True)
    target, weight = index[source, slot], weight[source, slot] * share[source]
    pairs, pair_weight = _merge(source, target, weight, num_points)
    ends = torch.cat([pairs[0], pairs[1]])
    ends, order = torch.sort(ends, stable=True)
    paired, count = torch.unique_consecutive(ends, return_counts=True)
    return LaplacianGraph(
        pairs=pairs,
        weight=pair_weight,
        points=paired,
        neighbour=torch.cat([pairs[1], pairs[0]])[order],
        neighbour_offset=torch.cat([count.new_zeros(1), bincount2offset(count)]),
        pair_of_neighbour=order % max(1, pairs.shape[1]),
        clouds=(points > 0).sum(),
        num_points=num_points,
        edges=source.shape[0],
        points_with_edge=points.sum().long(),
        sigma=sigmas,
    )


@torch.no_grad()
def laplacian_edges(
    coord: Tensor, offset: Tensor, k: int, sigma: float | None, max_distance: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The same graph as a table: index (N, k) int64, weight (N, k) float32 with 0 for a cut edge, sigma (B,)."""
    for name, value in (("k", k), ("sigma", sigma), ("max_distance", max_distance)):
        if value is not None and not value > 0:
            raise ValueError(f"{name}={value}: give a positive value")
    index, distance, sigmas = _neighbours(coord, offset, k, sigma, max_distance)
    kept = (index >= 0) & (distance <= (torch.inf if max_distance is None else max_distance))
    # Relative to the shortest edge of the point: the same after the division by their sum, which then is at least 1,
    # however small sigma is (0, where points coincide).
    square = distance.square()
    excess = torch.where(kept, square - square[:, :1], 0.0)
    scale = sigmas.square()[offset2batch(offset, coord.shape[0]), None]
    weight = torch.where(excess > 0, torch.exp(-excess / scale), 1.0) * kept
    return index.clamp_(min=0), weight, sigmas


def _neighbours(
    coord: Tensor, offset: Tensor, k: int, sigma: float | None, max_distance: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    if sigma is not None:
        index, distance = _others(coord, offset, k, max_distance)
        return index, distance, torch.full(offset.shape, float(sigma), device=coord.device)
    if max_distance is not None:
        # The median asks for less than half of the k-th distances: a bounded search mostly finds enough of them.
        index, distance = _others(coord, offset, k, _SIGMA_REACH * max_distance)
        sigmas = _median_reach(distance, offset, k)
        if bool(torch.isfinite(sigmas).all()):
            return index, distance, sigmas
    index, distance = _others(coord, offset, k, None)
    return index, distance, _median_reach(distance, offset, k)


def _others(coord: Tensor, offset: Tensor, k: int, max_radius: float | None) -> tuple[Tensor, Tensor]:
    """The k nearest *other* points (N, k): the point itself is left out by its row, not by its distance."""
    index, distance = knn(coord, offset, coord, offset, k + 1, max_radius)
    drop = index == torch.arange(coord.shape[0], device=coord.device)[:, None]
    # Among more than k points at its own place a point may miss itself: then the last goes.
    drop[:, -1] |= ~drop.any(1)
    # exactly one column of each row goes; picked by number, since a GPU waits for the size of a choice by mask
    kept = torch.arange(k, device=coord.device)
    kept = kept + (kept >= drop.to(torch.uint8).argmax(1, keepdim=True))
    return index.gather(1, kept), distance.gather(1, kept)


def _median_reach(distance: Tensor, offset: Tensor, k: int) -> Tensor:
    """Median over each cloud's points of the distance to the k-th (or last) other point, (B,); +inf: not known."""
    size = offset2bincount(offset)
    batch = offset2batch(offset, distance.shape[0])
    last = (size - 1).clamp(min=1, max=k)[batch] - 1
    reach = distance.gather(1, last[:, None]).squeeze(1)
    by_cloud = reach.sort().indices
    by_cloud = by_cloud[batch[by_cloud].sort(stable=True).indices]
    reach = torch.cat([reach[by_cloud], reach.new_zeros(1)])  # one more, so that an empty last cloud can be read
    start = offset.long() - size
    lower, upper = reach[start + ((size - 1) // 2).clamp(min=0)], reach[start + size // 2]
    return torch.where(size > 1, (lower + upper) / 2, 0.0)


def _merge(source: Tensor, target: Tensor, weight: Tensor, num_points: int) -> tuple[Tensor, Tensor]:
    """Both directions of a pair as one: (2, P) with first < second, (P,) summed weights."""
    key = torch.minimum(source, target) * num_points + torch.maximum(source, target)
    key, order = torch.sort(key)
    key, pair = torch.unique_consecutive(key, return_inverse=True)
    merged = torch.zeros(key.shape[0], dtype=weight.dtype, device=weight.device).index_add_(0, pair, weight[order])
    first = torch.div(key, max(1, num_points), rounding_mode="floor")
    return torch.stack([first, key - first * num_points]), merged

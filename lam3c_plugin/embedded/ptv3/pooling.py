"""Between the stages of PTv3: points of a coarser cell become one point, and back."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lam3c_plugin.embedded.geometry import CloudGeometry
from lam3c_plugin.embedded.ptv3.rows import Groups, expand_rows, group_by_key, group_max, group_mean
from lam3c_plugin.embedded.structure import Point, PointModule, PointSequential
from lam3c_plugin.ops.device import host_values, offset_on_device

# what a pooled point takes over as it is, and what it averages over its points
_KEPT = ("condition", "context", "name", "split")
_AVERAGED = ("coord", "origin_coord", "color")


class PoolingPlan(NamedTuple):
    """Which points become one."""

    groups: Groups  # the points of each pooled point
    geometry: CloudGeometry  # of the pooled points, sorted by cloud, x, y, z
    offset: Tensor  # (B,) int64 running sums of the pooled clouds' sizes


def pooling_plan(geometry: CloudGeometry, stride: int) -> PoolingPlan:
    """The plan for cells ``stride`` times as wide; made on the first call.

    A GPU is waited for twice where ``geometry.cells_by_factor`` does not know the numbers of cells, else not at all.
    """
    return geometry.memo(("pooling", stride), lambda: _plan_pooling(geometry, stride))


def _plan_pooling(geometry: CloudGeometry, stride: int) -> PoolingPlan:
    cells = torch.div(geometry.cells, stride, rounding_mode="floor")
    tops = [top // stride for top in geometry.tops]
    coarse = CloudGeometry(cells, geometry.batch, geometry.sizes, tops, geometry.origin)
    sizes = geometry.cells_by_factor.get(stride)
    groups = group_by_key(coarse.keys(), None if sizes is None else sum(sizes))
    first = groups.first
    batch = geometry.batch[first]
    if sizes is None:
        clouds = torch.arange(len(tops), device=batch.device)
        offset = torch.searchsorted(batch, clouds, right=True)
        sizes = [end - start for start, end in pairwise([0, *host_values(offset)])]
    else:
        offset = offset_on_device(list(accumulate(sizes)), batch.device)
    pooled = CloudGeometry(cells[first], batch, sizes, tops, geometry.origin, cells_sorted=True)
    for factor, counts in geometry.cells_by_factor.items():
        if factor % stride == 0:
            pooled.cells_by_factor[factor // stride] = counts
    return PoolingPlan(groups, pooled, offset)


class GridPooling(PointModule):
    """Linear, maximum over the points of a cell ``stride`` times as wide, LayerNorm, GELU.

    ``coord``, ``origin_coord`` and ``color`` are averaged; the pooled points stand sorted by cloud, x, y, z. The
    result keeps ``pooling_parent`` (the point before), ``pooling_inverse`` (N_parent,) int64, each parent's pooled
    row, and ``idx_ptr``. Channels that tie for the maximum share its gradient.

    Args:
        in_channels: width of the input.
        out_channels: width of the result.
        stride: cells joined along each axis, at least 1.
        shuffle_orders: give the pooled points' curves to the blocks in random order, in training only.
        traceable: keep parent and inverse.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 2,
        shuffle_orders: bool = False,
        traceable: bool = True,
    ) -> None:
        super().__init__()
        if stride < 1:
            raise ValueError(f"stride must be at least 1, got {stride}")
        self.stride = stride
        self.shuffle_orders = shuffle_orders
        self.traceable = traceable
        self.proj = nn.Linear(in_channels, out_channels)
        self.norm = PointSequential(nn.LayerNorm(out_channels))
        self.act = PointSequential(nn.GELU())

    def forward(self, point: Point) -> Point:
        groups, geometry, offset = pooling_plan(point.locate(), self.stride)
        pooled = Point(
            feat=group_max(self.proj(point.feat), groups),
            grid_coord=geometry.cells,
            batch=geometry.batch,
            offset=offset,
            geometry=geometry,
            **{key: point[key] for key in _KEPT if key in point},
        )
        for key in _AVERAGED:
            if key in point:
                values = point[key] if point[key].is_floating_point() else point[key].float()
                pooled[key] = group_mean(values, groups)
        if "grid_size" in point:
            pooled["grid_size"] = point.grid_size * self.stride
        if self.traceable:
            pooled.update(
                pooling_inverse=groups.group, pooling_parent=point, pooling_groups=groups, idx_ptr=groups.starts
            )
        pooled = self.act(self.norm(pooled))
        pooled.serialization(point.order, shuffle_orders=self.shuffle_orders and self.training)
        return pooled


class GridUnpooling(PointModule):
    """Back to the finer stage: Linear, LayerNorm, GELU of both, the coarse ones spread over their points and added.

    Args:
        in_channels: of the coarse points.
        skip_channels: of the fine ones, as the encoder left them.
        out_channels: of the result.
        traceable: keep the coarse point, features unchanged, as ``unpooling_parent`` of the result.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, traceable: bool = False) -> None:
        super().__init__()
        self.proj = PointSequential(nn.Linear(in_channels, out_channels), nn.LayerNorm(out_channels), nn.GELU())
        self.proj_skip = PointSequential(nn.Linear(skip_channels, out_channels), nn.LayerNorm(out_channels), nn.GELU())
        self.traceable = traceable

    def forward(self, point: Point) -> Point:
        parent = self.proj_skip(point.pop("pooling_parent"))
        parent.feat = parent.feat + expand_rows(self.proj(point.feat), point.pooling_groups)
        if self.traceable:
            parent["unpooling_parent"] = point
        return parent

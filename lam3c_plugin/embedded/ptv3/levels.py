"""All stages' pooled clouds and neighbour tables at once: their sizes reach the host in two read-backs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import mul

import torch

from lam3c_plugin.embedded.geometry import CloudGeometry
from lam3c_plugin.embedded.ptv3.pooling import pooling_plan
from lam3c_plugin.embedded.ptv3.sparse_conv import kernel_maps
from lam3c_plugin.ops.device import reads_wait


def prepare_levels(geometry: CloudGeometry, strides: Sequence[int], depths: Sequence[int]) -> None:
    """Make what the stages would make one after the other, on a GPU, where every size read back is a wait.

    The result is what `pooling_plan` and `kernel_map` give by themselves. On a CPU, and for strides that
    are no powers of two, nothing happens here.

    Args:
        geometry: of the finest stage.
        strides: cells joined along each axis between a stage and the next.
        depths: blocks of each stage; one without any needs no neighbour table.
    """
    if not reads_wait(geometry.cells) or any(stride & (stride - 1) for stride in strides):
        return
    with torch.no_grad():
        factors = list(accumulate([1, *strides], mul))
        if geometry.cells_by_factor.keys().isdisjoint(factors[1:]):
            geometry.count_cells(factors)
        stages = [geometry]
        for stride in strides:
            stages.append(pooling_plan(stages[-1], stride).geometry)
        kernel_maps([stage for stage, depth in zip(stages, depths, strict=True) if depth > 0])

"""Tensors in, tensors out: neighbours, segments, Sinkhorn-Knopp, sums over ranks. No registry, no host."""

from lam3c_plugin.ops.neighbours import knn
from lam3c_plugin.ops.segments import (
    batch2offset,
    bincount2offset,
    offset2batch,
    offset2bincount,
    segment_count,
    segment_max,
    segment_mean,
    segment_sum,
)

__all__ = [
    "batch2offset",
    "bincount2offset",
    "knn",
    "offset2batch",
    "offset2bincount",
    "segment_count",
    "segment_max",
    "segment_mean",
    "segment_sum",
]

"""Tensors in, tensors out: neighbours, segments, Sinkhorn-Knopp, sums over ranks. No registry, no host."""

from lam3c_plugin.ops.distributed import all_reduce_max, all_reduce_sum, global_mean, world_size
from lam3c_plugin.ops.neighbours import knn
from lam3c_plugin.ops.segments import (
    batch2offset,
    bincount2offset,
    offset2batch,
    offset2bincount,
    segment_count,
    segment_mean,
    segment_sum,
)
from lam3c_plugin.ops.sinkhorn import sinkhorn_knopp, sinkhorn_knopp_reference

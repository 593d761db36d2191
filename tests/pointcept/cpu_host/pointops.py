"""Stand-in for Pointcept's CUDA-only `pointops`: the nearest-neighbour search, exact, on the CPU (tests only)."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree


@torch.no_grad()
def knn_query(nsample, xyz, offset, new_xyz=None, new_offset=None):
    """Indices (m, nsample) int32 and *distances* (m, nsample), as the real one (whose docstring says squares)."""
    if new_xyz is None or new_offset is None:
        new_xyz, new_offset = xyz, offset
    index = np.full((len(new_xyz), nsample), -1, dtype=np.int32)
    distance = np.full((len(new_xyz), nsample), 1e5, dtype=np.float32)
    start = new_start = 0
    for end, new_end in zip(offset.tolist(), new_offset.tolist(), strict=True):
        k = min(nsample, end - start)
        if k > 0 and new_end > new_start:
            tree = cKDTree(xyz[start:end].float().numpy())
            found, rows = tree.query(new_xyz[new_start:new_end].float().numpy(), k=np.arange(1, k + 1))
            index[new_start:new_end, :k] = rows + start
            distance[new_start:new_end, :k] = found
        start, new_start = end, new_end
    return torch.from_numpy(index), torch.from_numpy(distance)


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    from lam3c_cpu_host import made_up_class

    return made_up_class(f"pointops.{name}")

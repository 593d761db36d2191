"""Exact k nearest neighbours between the clouds of two batches, in metres."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lam3c_plugin.ops.device import host_values, reads_wait
from lam3c_plugin.ops.grid_search import grid_knn
from lam3c_plugin.ops.segments import offset2batch

BACKENDS = ("auto", "scipy", "grid", "cdist", "pointops")
# pointops compares every pair of a cloud; above this many points a cloud the grid has less to do.
_POINTOPS_MAX_CLOUD = 16384
_POINTOPS_MAX_K = 128
_LEAST_QUERIES_A_JOB = 1024


@torch.no_grad()
def knn(
    query: Tensor,
    query_offset: Tensor,
    ref: Tensor,
    ref_offset: Tensor,
    k: int,
    max_radius: float | None = None,
    *,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest reference points of every query point, within its own cloud.

    Args:
        query: (M, 3) coordinates in metres.
        query_offset: (B,) running sums of the clouds' sizes.
        ref: (N, 3) coordinates in metres.
        ref_offset: (B,); cloud b of ``query`` looks into cloud b of ``ref``.
        k: how many; a cloud with fewer points leaves the rest empty.
        max_radius: metres; points farther away are left out (one exactly at the radius counts). None: no bound.
        backend: "auto", or one of "scipy" (k-d tree, CPU), "grid" (needs ``max_radius``), "cdist", "pointops" (CUDA).

    Returns:
        index (M, k) int64, the row in ``ref`` (of the whole batch), -1 where there is none;
        distance (M, k) float32 in metres (not squared), +inf where there is none. Both ascend with the distance;
        equal distances come in any order.

    Raises:
        ValueError: k < 1, a radius that is not positive, wrong shapes, offsets that do not fit, a coordinate that is
            not finite, an unknown backend.
    """
    # The search is in float32 (float64 for float64), also for half-precision coordinates.
    dtype = torch.float64 if torch.float64 in (query.dtype, ref.dtype) else torch.float32
    query, ref = query.detach().to(dtype), ref.detach().to(dtype)
    _check_shape(query, query_offset, "query")
    _check_shape(ref, ref_offset, "ref")
    _check_finite({"query": query, "ref": ref})
    if query_offset.shape[0] != ref_offset.shape[0]:
        raise ValueError(
            f"query_offset has {query_offset.shape[0]} clouds, ref_offset {ref_offset.shape[0]}: "
            "cloud b of query looks into cloud b of ref, so give both the same number (empty clouds are fine)"
        )
    if k < 1:
        raise ValueError(f"k={k}: ask for at least one neighbour")
    if max_radius is not None and not max_radius > 0:
        raise ValueError(f"max_radius={max_radius}: give a positive radius in metres, or None for no bound")
    search = _choose(backend, query, ref_offset, k, max_radius)
    return search(query, query_offset, ref, ref_offset, k, max_radius)


def _check_shape(coord: Tensor, offset: Tensor, name: str) -> None:
    if coord.dim() != 2 or coord.shape[1] != 3:
        raise ValueError(f"{name} has shape {tuple(coord.shape)}: give coordinates of shape (number of points, 3)")
    end = host_values(offset.reshape(-1) if offset.dim() != 1 else offset)[-1] if offset.numel() else 0
    if offset.dim() != 1 or end != coord.shape[0]:
        raise ValueError(f"{name}_offset ends at {end}, but {name} has {coord.shape[0]} points: give running sums")


def _check_finite(coords: dict[str, Tensor]) -> None:
    if all(reads_wait(coord) for coord in coords.values()):  # one read-back for all
        finite = torch.stack([torch.isfinite(coord).all() for coord in coords.values()]).tolist()
    else:  # in NumPy, see `_scipy_knn`
        finite = [bool(np.isfinite(coord.numpy()).all()) for coord in coords.values()]
    for good, (name, coord) in zip(finite, coords.items(), strict=True):
        if not good:
            row = int((~torch.isfinite(coord)).any(1).nonzero()[0])
            raise ValueError(f"{name}[{row}] = {coord[row].tolist()} is not finite: drop such points first")


def _choose(backend: str, query: Tensor, ref_offset: Tensor, k: int, max_radius: float | None) -> Callable:
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r}: choose one of {', '.join(BACKENDS)}")
    if backend == "grid" and max_radius is None:
        raise ValueError("backend='grid' needs max_radius; use 'cdist' or 'scipy' for a search without bound")
    if backend == "auto":
        backend = _auto_backend(query, ref_offset, k, max_radius)
    return {"scipy": _scipy_knn, "grid": _grid_knn, "cdist": _cdist_knn, "pointops": _pointops_knn}[backend]


def _auto_backend(query: Tensor, ref_offset: Tensor, k: int, max_radius: float | None) -> str:
    if not reads_wait(query):
        return "scipy"
    largest = max((end - start for start, end in pairwise([0, *host_values(ref_offset)])), default=0)
    small = max_radius is None or largest <= _POINTOPS_MAX_CLOUD
    if query.is_cuda and small and k <= _POINTOPS_MAX_K and find_spec("pointops") is not None:
        return "pointops"
    return "cdist" if max_radius is None else "grid"


def _spans(query_offset: Tensor, ref_offset: Tensor) -> list[tuple[int, int, int, int]]:
    """(first query, end, first ref, end) of every cloud in which there is something to find."""
    q, r = [0, *host_values(query_offset)], [0, *host_values(ref_offset)]
    spans = zip(q[:-1], q[1:], r[:-1], r[1:], strict=True)
    return [span for span in spans if span[1] > span[0] and span[3] > span[2]]


def _empty(query: Tensor, k: int) -> tuple[Tensor, Tensor]:
    index = torch.full((query.shape[0], k), -1, dtype=torch.long, device=query.device)
    return index, torch.full((query.shape[0], k), torch.inf, device=query.device)


def _scipy_knn(
    query: Tensor, query_offset: Tensor, ref: Tensor, ref_offset: Tensor, k: int, max_radius: float | None
) -> tuple[Tensor, Tensor]:
    """A k-d tree per cloud; trees and pieces of the queries are shared out over the threads."""
    from scipy.spatial import cKDTree  # keeps `import lam3c_plugin.ops` light

    spans = _spans(query_offset, ref_offset)
    # NumPy from here on: the threads of a parallel PyTorch operation would keep spinning beside ours.
    q, r = query.cpu().numpy(), ref.cpu().numpy()
    index, distance = np.full((len(q), k), -1, np.int64), np.full((len(q), k), np.inf, np.float32)
    radius = np.inf if max_radius is None else np.float32(max_radius)
    threads = torch.get_num_threads()
    piece = max(_LEAST_QUERIES_A_JOB, -(-len(q) // (4 * threads)))

    def build(span: tuple[int, int, int, int]) -> cKDTree:
        # Unbalanced trees are built in half the time and are as quick to query at these densities.
        return cKDTree(r[span[2] : span[3]], balanced_tree=False, compact_nodes=False)

    def search(job: tuple[cKDTree, int, int, int]) -> None:
        tree, begin, end, first_ref = job
        near = min(k, tree.n)
        # SciPy's bound is exclusive: ask for a little more, cut exactly below.
        found = tree.query(q[begin:end], k=near, distance_upper_bound=float(radius) * (1 + 1e-6))
        far, row = (values.reshape(-1, near) for values in found)
        distance[begin:end, :near] = far
        np.add(row, first_ref, out=index[begin:end, :near])
        if max_radius is not None:
            beyond = distance[begin:end] > radius
            np.putmask(distance[begin:end], beyond, np.inf)
            np.putmask(index[begin:end], beyond, -1)

    with ThreadPoolExecutor(threads) as pool:
        run = pool.map if threads > 1 else map
        jobs = [
            (tree, begin, min(begin + piece, span[1]), span[2])
            for span, tree in zip(spans, run(build, spans), strict=True)
            for begin in range(span[0], span[1], piece)
        ]
        for _ in run(search, jobs):
            pass
    return torch.from_numpy(index).to(query.device), torch.from_numpy(distance).to(query.device)


def _grid_knn(
    query: Tensor, query_offset: Tensor, ref: Tensor, ref_offset: Tensor, k: int, max_radius: float | None
) -> tuple[Tensor, Tensor]:
    query_batch = offset2batch(query_offset, query.shape[0])
    return grid_knn(query, query_batch, ref, offset2batch(ref_offset, ref.shape[0]), k, max_radius)


def _cdist_knn(
    query: Tensor, query_offset: Tensor, ref: Tensor, ref_offset: Tensor, k: int, max_radius: float | None
) -> tuple[Tensor, Tensor]:
    """All pairs of a cloud, a block of queries at a time."""
    index, distance = _empty(query, k)
    budget = 2**25 if query.is_cuda else 2**21
    for q0, q1, r0, r1 in _spans(query_offset, ref_offset):
        near = min(k, r1 - r0)
        for rows in torch.arange(q0, q1, device=query.device).split(max(1, budget // (r1 - r0))):
            # Through a matrix product the distance of close points would drown in rounding.
            pair = torch.cdist(query[rows], ref[r0:r1], compute_mode="donot_use_mm_for_euclid_dist")
            far, row = pair.topk(near, dim=1, largest=False, sorted=True)
            far = far.float()
            distance[rows, :near], index[rows, :near] = far, row + r0
    return _bounded(index, distance, max_radius)


def _pointops_knn(
    query: Tensor, query_offset: Tensor, ref: Tensor, ref_offset: Tensor, k: int, max_radius: float | None
) -> tuple[Tensor, Tensor]:
    """The host's CUDA brute force. It returns distances, although its docstring calls them dist2."""
    import pointops

    index, distance = pointops.knn_query(
        k, ref.float().contiguous(), ref_offset.int(), query.float().contiguous(), query_offset.int()
    )
    return _bounded(index.long(), torch.where(index < 0, torch.inf, distance), max_radius)


def _bounded(index: Tensor, distance: Tensor, max_radius: float | None) -> tuple[Tensor, Tensor]:
    if max_radius is None:
        return index, distance
    far = distance > max_radius
    return index.masked_fill_(far, -1), distance.masked_fill_(far, torch.inf)

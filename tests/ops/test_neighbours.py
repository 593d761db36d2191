import sys
import types

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from lam3c_plugin.ops import bincount2offset, grid_search, knn, neighbours

BACKENDS = ["auto", "scipy", "grid", "cdist"]


def clouds(query_sizes, ref_sizes, dtype=torch.float32, shift=0.0, seed=0):
    torch.manual_seed(seed)
    query = torch.rand(sum(query_sizes), 3, dtype=dtype) * 2 - 1 + shift
    ref = torch.rand(sum(ref_sizes), 3, dtype=dtype) * 2 - 1 + shift
    return query, bincount2offset(torch.tensor(query_sizes)), ref, bincount2offset(torch.tensor(ref_sizes))


def brute_force(query, query_offset, ref, ref_offset, k, max_radius):
    """Distances only, (M, k): equal distances may come in any order."""
    out = np.full((len(query), k), np.inf)
    q, r = [0, *query_offset.tolist()], [0, *ref_offset.tolist()]
    for b in range(len(q) - 1):
        for i in range(q[b], q[b + 1]):
            far = np.sort(np.linalg.norm(query[i].double().numpy() - ref[r[b] : r[b + 1]].double().numpy(), axis=1))
            far = far[far <= (np.inf if max_radius is None else max_radius)][:k]
            out[i, : len(far)] = far
    return torch.from_numpy(out).float()


def check(query, query_offset, ref, ref_offset, k, max_radius, backend):
    index, distance = knn(query, query_offset, ref, ref_offset, k, max_radius, backend=backend)
    want = brute_force(query, query_offset, ref, ref_offset, k, max_radius)
    assert index.dtype == torch.int64
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance, want, atol=2e-6, rtol=1e-6)
    found = index >= 0
    assert torch.equal(found, torch.isfinite(distance))
    assert bool((index[~found] == -1).all())
    of = torch.arange(len(query))[:, None].expand_as(index)[found]
    measured = (query[of].double() - ref[index[found]].double()).norm(dim=1).float()
    torch.testing.assert_close(measured, distance[found], atol=2e-6, rtol=1e-6)
    for row in index:  # no reference point twice
        assert len(set(row[row >= 0].tolist())) == int((row >= 0).sum())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("max_radius", [None, 0.3, 0.02, 50.0])
@pytest.mark.parametrize("k", [1, 6, 40])
def test_exact_against_brute_force(backend, max_radius, k):
    if backend == "grid" and max_radius is None:
        pytest.skip("the grid needs a radius")
    # k larger than a cloud, empty clouds on either side, one point, clouds of different sizes
    data = clouds([60, 0, 1, 40, 20, 0], [50, 30, 0, 5, 120, 0])
    check(*data, k, max_radius, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_doubles_far_from_the_origin_and_duplicates(backend):
    query, q, ref, r = clouds([50, 30], [60, 70], dtype=torch.float64, shift=4000.0)
    ref[10:30] = ref[10]
    query[:5] = ref[10]
    check(query, q, ref, r, 7, 0.4, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_point_finds_itself_and_the_radius_is_inclusive(backend):
    line = torch.tensor([[0.0, 0, 0], [0.25, 0, 0], [0.75, 0, 0]])
    offset = torch.tensor([3], dtype=torch.int32)
    index, distance = knn(line, offset, line, offset, 3, 0.25, backend=backend)
    assert index.tolist() == [[0, 1, -1], [1, 0, -1], [2, -1, -1]]
    assert distance.tolist() == [[0, 0.25, torch.inf], [0, 0.25, torch.inf], [0, torch.inf, torch.inf]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_to_search(backend):
    empty, none = torch.zeros(0, 3), torch.zeros(2, dtype=torch.long)
    index, distance = knn(empty, none, empty, none, 4, 0.1, backend=backend)
    assert index.shape == distance.shape == (0, 4)
    points = torch.rand(5, 3)
    index, distance = knn(points, torch.tensor([3, 5]), empty, none, 2, 0.1, backend=backend)
    assert bool((index == -1).all())
    assert bool(torch.isinf(distance).all())


def test_half_precision_coordinates_and_gradients_in_the_way():
    query, q, ref, r = clouds([20], [30])
    half = query.bfloat16().requires_grad_()
    index, distance = knn(half, q, ref.requires_grad_(), r, 3)
    want = knn(half.detach().float(), q, ref.detach(), r, 3)
    assert torch.equal(index, want[0])
    assert torch.equal(distance, want[1])
    assert not distance.requires_grad


def test_blocks_and_threads_do_not_change_the_result(monkeypatch):
    data = clouds([700, 300], [500, 900])
    want = knn(*data, 5, 0.2)
    monkeypatch.setattr(grid_search, "_QUERIES_A_BLOCK", 97)
    monkeypatch.setattr(neighbours, "_LEAST_QUERIES_A_JOB", 61)
    for backend in ("grid", "scipy"):
        got = knn(*data, 5, 0.2, backend=backend)
        torch.testing.assert_close(got[1], want[1], atol=1e-6, rtol=1e-6)
        assert (got[0] == want[0]).float().mean() > 0.999  # ties may differ


def test_grid_of_a_huge_cloud_keeps_its_keys_in_range():
    torch.manual_seed(0)
    ref = torch.rand(200, 3, dtype=torch.float64) * 1e7
    query, offset = ref + 0.01, torch.tensor([200])
    index, distance = knn(query, offset, ref, offset, 2, 0.05, backend="grid")
    assert torch.equal(index[:, 0], torch.arange(200))
    assert bool((index[:, 1] == -1).all())
    torch.testing.assert_close(distance[:, 0], torch.full((200,), 0.01 * 3**0.5), atol=1e-6, rtol=1e-5)


def test_pointops_distances_are_not_squares(monkeypatch):
    """`pointops.knn_query` returns distances; taking them for squares would widen 8 cm to 28 cm."""

    def knn_query(k, ref, ref_offset, query, query_offset):
        far, row = cKDTree(ref.numpy()).query(query.numpy(), k=range(1, k + 1))
        row[np.isinf(far)] = -1
        far[np.isinf(far)] = 1e5  # its placeholder
        return torch.from_numpy(row).int(), torch.from_numpy(far).float()

    monkeypatch.setitem(sys.modules, "pointops", types.SimpleNamespace(knn_query=knn_query))
    data = clouds([80], [10])
    check(*data, 12, 0.5, "pointops")
    check(*data, 12, None, "pointops")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"max_radius": 0.0}, "max_radius=0.0"),
        ({"max_radius": float("nan")}, "max_radius=nan"),
        ({"backend": "tree"}, "backend='tree'"),
        ({"backend": "grid"}, "needs max_radius"),
        ({"query": torch.zeros(4, 2)}, "query has shape"),
        ({"query": torch.full((4, 3), torch.nan)}, r"query\[0\]"),
        ({"ref": torch.tensor([[0.0, 0, 0], [0, torch.inf, 0]])}, r"ref\[1\]"),
        ({"ref_offset": torch.tensor([1, 2])}, "query_offset has 1 clouds, ref_offset 2"),
        ({"query_offset": torch.tensor([3])}, "query_offset ends at 3, but query has 4"),
    ],
)
def test_errors_name_the_value(change, message):
    good = {"query": torch.zeros(4, 3), "query_offset": torch.tensor([4])}
    good |= {"ref": torch.zeros(2, 3), "ref_offset": torch.tensor([2]), "k": 1}
    with pytest.raises(ValueError, match=message):
        knn(**(good | change))

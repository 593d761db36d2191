import math

import pytest
import torch
from torch.nn import functional as F

from lam3c_plugin.losses import (
    build_laplacian_graph,
    laplacian_smoothing_loss,
    laplacian_smoothing_loss_reference,
)
from lam3c_plugin.ops import bincount2offset, sinkhorn


def inputs(sizes, channels=11, dtype=torch.float32, extent=0.4, spread=0.2, seed=0):
    torch.manual_seed(seed)
    coord = torch.rand(sum(sizes), 3) * extent
    feat = (torch.randn(sum(sizes), channels, dtype=torch.float64) * spread).to(dtype)
    return feat.requires_grad_(), coord, bincount2offset(torch.tensor(sizes, dtype=torch.long))


def value_and_grad(function, feat, *args, upstream=1.0, **kwargs):
    feat = feat.detach().clone().requires_grad_()
    loss = function(feat, *args, **kwargs)
    (grad,) = torch.autograd.grad(loss * upstream, feat)
    return loss.detach(), grad


def compare(feat, coord, offset, **kwargs):
    got = value_and_grad(laplacian_smoothing_loss, feat, coord, offset, upstream=2.0, **kwargs)
    want = value_and_grad(laplacian_smoothing_loss_reference, feat, coord, offset, upstream=2.0, **kwargs)
    torch.testing.assert_close(got[0], want[0], rtol=1e-5, atol=1e-9)
    scale = float(want[1].abs().max()) if want[1].numel() else 0.0
    torch.testing.assert_close(got[1], want[1], rtol=1e-5, atol=1e-5 * scale + 1e-12)
    assert bool(torch.isfinite(got[1]).all())
    return got


@pytest.mark.parametrize("sizes", [[120], [1], [0], [], [80, 0, 1, 2, 40, 0], [3, 2], [0, 0]])
@pytest.mark.parametrize(
    "setting",
    [{}, {"k": 1}, {"k": 5, "sigma": 0.05}, {"max_distance": None}, {"huber_delta": 2.0}, {"max_distance": 1e-5}],
)
def test_equals_the_reference(sizes, setting, monkeypatch):
    monkeypatch.setattr(sinkhorn, "_BLOCK_CPU", 11 * 50)  # several blocks, the last one short
    compare(*inputs(sizes), **setting)


def test_equals_the_reference_at_the_recipe_width():
    compare(*inputs([700, 300], channels=1088, extent=1.0))


def by_the_words(feat, coord, sizes, k, max_distance, delta):
    """The definition, point by point: no shared code with the package."""
    clouds, begin = [], 0
    for size in sizes:
        p, z = coord[begin : begin + size].double(), feat[begin : begin + size].double()
        begin += size
        lists = [
            sorted(((p[i] - p[j]).norm().item(), j) for j in range(size) if j != i)[:k] for i in range(size) if size > 1
        ]
        if not lists:
            continue
        reach = sorted(edges[-1][0] for edges in lists)
        sigma = (reach[(size - 1) // 2] + reach[size // 2]) / 2
        points = []
        for i, edges in enumerate(lists):
            edges = [(d, j) for d, j in edges if d <= max_distance]
            if edges:
                weights = torch.tensor([math.exp(-(d**2) / sigma**2) for d, _ in edges], dtype=torch.float64)
                r = torch.stack([(z[i] - z[j]).norm() for _, j in edges])
                penalty = F.huber_loss(r, torch.zeros_like(r), reduction="none", delta=delta)
                points.append((weights * penalty).sum() / weights.sum())
        if points:
            clouds.append(torch.stack(points).mean())
    return torch.stack(clouds).mean()


def test_equals_the_definition_point_by_point():
    sizes = [60, 1, 0, 4, 31]
    feat, coord, offset = inputs(sizes)
    want = by_the_words(feat.detach(), coord, sizes, 6, 0.1, 0.5)
    got = laplacian_smoothing_loss(feat, coord, offset, k=6, max_distance=0.1)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=0)


def test_gradcheck():
    feat, coord, offset = inputs([9, 1, 5], channels=3, dtype=torch.float64)
    for function in (laplacian_smoothing_loss, laplacian_smoothing_loss_reference):
        for delta in (0.2, 5.0):
            check = torch.autograd.gradcheck(
                lambda f, fn=function, d=delta: fn(f, coord, offset, k=3, max_distance=0.2, huber_delta=d), (feat,)
            )
            assert check


def test_equal_features_have_no_gradient_and_no_nan():
    feat, coord, offset = inputs([50])
    feat = feat.detach()[:1].expand(50, -1).clone()
    loss, grad = compare(feat, coord, offset)
    assert loss == 0
    assert bool((grad == 0).all())


def test_points_in_one_place():
    feat, _, offset = inputs([40, 3])
    loss, _ = compare(feat, torch.ones(43, 3), offset, k=2)  # k below the number of duplicates: any of them
    assert loss > 0
    graph = build_laplacian_graph(torch.ones(43, 3), offset, k=24)
    assert graph.sigma.tolist() == [0, 0]
    assert graph.edges == 40 * 24 + 3 * 2
    assert bool((graph.pairs[0] < graph.pairs[1]).all())


def test_tiny_sigma_does_not_underflow_to_nan():
    loss, _ = compare(*inputs([60]), sigma=1e-6)
    assert loss > 0


def test_graph_counts_and_shares():
    sizes = [70, 1, 30]
    _, coord, offset = inputs(sizes)
    graph = build_laplacian_graph(coord, offset, k=4, max_distance=None)
    assert graph.edges == 100 * 4
    assert int(graph.points_with_edge) == 100
    assert int(graph.clouds) == 2
    assert graph.sigma[1] == 0
    torch.testing.assert_close(graph.weight.sum(), torch.tensor(2.0))  # a cloud's shares sum to 1
    cloud = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    assert torch.equal(cloud[graph.pairs[0]], cloud[graph.pairs[1]])
    key = graph.pairs[0] * 101 + graph.pairs[1]
    assert key.unique().numel() == key.numel()
    lists = torch.diff(graph.neighbour_offset)
    assert int(lists.sum()) == 2 * graph.pairs.shape[1]
    assert bool((lists > 0).all())
    owner = torch.repeat_interleave(graph.points, lists)
    ends = torch.stack([owner, graph.neighbour]).sort(0).values
    assert torch.equal(ends, graph.pairs[:, graph.pair_of_neighbour])


@pytest.mark.parametrize("spacing", [0.02, 0.3])
def test_sigma_does_not_depend_on_how_it_is_searched(spacing):
    """Measured with a bounded search where that is enough, without a bound where points are far apart."""
    torch.manual_seed(0)
    coord = torch.rand(400, 3) * spacing * 400 ** (1 / 3)
    offset = torch.tensor([250, 250, 400])
    sigma = build_laplacian_graph(coord, offset, k=10).sigma
    for cloud, rows in ((0, slice(0, 250)), (2, slice(250, 400))):
        reach = torch.cdist(coord[rows], coord[rows], compute_mode="donot_use_mm_for_euclid_dist").sort().values[:, 10]
        torch.testing.assert_close(sigma[cloud], reach.quantile(0.5))


def test_known_trap_distances_are_not_squares():
    """Points every 8 cm: comparing squares with the limit, or distances with its square, loses or adds the edges."""
    torch.manual_seed(0)
    grid = torch.cartesian_prod(torch.arange(30), torch.arange(30)).float()
    coord = torch.cat([grid, torch.zeros(900, 1)], 1) * 0.08 + (torch.rand(900, 3) - 0.5) * 0.03
    offset = torch.tensor([900])
    graph = build_laplacian_graph(coord, offset)
    share = graph.edges / (900 * 24)
    assert 0.05 < share < 0.25  # about 2 of each point's 24 neighbours
    assert int(graph.points_with_edge) > 0.9 * 900
    mistaken = build_laplacian_graph(coord, offset, max_distance=0.08**2)
    assert mistaken.edges == 0
    assert laplacian_smoothing_loss(torch.randn(900, 8), coord, offset) > 0.1


def test_half_precision_features_are_computed_in_float32():
    feat, coord, offset = inputs([90, 20], channels=600, dtype=torch.bfloat16)
    want = value_and_grad(laplacian_smoothing_loss, feat.float(), coord, offset)
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            got = value_and_grad(laplacian_smoothing_loss, feat, coord, offset)
            full = value_and_grad(laplacian_smoothing_loss, feat.float(), coord, offset)
        assert got[0].dtype == torch.float32
        assert got[1].dtype == torch.bfloat16
        torch.testing.assert_close(got[0], want[0], rtol=1e-6, atol=0)
        torch.testing.assert_close(got[1].float(), want[1], rtol=1e-2, atol=1e-7)
        assert torch.equal(full[1], want[1])


def test_graph_can_be_shared_and_features_may_be_a_view():
    feat, coord, offset = inputs([100])
    graph = build_laplacian_graph(coord, offset)
    want = value_and_grad(laplacian_smoothing_loss, feat, coord, offset)
    got = value_and_grad(laplacian_smoothing_loss, feat, coord, offset, graph=graph)
    assert torch.equal(got[1], want[1])
    turned = feat.detach().t().contiguous().t()
    torch.testing.assert_close(value_and_grad(laplacian_smoothing_loss, turned, coord, offset)[1], want[1])


def test_only_the_features_get_a_gradient():
    feat, coord, offset = inputs([30])
    coord.requires_grad_()
    laplacian_smoothing_loss(feat, coord, offset).backward()
    assert coord.grad is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"sigma": 0.0}, "sigma=0.0"),
        ({"max_distance": -1}, "max_distance=-1"),
        ({"huber_delta": 0}, "huber_delta=0"),
        ({"feat": torch.zeros(3, 2)}, r"\(3, 2\) for 4 points"),
        ({"coord": torch.full((4, 3), torch.nan)}, r"\[0\] = \[nan"),
        ({"offset": torch.tensor([2])}, "ends at 2"),
    ],
)
def test_errors_name_the_value(change, message):
    good = {"feat": torch.zeros(4, 2), "coord": torch.zeros(4, 3), "offset": torch.tensor([4])}
    with pytest.raises(ValueError, match=message):
        laplacian_smoothing_loss(**(good | change))

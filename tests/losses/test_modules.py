import pytest
import torch

from lam3c_plugin import losses
from lam3c_plugin.host import LOSSES
from lam3c_plugin.ops import knn


def build(name, **settings):
    return LOSSES.build(dict(type=name, **settings))


def points(count=100, extent=0.3):
    torch.manual_seed(0)
    return torch.randn(count, 5), torch.rand(count, 3) * extent, torch.tensor([count])


def test_clustering_module_is_the_function():
    torch.manual_seed(0)
    student, teacher, batch = torch.randn(20, 6), torch.randn(20, 6), torch.arange(20) // 7
    stats = losses.ClusteringStats()
    module = build("SinkhornClusteringLoss", student_temp=0.2, num_iters=2, loss_weight=0.5)
    got = module(student, teacher, batch, 0.07, stats=stats)
    torch.testing.assert_close(got, 0.5 * losses.clustering_loss(student, teacher, batch, 0.2, 0.07, 2))
    assert stats.rows == 20
    assert build("SinkhornClusteringLoss").student_temp == 0.1


def test_laplacian_module_is_the_function_and_keeps_the_graph_stats():
    feat, coord, offset = points()
    module = build("LaplacianSmoothingLoss", k=8, max_distance=0.1)
    want = losses.laplacian_smoothing_loss(feat, coord, offset, k=8, max_distance=0.1)
    torch.testing.assert_close(module(feat, coord, offset), want)
    torch.testing.assert_close(module(feat, coord, offset, graph=module.build_graph(coord, offset)), want)
    stats = module.last_graph_stats
    index, _ = knn(coord, offset, coord, offset, 9, 0.1)
    assert stats.points == 100
    assert stats.edges == int((index >= 0).sum()) - 100
    assert int(stats.points_with_edge) == int((index[:, 1] >= 0).sum())


def test_laplacian_module_warns_once_and_names_the_cause(recwarn):
    feat, coord, offset = points(extent=100.0)
    module = build("LaplacianSmoothingLoss")
    for _ in range(2):
        assert module(feat, coord, offset) == 0
    messages = [str(w.message) for w in recwarn if "Laplacian" in str(w.message)]
    assert len(messages) == 1
    assert "max_distance=0.08 m" in messages[0]
    assert "m from their nearest neighbour" in messages[0]
    assert "grid_size" in messages[0]
    with pytest.warns(RuntimeWarning, match="no cloud of the batch has two points"):
        build("LaplacianSmoothingLoss")(feat[:2], coord[:2], torch.tensor([1, 2]))


def test_consistency_module_is_the_function():
    feat, _, _ = points()
    index, batch = torch.arange(100).repeat(2, 1).t(), torch.arange(100) // 40
    teacher = feat.flip(0)
    want = losses.noise_consistency_loss(feat, teacher, index, batch)
    torch.testing.assert_close(build("NoiseConsistencyLoss")(feat, teacher, index, batch), want)
    torch.testing.assert_close(build("NoiseConsistencyLoss", loss_weight=2.0)(feat, teacher, index, batch), 2 * want)

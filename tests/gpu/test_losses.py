"""The losses on a device against their formulas in float64 on the CPU: values, gradients, counts."""

import pytest
import torch
from torch.nn import functional as F

from lam3c_plugin.losses import (
    ClusteringStats,
    clustering_loss,
    clustering_loss_from_embeddings,
    clustering_loss_reference,
    laplacian_smoothing_loss,
    laplacian_smoothing_loss_reference,
    noise_consistency_loss,
    noise_consistency_loss_reference,
)
from lam3c_plugin.ops import bincount2offset
from tests.gpu.conftest import relative_error

BARS = {torch.float32: 1e-5, torch.bfloat16: 2e-2}  # of the gradients, relative to their norm
SIZES = [900, 0, 300, 1, 799]


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def dtype(request):
    return request.param


def value_and_grads(function, leaves, *args, **kwargs):
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    loss = function(*leaves, *args, **kwargs)
    return loss.detach(), *torch.autograd.grad(loss, leaves)


def compare(found, wanted, bar):
    assert found[0].device == found[1].device
    assert float(found[0]) == pytest.approx(float(wanted[0]), rel=max(bar / 10, 1e-5))
    for mine, theirs in zip(found[1:], wanted[1:], strict=True):
        assert relative_error(mine, theirs) < bar


def drawn(*shapes, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) * scale for shape in shapes]


def clouds(device):
    return torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES)).to(device)


def test_clustering_of_similarities(device, dtype):
    student, teacher = (F.normalize(x, dim=1).to(dtype) for x in drawn((2000, 300), (2000, 300)))
    stats = ClusteringStats()
    found = value_and_grads(
        lambda s: clustering_loss(s, teacher.to(device), clouds(device), 0.1, 0.05, stats=stats), [student.to(device)]
    )
    wanted = value_and_grads(
        lambda s: clustering_loss_reference(s, teacher.double(), clouds("cpu"), 0.1, 0.05), [student.double()]
    )
    compare(found, wanted, BARS[dtype])
    assert int(stats.student_counts.sum()) == int(stats.target_counts.sum()) == 2000
    assert float(stats.marginal.sum()) == pytest.approx(1, abs=1e-4)


def test_clustering_from_embeddings(device, dtype):
    student, prototypes, teacher, others = (
        F.normalize(x, dim=1).to(dtype) for x in drawn((2000, 64), (300, 64), (2000, 48), (300, 48))
    )

    def ours(s, p):
        return clustering_loss_from_embeddings(
            s, teacher.to(device), p, others.to(device), clouds(device), 0.1, 0.05, num_clouds=len(SIZES)
        )

    def plain(s, p):
        return clustering_loss_reference(s @ p.t(), teacher.double() @ others.double().t(), clouds("cpu"), 0.1, 0.05)

    found = value_and_grads(ours, [student.to(device), prototypes.to(device)])
    compare(found, value_and_grads(plain, [student.double(), prototypes.double()]), BARS[dtype])


def test_laplacian(device, dtype):
    (feat,) = drawn((2000, 96), scale=0.2)
    coord = torch.rand(2000, 3, generator=torch.Generator().manual_seed(1))
    offset = bincount2offset(torch.tensor(SIZES))
    feat = feat.to(dtype)
    found = value_and_grads(
        laplacian_smoothing_loss, [feat.to(device)], coord.to(device), offset.to(device), max_distance=0.2
    )
    wanted = value_and_grads(laplacian_smoothing_loss_reference, [feat.double()], coord, offset, max_distance=0.2)
    compare(found, wanted, BARS[dtype])


def test_consistency(device, dtype):
    student, teacher = (x.to(dtype) for x in drawn((2000, 96), (1500, 96)))
    generator = torch.Generator().manual_seed(2)
    pairs = torch.stack([torch.randint(n, (1700,), generator=generator) for n in (2000, 1500)], dim=1)
    found = value_and_grads(
        noise_consistency_loss, [student.to(device)], teacher.to(device), pairs.to(device), clouds(device)
    )
    wanted = value_and_grads(
        noise_consistency_loss_reference, [student.double()], teacher.double(), pairs, clouds("cpu")
    )
    compare(found, wanted, BARS[dtype])

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from lam3c_plugin.losses import (
    ClusteringStats,
    Similarity,
    clustering_kernel,
    clustering_loss,
    clustering_loss_from_embeddings,
    clustering_loss_reference,
)
from lam3c_plugin.ops import products, sinkhorn

TEMPS = (0.1, 0.05)


def inputs(sizes, prototypes=24, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    shapes = ((sum(sizes), 7), (sum(sizes), 5), (prototypes, 7), (prototypes, 5))
    tensors = [F.normalize(torch.randn(shape, dtype=torch.float64), dim=1).to(dtype) for shape in shapes]
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return *tensors, batch


def reference(student, teacher, prototypes, teacher_prototypes, *args):
    return clustering_loss_reference(student @ prototypes.t(), teacher @ teacher_prototypes.t(), *args)


def value_and_grads(function, student, teacher, prototypes, *args, upstream=1.0):
    student, prototypes = (t.detach().clone().requires_grad_() for t in (student, prototypes))
    loss = function(student, teacher, prototypes, *args, *TEMPS)
    return loss.detach(), *torch.autograd.grad(loss * upstream, (student, prototypes))


@pytest.mark.parametrize("sizes", [[40], [1], [0], [30, 0, 5, 1]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("max_cache", [None, 0, 34 * 24 * 4])  # all rows kept, none, some
def test_equals_the_reference(sizes, dtype, max_cache, monkeypatch):
    monkeypatch.setattr(sinkhorn, "_BLOCK_CPU", 24 * 16)
    args = inputs(sizes, dtype=dtype)
    ours = partial(clustering_loss_from_embeddings, max_cache=max_cache)
    got = value_and_grads(ours, *args, upstream=3.0)
    want = value_and_grads(reference, *args, upstream=3.0)
    tight = 1e-11 if dtype == torch.float64 else 1e-5
    for mine, theirs in zip(got, want, strict=True):
        assert mine.dtype == dtype
        scale = float(theirs.abs().max()) if theirs.numel() else 0.0
        torch.testing.assert_close(mine, theirs, rtol=tight, atol=tight * scale)


def test_a_cache_keeps_whole_blocks_and_no_more_than_it_may(monkeypatch):
    monkeypatch.setattr(sinkhorn, "_BLOCK_CPU", 24 * 16)
    cpu = torch.device("cpu")
    kept = [clustering_kernel._rows_kept((40, 24), cpu, most) for most in (0, 15, 16, 34, 39, 40, 99)]
    assert kept == [0, 0, 16, 32, 32, 40, 40]
    assert clustering_kernel._rows_kept((0, 24), cpu, 99) == 0


def test_equals_the_loss_of_similarities_and_fills_the_same_stats():
    student, teacher, prototypes, teacher_prototypes, batch = inputs([50, 9])
    stats = ClusteringStats(), ClusteringStats()
    got = clustering_loss_from_embeddings(
        student, teacher, prototypes, teacher_prototypes, batch, *TEMPS, stats=stats[0], num_clouds=2
    )
    pair = student @ prototypes.t(), teacher @ teacher_prototypes.t()
    torch.testing.assert_close(got, clustering_loss(*pair, batch, *TEMPS, stats=stats[1]))
    torch.testing.assert_close(stats[0].marginal, stats[1].marginal)
    assert torch.equal(stats[0].target_counts, stats[1].target_counts)


def test_gradcheck_and_partial_gradients():
    student, teacher, prototypes, other, batch = inputs([4, 2], prototypes=5, dtype=torch.float64)
    student.requires_grad_()
    prototypes.requires_grad_()

    def loss(s, p):
        return clustering_loss_from_embeddings(s, teacher, p, other, batch, *TEMPS)

    assert torch.autograd.gradcheck(loss, (student, prototypes))
    both = torch.autograd.grad(loss(student, prototypes), (student, prototypes))
    alone = torch.autograd.grad(loss(student, prototypes.detach()), student)
    torch.testing.assert_close(alone[0], both[0])
    alone = torch.autograd.grad(loss(student.detach(), prototypes), prototypes)
    torch.testing.assert_close(alone[0], both[1])
    assert not loss(student.detach(), prototypes.detach()).requires_grad


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_input_is_computed_in_float32(autocast):
    args = inputs([40, 10], dtype=torch.bfloat16)
    want = value_and_grads(clustering_loss_from_embeddings, *[t.float() for t in args[:4]], args[4])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        got = value_and_grads(clustering_loss_from_embeddings, *args)
    assert got[0].dtype == torch.float32
    torch.testing.assert_close(got[0], want[0], rtol=1e-6, atol=0)
    for mine, full in zip(got[1:], want[1:], strict=True):
        assert mine.dtype == torch.bfloat16
        torch.testing.assert_close(mine.float(), full, rtol=1e-2, atol=1e-5)


def test_errors_name_the_shapes():
    student, teacher, prototypes, other, batch = inputs([6])
    with pytest.raises(ValueError, match=r"teacher_similarity \(6, 3\)"):
        clustering_loss_from_embeddings(student, teacher, prototypes, other[:3], batch, *TEMPS)
    with pytest.raises(ValueError, match=r"teacher_embedding \(6, 5\), teacher_prototypes \(24, 7\)"):
        clustering_loss_from_embeddings(student, teacher, prototypes, prototypes, batch, *TEMPS)
    with pytest.raises(ValueError, match="temperature=0"):
        clustering_loss_from_embeddings(student, teacher, prototypes, other, batch, 0, 0.05)


@pytest.mark.parametrize("largest", [186, 280, 1000])
@pytest.mark.parametrize("max_cache", [None, 0])
def test_a_wide_range_equals_float64(largest, max_cache, monkeypatch):
    monkeypatch.setattr(sinkhorn, "_BLOCK_CPU", 24 * 16)
    *tensors, batch = inputs([30, 10])
    factor = 0.05 * largest / float((tensors[1] @ tensors[3].t()).abs().max())
    tensors[0] *= factor
    tensors[1] *= factor
    ours = partial(clustering_loss_from_embeddings, max_cache=max_cache)
    got = value_and_grads(ours, *tensors, batch)
    want = value_and_grads(reference, *[tensor.double() for tensor in tensors], batch)
    for mine, exact in zip(got, want, strict=True):
        # the products are made in float32: of a similarity of 1,000 temperatures 1e-4 of one is rounding
        torch.testing.assert_close(mine.double(), exact, rtol=0, atol=1e-3 * float(exact.abs().max()))


def test_a_known_range_changes_nothing_and_asks_for_nothing(monkeypatch):
    student, teacher, prototypes, other, batch = inputs([30, 10])
    leaf = student.clone().requires_grad_()
    want = clustering_loss(Similarity(leaf, prototypes), Similarity(teacher, other), batch, *TEMPS)
    want_grad = torch.autograd.grad(want, leaf)
    monkeypatch.setattr(sinkhorn, "_read_back", lambda flag: pytest.fail("asked for the range"))
    got = clustering_loss(Similarity(leaf, prototypes, 1.0), Similarity(teacher, other, 1.0), batch, *TEMPS)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.autograd.grad(got, leaf), want_grad, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("max_cache", [None, 0])
def test_products_of_bfloat16_pieces_are_float32s(max_cache, monkeypatch):
    """What a GPU does, its products emulated: bfloat16 factors, float32 sums."""
    monkeypatch.setattr(clustering_kernel, "takes_pieces", lambda device, dtype: True)
    monkeypatch.setattr(clustering_kernel, "product_float32", emulated)
    monkeypatch.setattr(products, "product_float32", emulated)
    student, teacher, prototypes, other, batch = inputs([900, 0, 300, 1, 799], prototypes=300)
    ours = partial(clustering_loss_from_embeddings, max_cache=max_cache)
    got = value_and_grads(ours, student, teacher, prototypes, other, batch)
    exact = [tensor.double() for tensor in (student, teacher, prototypes, other)]
    want = value_and_grads(reference, *exact, batch)
    assert float(got[0]) == pytest.approx(float(want[0]), rel=1e-6)
    for mine, theirs in zip(got[1:], want[1:], strict=True):
        assert float((mine.double() - theirs).norm() / theirs.norm()) < 1e-5  # 2^-17 an element; the bar of tests/gpu


def emulated(left, right, out=None):
    assert left.dtype == right.dtype == torch.bfloat16
    return torch.mm(left.float(), right.float(), out=out)


def test_pieces_and_products_of_them():
    generator = torch.Generator().manual_seed(0)
    a, b = (F.normalize(torch.randn(50, 200, generator=generator), dim=1) for _ in range(2))
    for number, rest in ((1, 2**-9), (2, 2**-17), (3, 2**-25)):
        assert float((sum(p.double() for p in products.pieces(a, number)) - a.double()).abs().max()) <= rest
    exact = a.double() @ b.double().t()
    found = emulated(products.inner_pieces(a, 1), products.inner_pieces(b.t(), 0))
    assert float((found - exact).abs().max()) < 3e-7  # one bfloat16 product: 1e-3
    assert not products.takes_pieces(torch.device("cpu"), torch.float32)

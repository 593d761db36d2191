import pytest
import torch
from torch.nn import functional as F

from lam3c_plugin.losses import ClusteringStats, clustering_loss, clustering_loss_reference
from lam3c_plugin.ops import sinkhorn, sinkhorn_knopp

TEMPS = (0.1, 0.05)


def batch_of(sizes):
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes, dtype=torch.long))


def inputs(sizes, prototypes=24, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    student, teacher = (torch.randn(2, sum(sizes), prototypes, dtype=torch.float64) / 3).clamp(-1, 1).to(dtype)
    return student.requires_grad_(), teacher, batch_of(sizes)


def value_and_grad(function, student, *args, upstream=1.0, **kwargs):
    student = student.detach().clone().requires_grad_()
    loss = function(student, *args, **kwargs)
    (grad,) = torch.autograd.grad(loss * upstream, student)
    return loss.detach(), grad


@pytest.mark.parametrize("sizes", [[40], [1], [30, 0, 5, 1], [0, 7, 0], [200, 100]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_reference(sizes, dtype, monkeypatch):
    monkeypatch.setattr(sinkhorn, "_BLOCK_CPU", 24 * 16)  # several blocks, the last one short
    student, teacher, batch = inputs(sizes, dtype=dtype)
    got = value_and_grad(clustering_loss, student, teacher, batch, *TEMPS, upstream=3.0)
    want = value_and_grad(clustering_loss_reference, student, teacher, batch, *TEMPS, upstream=3.0)
    assert got[0].dtype == got[1].dtype == dtype
    exact = dtype == torch.float64
    torch.testing.assert_close(got[0], want[0], rtol=1e-12 if exact else 1e-5, atol=0)
    scale = float(want[1].abs().max()) if len(batch) else 0.0  # softmax minus target may cancel
    torch.testing.assert_close(got[1], want[1], rtol=0, atol=(1e-12 if exact else 1e-5) * scale)


def test_equals_the_reference_at_the_recipe_size():
    student, teacher, batch = inputs([600, 200], prototypes=4096)
    got = value_and_grad(clustering_loss, student, teacher, batch, 0.1, 0.04)
    want = value_and_grad(clustering_loss_reference, student, teacher, batch, 0.1, 0.04)
    torch.testing.assert_close(got[0], want[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(got[1], want[1], rtol=1e-4, atol=1e-5 * float(want[1].abs().max()))


def test_equals_the_formula_written_out():
    student, teacher, batch = inputs([10, 30], dtype=torch.float64)
    target = sinkhorn_knopp(teacher, 0.05, 3)
    cross = -(target * F.log_softmax(student / 0.1, dim=1)).sum(1)
    want = (cross[:10].mean() + cross[10:].mean()) / 2
    torch.testing.assert_close(clustering_loss(student, teacher, batch, *TEMPS), want)


def test_gradcheck():
    student, teacher, batch = inputs([3, 0, 2], prototypes=5, dtype=torch.float64)
    for function, extra in ((clustering_loss, {"retain_graph": True}), (clustering_loss_reference, {})):
        check = torch.autograd.gradcheck(lambda s, f=function, e=extra: f(s, teacher, batch, *TEMPS, **e), (student,))
        assert check


def test_no_row_is_zero_with_zero_gradient():
    student, teacher, batch = inputs([0])
    weight = torch.ones((), requires_grad=True)
    loss = clustering_loss(student * weight, teacher, batch, *TEMPS)
    loss.backward()
    assert loss.item() == 0
    assert weight.grad.item() == 0


def test_rows_may_come_in_any_order():
    student, teacher, batch = inputs([20, 5])
    order = torch.randperm(25)
    want = clustering_loss(student, teacher, batch, *TEMPS)
    torch.testing.assert_close(clustering_loss(student[order], teacher[order], batch[order], *TEMPS), want)
    torch.testing.assert_close(clustering_loss(student, teacher, batch + 4, *TEMPS), want)
    torch.testing.assert_close(clustering_loss(student, teacher, batch, *TEMPS, num_clouds=9), want)


def test_teacher_gets_no_gradient_and_inputs_stay():
    student, teacher, batch = inputs([20])
    teacher.requires_grad_()
    before = student.detach().clone(), teacher.detach().clone()
    clustering_loss(student, teacher, batch, *TEMPS).backward()
    assert teacher.grad is None
    assert torch.equal(student.detach(), before[0])
    assert torch.equal(teacher.detach(), before[1])


def test_second_backward_needs_retain_graph():
    student, teacher, batch = inputs([8])
    loss = clustering_loss(student, teacher, batch, *TEMPS)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        loss.backward()
    loss = clustering_loss(student, teacher, batch, *TEMPS, retain_graph=True)
    first, second = (torch.autograd.grad(loss, student, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_input_is_computed_in_float32(dtype):
    student, teacher, batch = inputs([50, 10], dtype=dtype)
    want = value_and_grad(clustering_loss, student.float(), teacher.float(), batch, *TEMPS)
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            got = value_and_grad(clustering_loss, student, teacher, batch, *TEMPS)
        assert got[0].dtype == torch.float32
        assert got[1].dtype == dtype
        torch.testing.assert_close(got[0], want[0], rtol=1e-6, atol=0)
        torch.testing.assert_close(got[1].float(), want[1], rtol=1e-2, atol=1e-6)


def test_float32_under_autocast_is_untouched():
    student, teacher, batch = inputs([50, 10])
    want = value_and_grad(clustering_loss, student, teacher, batch, *TEMPS)
    with torch.autocast("cpu", torch.bfloat16):
        got = value_and_grad(clustering_loss, student, teacher, batch, *TEMPS)
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1], want[1])


def test_without_gradient():
    student, teacher, batch = inputs([30])
    want = clustering_loss(student, teacher, batch, *TEMPS).detach()
    with torch.no_grad():
        torch.testing.assert_close(clustering_loss(student, teacher, batch, *TEMPS), want)


def test_stats(monkeypatch):
    monkeypatch.setattr(sinkhorn, "_BLOCK_CPU", 24 * 16)
    student, teacher, batch = inputs([60, 20])
    stats = ClusteringStats()
    clustering_loss(student, teacher, batch, *TEMPS, stats=stats)
    target = sinkhorn_knopp(teacher, 0.05)
    assert stats.rows == 80
    torch.testing.assert_close(stats.target_entropy, torch.special.entr(target).sum(1).mean())
    torch.testing.assert_close(stats.marginal, target.mean(0))
    counts = {"student_counts": student, "target_counts": target}
    for name, table in counts.items():
        assert torch.equal(getattr(stats, name), torch.bincount(table.argmax(1), minlength=24))
    agree = (student.argmax(1) == target.argmax(1)).float().mean()
    torch.testing.assert_close(stats.agreement, agree)
    assert not stats.agreement.requires_grad


def test_stats_of_nothing():
    student, teacher, batch = inputs([0])
    stats = ClusteringStats()
    clustering_loss(student, teacher, batch, *TEMPS, stats=stats)
    assert stats.rows == 0
    assert stats.marginal.sum() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher_similarity": torch.zeros(4, 3)}, r"teacher_similarity \(4, 3\)"),
        ({"batch": torch.zeros(3, dtype=torch.long)}, r"batch \(3,\)"),
        ({"student_temp": 0.0}, "temperature=0.0"),
        ({"teacher_temp": -1.0}, "temperature=-1.0"),
        ({"num_iters": 0}, "num_iters=0"),
    ],
)
def test_errors_name_the_value(change, message):
    good = {"student_similarity": torch.zeros(5, 3), "teacher_similarity": torch.zeros(5, 3)}
    good |= {"batch": torch.zeros(5, dtype=torch.long), "student_temp": 0.1, "teacher_temp": 0.05}
    with pytest.raises(ValueError, match=message):
        clustering_loss(**(good | change))


WIDE = ["spread", "shifted up", "shifted down", "one far row", "one far prototype", "one row a prototype"]


def wide_inputs(kind, largest):
    """Float32 similarities whose abs(similarity) / temperature goes up to about ``largest`` at temperature 0.04."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 60, 24)
    if kind == "one row a prototype":
        owner = torch.eye(24)[torch.arange(60) % 24]
        student, teacher = torch.stack([owner.roll(1, 0), owner]) + 0.02 * torch.stack([student, teacher])
    scale = 0.04 * largest / teacher.abs().max()
    if kind == "spread" or kind == "one row a prototype":
        return student * scale, teacher * scale
    offset = torch.zeros(60, 24)
    if kind == "one far row":
        offset[7] = -0.04 * largest
    elif kind == "one far prototype":
        offset[:, 3] = -0.04 * largest
    else:
        offset += 0.04 * largest * (1 if kind == "shifted up" else -1)
    return student + offset, 0.1 * teacher + offset


def exact(student, teacher, batch, student_temp, teacher_temp):
    """The loss in float64, by logarithms."""
    log_q = teacher.double() / teacher_temp
    for _ in range(3):
        log_q = log_q - torch.logsumexp(log_q, 0)
        log_q = log_q - torch.logsumexp(log_q, 1, keepdim=True)
    cross = -(log_q.exp() * F.log_softmax(student.double() / student_temp, dim=1)).sum(1)
    return torch.stack([cross[batch == cloud].mean() for cloud in range(int(batch.max()) + 1)]).mean()


@pytest.mark.parametrize("kind", WIDE)
@pytest.mark.parametrize("largest", [20, 100, 186, 280, 600, 1000])
@pytest.mark.parametrize("block", [24 * 16, 2**20])
def test_a_wide_range_equals_float64(kind, largest, block, monkeypatch):
    monkeypatch.setattr(sinkhorn, "_BLOCK_CPU", block)
    student, teacher = wide_inputs(kind, largest)
    batch = batch_of([40, 20])
    want = value_and_grad(exact, student.double(), teacher, batch, 0.1, 0.04)
    for function in (clustering_loss, clustering_loss_reference):
        got = value_and_grad(function, student, teacher, batch, 0.1, 0.04)
        torch.testing.assert_close(got[0].double(), want[0], rtol=2e-5, atol=0)
        torch.testing.assert_close(got[1].double(), want[1], rtol=0, atol=3e-5 * float(want[1].abs().max()))
    exactly = value_and_grad(clustering_loss, student.double(), teacher.double(), batch, 0.1, 0.04)
    torch.testing.assert_close(exactly[0], want[0], rtol=1e-9, atol=0)


def test_the_case_that_was_infinite():
    torch.manual_seed(0)
    student, teacher = 3 * torch.randn(500, 64), 3 * torch.randn(500, 64)
    batch = batch_of([500])
    want = exact(student, teacher, batch, 0.1, 0.04)
    torch.testing.assert_close(clustering_loss(student, teacher, batch, 0.1, 0.04).double(), want, rtol=1e-5, atol=0)


def test_stats_of_a_wide_range_are_those_of_float64():
    student, teacher = wide_inputs("spread", 600)
    stats = ClusteringStats(), ClusteringStats()
    for sample, dtype in zip(stats, (torch.float32, torch.float64), strict=True):
        clustering_loss(student.to(dtype), teacher.to(dtype), batch_of([60]), 0.1, 0.04, stats=sample)
    torch.testing.assert_close(stats[0].marginal.double(), stats[1].marginal, rtol=1e-4, atol=1e-7)
    for name in ("student_counts", "target_counts"):
        assert torch.equal(getattr(stats[0], name), getattr(stats[1], name))

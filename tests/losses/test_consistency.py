import pytest
import torch

from lam3c_plugin.losses import noise_consistency_loss, noise_consistency_loss_reference
from lam3c_plugin.ops import sinkhorn


def inputs(sizes, pairs, channels=9, teacher_points=50, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    student = torch.randn(sum(sizes), channels, dtype=torch.float64).to(dtype).requires_grad_()
    teacher = torch.randn(teacher_points, channels, dtype=torch.float64).to(dtype)
    index = torch.stack(
        [torch.randint(0, max(1, sum(sizes)), (pairs,)), torch.randint(0, max(1, teacher_points), (pairs,))], 1
    )
    return student, teacher, index, torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def value_and_grad(function, student, *args, upstream=1.0):
    student = student.detach().clone().requires_grad_()
    loss = function(student, *args)
    (grad,) = torch.autograd.grad(loss * upstream, student)
    return loss.detach(), grad


@pytest.mark.parametrize(("sizes", "pairs"), [([60], 40), ([30, 0, 1, 20], 100), ([5, 5], 0), ([0], 0), ([1], 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_reference(sizes, pairs, dtype, monkeypatch):
    monkeypatch.setattr(sinkhorn, "_BLOCK_CPU", 9 * 16)
    args = inputs(sizes, pairs, dtype=dtype)
    got = value_and_grad(noise_consistency_loss, *args, upstream=3.0)
    want = value_and_grad(noise_consistency_loss_reference, *args, upstream=3.0)
    exact = dtype == torch.float64
    torch.testing.assert_close(got[0], want[0], rtol=1e-12 if exact else 1e-5, atol=0)
    torch.testing.assert_close(got[1], want[1], rtol=1e-10 if exact else 1e-4, atol=1e-14 if exact else 1e-7)


def test_equals_the_formula_written_out():
    student, teacher, index, _ = inputs([10, 20], 2, dtype=torch.float64)
    index = torch.tensor([[0, 3], [12, 4], [29, 5]])
    batch = torch.tensor([0] * 10 + [1] * 20)
    unit = student.detach() / student.detach().norm(dim=1, keepdim=True)
    target = teacher / teacher.norm(dim=1, keepdim=True)
    far = (unit[index[:, 0]] - target[index[:, 1]]).square().sum(1)
    want = (far[0] + (far[1] + far[2]) / 2) / 2
    torch.testing.assert_close(noise_consistency_loss(student, teacher, index, batch).detach(), want)
    by_pair = noise_consistency_loss(student, teacher, index, torch.tensor([0, 1, 1]))
    torch.testing.assert_close(by_pair.detach(), want)


def test_gradcheck():
    student, teacher, index, batch = inputs([4, 3], 9, channels=3, teacher_points=6, dtype=torch.float64)
    for function in (noise_consistency_loss, noise_consistency_loss_reference):
        assert torch.autograd.gradcheck(lambda s, f=function: f(s, teacher, index, batch), (student,))


def test_no_match_is_zero_with_zero_gradient():
    loss, grad = value_and_grad(noise_consistency_loss, *inputs([6], 0))
    assert loss == 0
    assert bool((grad == 0).all())


def test_same_direction_is_zero_and_teacher_gets_no_gradient():
    student, _, index, batch = inputs([50], 50)
    index[:, 1] = index[:, 0]
    teacher = (student.detach() * 3).requires_grad_()
    loss = noise_consistency_loss(student, teacher, index, batch)
    loss.backward()
    assert loss < 1e-10
    assert teacher.grad is None


def test_a_zero_row_is_no_nan():
    student, teacher, index, batch = inputs([20], 40)
    with torch.no_grad():
        student[index[0, 0]] = 0
    loss, grad = value_and_grad(noise_consistency_loss, student, teacher, index, batch)
    assert bool(torch.isfinite(loss))
    assert bool((grad[index[0, 0]] == 0).all())


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_features_are_computed_in_float32(autocast):
    args = inputs([30, 10], 60, dtype=torch.bfloat16)
    want = value_and_grad(noise_consistency_loss, args[0].float(), args[1].float(), *args[2:])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        got = value_and_grad(noise_consistency_loss, *args)
    assert got[0].dtype == torch.float32
    assert got[1].dtype == torch.bfloat16
    torch.testing.assert_close(got[0], want[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(got[1].float(), want[1], rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher_feat": torch.zeros(4, 3)}, r"teacher_feat \(4, 3\)"),
        ({"index_pairs": torch.zeros(2, 3, dtype=torch.long)}, r"index_pairs has shape \(2, 3\)"),
        ({"batch": torch.zeros(3, dtype=torch.long)}, r"batch has shape \(3,\)"),
    ],
)
def test_errors_name_the_value(change, message):
    good = {"student_feat": torch.zeros(5, 2), "teacher_feat": torch.zeros(4, 2)}
    good |= {"index_pairs": torch.zeros(2, 2, dtype=torch.long), "batch": torch.zeros(5, dtype=torch.long)}
    with pytest.raises(ValueError, match=message):
        noise_consistency_loss(**(good | change))

import pytest
import torch

from lam3c_plugin.ops import sinkhorn, sinkhorn_knopp, sinkhorn_knopp_reference
from tests.ranks import run_ranks


def similarity(rows, prototypes, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    return (torch.randn(rows, prototypes, dtype=torch.float64) / 4).clamp(-1, 1).to(dtype)


@pytest.mark.parametrize(("rows", "prototypes"), [(0, 3), (1, 1), (1, 7), (64, 16), (333, 50)])
@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_equals_the_reference(rows, prototypes, iterations):
    given = similarity(rows, prototypes)
    got = sinkhorn_knopp(given, 0.05, iterations)
    assert got.dtype == torch.float32
    assert got.shape == given.shape
    torch.testing.assert_close(got, sinkhorn_knopp_reference(given, 0.05, iterations), rtol=1e-5, atol=1e-8)
    exact = sinkhorn_knopp(given.double(), 0.05, iterations)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(
        exact, sinkhorn_knopp_reference(given.double(), 0.05, iterations), rtol=1e-12, atol=1e-15
    )


def test_rows_sum_to_one_and_prototypes_share_the_mass():
    given = similarity(400, 20)
    uneven = []
    for iterations in (1, 3, 30):
        target = sinkhorn_knopp(given, 0.05, iterations)
        torch.testing.assert_close(target.sum(1), torch.ones(400))
        uneven.append(float((target.sum(0) / 20 - 1).abs().max()))
    assert uneven[0] > uneven[1] > uneven[2]
    assert uneven[2] < 1e-3


def test_blocks_do_not_change_the_result(monkeypatch):
    given = similarity(500, 30)
    want = sinkhorn_knopp(given, 0.05)
    monkeypatch.setattr(sinkhorn, "_BLOCK_CPU", 30 * 7)
    torch.testing.assert_close(sinkhorn_knopp(given, 0.05), want, rtol=1e-5, atol=1e-8)


def test_half_precision_input_is_computed_in_float32():
    given = similarity(100, 12, torch.bfloat16)
    got = sinkhorn_knopp(given, 0.05)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, sinkhorn_knopp(given.float(), 0.05))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(sinkhorn_knopp(given.float(), 0.05), got)


def test_shift_and_distant_rows_equal_float64():
    given = similarity(50, 8)
    for change in (slice(0, 50), slice(10, 50), slice(0, 1)):
        for offset in (40, -40, 8):  # 1,000 temperatures, 200
            moved = given.clone()
            moved[change] += offset
            want = sinkhorn_knopp_reference(moved.double(), 0.04)
            torch.testing.assert_close(sinkhorn_knopp(moved, 0.04).double(), want, rtol=2e-5, atol=1e-7)
            torch.testing.assert_close(sinkhorn_knopp(moved.double(), 0.04), want, rtol=1e-9, atol=1e-12)


def test_no_gradient_and_input_untouched():
    given = similarity(10, 4).requires_grad_()
    before = given.detach().clone()
    assert not sinkhorn_knopp(given, 0.05).requires_grad
    assert torch.equal(given.detach(), before)


@pytest.mark.parametrize(
    ("given", "temperature", "iterations", "message"),
    [
        (torch.zeros(3), 0.1, 3, r"\(3,\)"),
        (torch.zeros(3, 2).long(), 0.1, 3, "int64"),
        (torch.zeros(3, 2), 0.0, 3, "temperature=0.0"),
        (torch.zeros(3, 2), 0.1, 0, "num_iters=0"),
    ],
)
def test_errors_name_the_value(given, temperature, iterations, message):
    with pytest.raises(ValueError, match=message):
        sinkhorn_knopp(given, temperature, iterations)


def _part(rank, given, firsts):
    parts = [given[:first] if rank == 0 else given[first:] for first in firsts]
    parts += [given[:0], 40 * parts[0], 40 * parts[1]]  # the wide range is found by every rank or by none
    return [(sinkhorn_knopp(own, 0.05), sinkhorn_knopp_reference(own, 0.05)) for own in parts]


def test_two_ranks_equal_one(tmp_path):
    given = similarity(120, 16)
    want = sinkhorn_knopp(given, 0.05)
    results = run_ranks(_part, given, (90, 0), folder=tmp_path)  # uneven; one rank without a row
    for case in (0, 1):
        for kind in (0, 1):
            together = torch.cat([result[case][kind] for result in results])
            torch.testing.assert_close(together, want, rtol=1e-5, atol=1e-8)
    wide = sinkhorn_knopp_reference(40 * given.double(), 0.05)
    for case in (3, 4):
        for kind in (0, 1):
            together = torch.cat([result[case][kind] for result in results])
            torch.testing.assert_close(together.double(), wide, rtol=2e-5, atol=1e-7)
    assert results[0][2][0].shape == results[1][2][1].shape == (0, 16)  # no row on any rank

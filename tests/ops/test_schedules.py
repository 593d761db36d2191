import itertools

import pytest

from lam3c_plugin.ops.schedules import WarmupCosine


def test_linear_over_the_whole_run_starts_and_ends_exactly():
    schedule = WarmupCosine(2e-4, 3e-3, 3e-3, warmup_ratio=1.0)
    values = [schedule.at(step, 101) for step in range(101)]
    assert values[0] == pytest.approx(2e-4)
    assert values[-1] == pytest.approx(3e-3)
    assert values[50] == pytest.approx((2e-4 + 3e-3) / 2)


def test_release_shape_rises_then_falls_to_its_final_value():
    schedule = WarmupCosine(2e-4, 3e-3, 1.5e-3, warmup_ratio=0.1)
    values = [schedule.at(step, 1000) for step in range(1000)]
    assert values[99] == pytest.approx(3e-3)
    assert values[-1] == pytest.approx(1.5e-3)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(values[100:]))


def test_momentum_ends_at_one_and_stays_there():
    schedule = WarmupCosine(0.994, 0.994, 1.0)
    assert schedule.at(0, 10) == pytest.approx(0.994)
    assert schedule.at(9, 10) == 1.0
    assert schedule.at(50, 10) == 1.0


@pytest.mark.parametrize("total", [1, 2, 3])
def test_very_short_runs_stay_in_range(total):
    schedule = WarmupCosine(0.1, 0.4, 0.4, warmup_ratio=0.05)
    assert all(0.1 <= schedule.at(step, total) <= 0.4 for step in range(total))


def test_ratio_out_of_range_is_refused():
    with pytest.raises(ValueError, match="warmup_ratio"):
        WarmupCosine(0, 1, 1, warmup_ratio=1.5)

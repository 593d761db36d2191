"""Optimiser groups and schedules."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lam3c_plugin.embedded.config import ConfigDict
from lam3c_plugin.embedded.optimizer import build_optimizer
from lam3c_plugin.embedded.scheduler import CosineScheduler, build_scheduler
from lam3c_plugin.errors import ConfigError


def model():
    return nn.ModuleDict({"enc0": nn.Linear(2, 2), "enc1": nn.Linear(2, 2), "head": nn.Linear(2, 2)})


def curve(total, lr=1.0, **cfg):
    optimizer = build_optimizer(dict(type="SGD", lr=lr, momentum=0.9), nn.Linear(1, 1))
    scheduler = build_scheduler(dict(total_steps=total, **cfg), optimizer)
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates, optimizer.param_groups[0]["lr"]


def test_groups_by_keyword():
    net = model()
    net["head"].bias.requires_grad_(False)
    groups = [
        ConfigDict(keyword="enc0.", lr=0.1, weight_decay=0.0),
        ConfigDict(keyword="enc", lr_scale=0.5),
        ConfigDict(keyword="none", lr=3.0),
    ]
    optimizer = build_optimizer(ConfigDict(type="AdamW", lr=1.0, weight_decay=0.3), net, groups)
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    assert sizes == [1, 2, 2, 0]  # an empty group stays: max_lr counts it
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.1, 0.5, 3.0]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0, 0.3, 0.3]
    assert len(build_optimizer(dict(type="Adam", lr=1.0), net).param_groups) == 1
    with pytest.raises(ConfigError, match="has no key 'lrs'"):
        build_optimizer(dict(type="SGD", lr=1.0), net, [dict(keyword="enc", lrs=1)])
    with pytest.raises(ConfigError, match=r"set optimizer\.lr"):
        build_optimizer(dict(type="SGD"), net, [dict(keyword="enc", lr=1)])


@pytest.mark.parametrize("total", [1, 2, 3, 10, 20, 57])
@pytest.mark.parametrize("pct", [0.05, 0.1, 0.5])
def test_one_cycle_of_any_length(total, pct):
    """Includes lengths at which torch's own class divides by zero; ends low, and stays there."""
    rates, after = curve(total, type="OneCycleLR", max_lr=1.0, pct_start=pct, div_factor=10, final_div_factor=300)
    assert max(rates) <= 1.0
    assert all(math.isfinite(rate) for rate in rates)
    assert rates[-1] == pytest.approx(1 / 10 / 300)
    assert after == rates[-1]
    if total * pct > 2:
        assert rates[0] == pytest.approx(0.1)


def test_one_cycle_is_torch_s():
    net = nn.Linear(1, 1)
    theirs = torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.9)
    reference = torch.optim.lr_scheduler.OneCycleLR(theirs, max_lr=0.7, total_steps=37, pct_start=0.2)
    expected = []
    for _ in range(37):
        expected.append(theirs.param_groups[0]["lr"])
        theirs.step()
        reference.step()
    assert curve(37, type="OneCycleLR", max_lr=0.7, pct_start=0.2)[0] == pytest.approx(expected)


def test_the_others():
    assert curve(10, type="MultiStepLR", milestones=[0.5, 0.8])[0] == pytest.approx([1] * 5 + [0.1] * 3 + [0.01] * 2)
    warm = curve(10, type="MultiStepWithWarmupLR", milestones=[0.5], warmup_rate=0.2, warmup_scale=0.0)[0]
    assert warm == pytest.approx([0, 0.5, 1, 1, 1] + [0.1] * 5)
    assert curve(9, type="PolyLR", power=1.0)[0] == pytest.approx([1 - step / 10 for step in range(9)])
    rates, after = curve(8, type="CosineAnnealingLR", eta_min=0.2)
    assert (rates[0], rates[4], after) == pytest.approx((1.0, 0.6, 0.2))


def test_cosine_of_a_number():
    schedule = CosineScheduler(0.04, 0.2, total_iters=10)
    assert schedule[0] == pytest.approx(0.04)
    assert schedule[5] == pytest.approx(0.12)
    assert schedule[10] == schedule[99] == 0.2
    assert [schedule.step(), schedule.iter] == [pytest.approx(0.04), 1]
    staged = CosineScheduler(
        1.0, 0.0, total_iters=10, start_value=0.5, warmup_iters=3, freeze_value=7.0, freeze_iters=2
    )
    assert [staged[step] for step in (0, 1, 2, 3, 8, 9)] == pytest.approx([0.5, 0.75, 1.0, 1.0, 7.0, 7.0])


def test_errors():
    optimizer = build_optimizer(dict(type="SGD", lr=1.0), nn.Linear(1, 1))
    with pytest.raises(ConfigError, match="3 rates for 1 parameter groups"):
        build_scheduler(dict(type="OneCycleLR", max_lr=[1, 2, 3], total_steps=5), optimizer)
    with pytest.raises(ConfigError, match="not one optimiser step"):
        build_scheduler(dict(type="OneCycleLR", max_lr=1, total_steps=0), optimizer)
    with pytest.raises(ConfigError, match="'OneCycleLr' is not in the schedulers registry; did you mean 'OneCycleLR'"):
        build_scheduler(dict(type="OneCycleLr", max_lr=1, total_steps=5), optimizer)

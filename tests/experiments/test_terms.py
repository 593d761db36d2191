"""What the terms pull at, on gradients known by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from experiments.learning import terms


def model(weight: torch.Tensor) -> SimpleNamespace:
    backbone = torch.nn.Module()
    backbone.weight = torch.nn.Parameter(weight)
    backbone.unused = torch.nn.Parameter(torch.ones(2))  # a term need not reach all of the encoder
    weights = dict(mask_loss_weight=0.25, roll_mask_loss_weight=0.25, unmask_loss_weight=0.5)
    return SimpleNamespace(student={"backbone": backbone}, laplacian_weight=0.01, consistency_weight=0.05, **weights)


def test_lengths_and_cosines_of_known_gradients():
    it = model(torch.tensor([1.0, 2.0, 3.0]))
    x, y, z = it.student["backbone"].weight
    losses = {
        "mask_loss": 4 * x,  # gradient 0.25 * 4 along x
        "roll_mask_loss": 4 * y,
        "unmask_loss": 2 * x,
        "laplacian_loss": -200 * x - 100 * y,  # straight against 2 x + y
        "consistency_loss": 40 * z,
        "loss": x,
    }
    found = terms.pulls(it, losses)
    length = 5**0.5
    assert found["laplacian_loss"] == pytest.approx(
        {"value": -400.0, "weight": 0.01, "share": 1.0, "cosine": -1.0}, rel=1e-5
    )
    assert found["consistency_loss"] == pytest.approx(
        {"value": 120.0, "weight": 0.05, "share": 2 / length, "cosine": 0.0}, rel=1e-5, abs=1e-6
    )
    assert found["mask_loss"]["share"] == pytest.approx(1 / length)
    assert found["unmask_loss"]["cosine"] == pytest.approx(2 / length)
    assert "loss" not in found


def test_a_term_that_is_off_is_left_out():
    it = model(torch.ones(3))
    x = it.student["backbone"].weight[0]
    losses = {"mask_loss": x, "roll_mask_loss": x, "unmask_loss": x, "consistency_loss": 0 * x}
    found = terms.pulls(it, losses)
    assert "laplacian_loss" not in found
    assert found["consistency_loss"]["share"] == pytest.approx(0, abs=1e-20)
    assert found["consistency_loss"]["cosine"] == 0

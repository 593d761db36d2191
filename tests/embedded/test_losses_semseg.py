"""Cross-entropy and Lovász-Softmax against definitions, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lam3c_plugin.embedded.downstream import CrossEntropyLoss, LovaszLoss, lovasz_softmax
from lam3c_plugin.errors import ConfigError
from lam3c_plugin.host import build_criteria


def scores(count=23, classes=4, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    pred = torch.randn(count, classes, generator=generator, dtype=dtype)
    return pred, torch.randint(0, classes, (count,), generator=generator)


def lovasz_softmax_reference(probability, target, classes=None):
    """`lovasz_softmax`, point by point as the definition reads."""
    total, count = probability.sum() * 0.0, 0
    for index in range(probability.shape[1]):
        truth = {point for point, label in enumerate(target.tolist()) if label == index}
        if not truth or (classes is not None and index not in classes):
            continue
        error = [1 - row[index] if point in truth else row[index] for point, row in enumerate(probability)]
        wrong = set()
        before = 0.0
        for point in sorted(range(len(error)), key=lambda point: -float(error[point].detach())):
            wrong.add(point)
            # a set of mispredicted points leaves truth - wrong found; the union is truth and the false positives
            after = 1 - len(truth - wrong) / len(truth | wrong)
            total = total + error[point] * (after - before)
            before = after
        count += 1
    return total / max(count, 1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("count", "classes"), [(1, 2), (7, 3), (23, 4), (40, 9)])
def test_lovasz_is_its_definition(count, classes, seed):
    pred, target = scores(count, classes, seed)
    results = []
    for function in (lovasz_softmax, lovasz_softmax_reference):
        leaf = pred.clone().requires_grad_()
        value = function(leaf.softmax(1), target)
        value.backward()
        results.append((value.detach(), leaf.grad))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-12)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-12)


def test_lovasz_by_hand():
    """Two points of class 0, errors 0.6 and 0.2; one of class 1, p_0 = 0.5.

    Class 0, errors down: 0.6 (member), 0.5 (not), 0.2 (member): Jaccard losses 1/2, 2/3, 1.
    Class 1, errors down: 0.6 (not), 0.5 (member), 0.2 (not): Jaccard losses 1/2, 1, 1.
    """
    probability = torch.tensor([[0.4, 0.6], [0.8, 0.2], [0.5, 0.5]], dtype=torch.float64)
    first = 0.6 * 1 / 2 + 0.5 * (2 / 3 - 1 / 2) + 0.2 * (1 - 2 / 3)
    second = 0.6 * 1 / 2 + 0.5 * (1 - 1 / 2) + 0.2 * 0
    value = lovasz_softmax(probability, torch.tensor([0, 0, 1]))
    assert float(value) == pytest.approx((first + second) / 2)
    assert float(lovasz_softmax(probability, torch.tensor([0, 0, 1]), classes=[1])) == pytest.approx(second)


def test_lovasz_of_hard_predictions_is_one_minus_iou():
    target = torch.tensor([0, 0, 0, 1, 1, 2])
    pred = torch.tensor([0, 0, 1, 1, 0, 2])
    value = lovasz_softmax(F.one_hot(pred, 3).double(), target)
    ious = [2 / 4, 1 / 3, 1.0]
    assert float(value) == pytest.approx(1 - sum(ious) / 3)


def test_lovasz_gradcheck():
    pred, target = scores(11, 3)
    loss = LovaszLoss(ignore_index=2, loss_weight=0.7)
    assert torch.autograd.gradcheck(lambda leaf: loss(leaf, target), (pred.requires_grad_(),))


def test_cross_entropy_is_torch_s():
    pred, target = scores()
    target[::3] = -1
    for options in ({}, {"label_smoothing": 0.1}, {"weight": [1.0, 2.0, 0.5, 3.0]}, {"reduction": "sum"}):
        weight = torch.tensor(options["weight"], dtype=pred.dtype) if "weight" in options else None
        wanted = F.cross_entropy(pred, target, ignore_index=-1, **{**options, "weight": weight})
        value = CrossEntropyLoss(ignore_index=-1, loss_weight=2.0, **options)(pred, target.int())
        assert torch.allclose(value, 2 * wanted)
    assert torch.autograd.gradcheck(
        lambda leaf: CrossEntropyLoss(label_smoothing=0.1)(leaf, target), (pred.requires_grad_(),)
    )


def test_ignored_points_change_nothing():
    pred, target = scores()
    more = torch.cat([pred, torch.randn(9, 4, dtype=pred.dtype) * 50])
    padded = torch.cat([target, torch.full((9,), -1)])
    for loss in (CrossEntropyLoss(ignore_index=-1), LovaszLoss(ignore_index=-1)):
        assert torch.allclose(loss(pred, target), loss(more, padded))


@pytest.mark.parametrize("loss", [CrossEntropyLoss(ignore_index=-1), LovaszLoss(ignore_index=-1)])
def test_no_labelled_point_gives_zero(loss):
    pred = torch.randn(6, 4, requires_grad=True)
    value = loss(pred, torch.full((6,), -1))
    value.backward()
    assert value.item() == 0
    assert torch.equal(pred.grad, torch.zeros_like(pred))


def test_lovasz_is_float32_under_autocast():
    pred, target = scores(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = LovaszLoss()(pred.bfloat16(), target)
    assert value.dtype == torch.float32


def test_criteria_are_built_by_name():
    criteria = build_criteria(
        [
            dict(type="CrossEntropyLoss", loss_weight=1.0, ignore_index=-1),
            dict(type="LovaszLoss", mode="multiclass", loss_weight=1.0, ignore_index=-1),
        ]
    )
    pred, target = scores()
    parts = CrossEntropyLoss()(pred, target) + LovaszLoss()(pred, target)
    assert torch.allclose(criteria(pred, target), parts)


def test_unknown_modes_are_refused():
    with pytest.raises(ConfigError, match="mode='binary'"):
        LovaszLoss(mode="binary")
    with pytest.raises(ConfigError, match="reduction='avg'"):
        CrossEntropyLoss(reduction="avg")

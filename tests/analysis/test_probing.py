import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lam3c_plugin.analysis import probing
from lam3c_plugin.analysis.heads import classify
from lam3c_plugin.analysis.probing import Sample, ignore_labels, sample_rows
from lam3c_plugin.errors import DataError


def blobs(count=300, classes=3, width=10, seed=0, spread=0.5):
    """Features around one centre a class."""
    centre = np.random.default_rng(9).normal(size=(classes, width)) * 2
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, count).astype(np.int32)
    return Sample(f"s{seed}", (centre[label] + spread * rng.normal(size=(count, width))).astype(np.float16), label)


def test_the_linear_probe_is_at_the_optimum_and_its_head_takes_raw_features():
    sample = blobs(spread=2.0)
    head = probing.train_linear(sample.feat, sample.label, 3, decay=1e-2)
    x = torch.from_numpy(sample.feat.astype(np.float32))
    mean, spread = x.mean(0), x.std(0, unbiased=False)
    weight = (torch.from_numpy(head.weight) * spread).requires_grad_()
    bias = (torch.from_numpy(head.bias) + torch.from_numpy(head.weight) @ mean).requires_grad_()
    target = torch.from_numpy(sample.label).long()
    loss = F.cross_entropy(F.linear((x - mean) / spread, weight, bias), target) + 1e-2 * weight.square().sum()
    loss.backward()
    assert weight.grad.abs().max() < 1e-3
    assert (classify(sample.feat, head)[0] == sample.label).mean() > 0.8


def test_neighbours_equal_the_vote_written_out():
    train, val = blobs(80), blobs(30, seed=1, spread=3.0)
    bank = probing.Neighbours.of(train.feat, train.label, 3, most=60, seed=4, k=5)
    unit = lambda a: a / np.linalg.norm(a, axis=1, keepdims=True)  # noqa: E731
    near = unit(val.feat.astype(np.float32)) @ bank.bank.numpy().T
    for row, found in zip(near, bank.predict(val.feat), strict=True):
        votes = np.zeros(3)
        for j in np.argsort(-row)[:5]:
            votes[bank.label[j]] += np.exp((row[j] - 1) / 0.07)
        assert found == votes.argmax()


def test_results_are_the_same_again_and_more_labels_do_not_hurt():
    train, val = [blobs(400, seed=i, spread=3.0) for i in range(3)], [blobs(400, seed=9, spread=3.0)]
    results = [probing.run_probes(train, val, 4, shares=(0.01, 1.0), seeds=(0, 1)) for _ in range(2)]
    assert [vars(row) for row in results[0].rows] == [vars(row) for row in results[1].rows]
    few, _, whole, _ = results[0].rows
    assert (few.share, few.labelled, len(few.m_iou)) == (0.01, [12, 12], 2)
    assert whole.labelled == [1200]
    assert whole.mean > few.mean
    assert few.spread > 0
    assert whole.m_iou[0] == pytest.approx(whole.m_iou_present[0] * 3 / 4)  # a class without a point counts 0
    text = probing.few_label_table(results[0].rows, "points")
    assert "1%  linear" in text
    assert "±" in text
    assert len(probing.class_table(results[0].scores, ["a", "b", "c", "d"]).splitlines()) == 1 + 3


def test_few_scenes_take_whole_scenes():
    samples = [blobs(50, seed=i) for i in range(10)]
    feat, label = probing.few_rows(samples, 0.1, "scenes", seed=3)
    assert len(feat) == len(label) == 50
    feat, _ = probing.few_rows(samples, 0.1, "points", seed=3)
    assert len(feat) == 50


def test_no_labels_are_said():
    empty = [Sample("x", np.zeros((0, 4), np.float16), np.zeros(0, np.int32))]
    with pytest.raises(DataError, match="no labelled point"):
        probing.run_probes(empty, empty, 3)


def test_a_sample_is_of_labelled_points_and_the_same_again():
    assert ignore_labels(np.array([0, 255, -3, 2]), [255]).tolist() == [0, -1, -1, 2]
    rows = sample_rows(np.array([0, -1, 1, 1, 2, 0]), 3, 0, "scene")
    assert len(rows) == 3
    assert 1 not in rows
    assert (rows == sample_rows(np.array([0, -1, 1, 1, 2, 0]), 3, 0, "scene")).all()

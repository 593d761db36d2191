import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lam3c_plugin.analysis import probing
from lam3c_plugin.analysis.heads import classify
from lam3c_plugin.analysis.labelled import (
    Sample,
    encode_samples,
    find_splits,
    ignore_labels,
    read_labelled,
    sample_rows,
)
from lam3c_plugin.errors import DataError
from tests.rooms import box_room, put_rooms, put_scene


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


def test_splits_by_folder_and_by_share(tmp_path):
    put_rooms(tmp_path / "a", {"train": 2, "val": 1})
    train, val = find_splits(tmp_path / "a", None, 0)
    assert [len(train), len(val), val[0].name] == [2, 1, "room0"]
    for i in range(5):
        put_scene(tmp_path / f"b/scene_{i}", box_room(50, seed=i))
    train, val = find_splits(tmp_path / "b", 0.4, 0)
    assert (len(train), len(val)) == (2, 3)
    assert not set(train) & set(val)
    assert find_splits(tmp_path / "b", 0.4, 0) == (train, val)
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="0 training and 0 validation"):
        find_splits(tmp_path / "c", None, 0)


def test_labels_are_read_from_the_file_asked_for(tmp_path):
    cloud = box_room(100)
    scene = put_scene(tmp_path / "scene", cloud, segment=None, segment20=cloud.segment)
    assert (read_labelled(scene, "segment20").segment == cloud.segment).all()
    with pytest.raises(DataError, match=r"no segment\.npy; say with --labels"):
        read_labelled(scene, "segment")
    assert ignore_labels(np.array([0, 255, -3, 2]), [255]).tolist() == [0, -1, -1, 2]
    rows = sample_rows(np.array([0, -1, 1, 1, 2, 0]), 3, 0, "scene")
    assert len(rows) == 3
    assert 1 not in rows
    assert (rows == sample_rows(np.array([0, -1, 1, 1, 2, 0]), 3, 0, "scene")).all()


def test_samples_are_cached_until_anything_changes(tmp_path):
    scenes = find_splits(put_rooms(tmp_path / "data", {"train": 2, "val": 1}), None, 0)[0]
    calls = []

    def encode(cloud):
        calls.append(len(cloud))
        return cloud.coord, np.arange(len(cloud))

    def samples(most=100, **key):
        return encode_samples(scenes, encode, key, tmp_path / "cache", "segment", [], most, 0, say=lambda text: None)

    first, again = samples(), samples()
    assert len(calls) == 2
    assert all((a.feat == b.feat).all() and (a.label == b.label).all() for a, b in zip(first, again, strict=True))
    samples(weights="others")
    samples(most=50)
    assert len(calls) == 6
    next((tmp_path / "cache").glob("*.npz")).write_bytes(b"damaged")
    np.save(scenes[0] / "color.npy", box_room(seed=7).color)
    samples()
    assert len(calls) in (7, 8)

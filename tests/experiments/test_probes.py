"""The probes: decay chosen on validation rooms alone, test rooms predicted once, scores over classes that occur."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.learning import probes
from lam3c_plugin.analysis.heads import Head
from lam3c_plugin.analysis.probing import Sample

SPEC = {
    "source": "full-0",
    "step": 4,
    "last": True,
    "seed": 5,
    "probe_part": "teacher",
    "train_rooms": 3,
    "val_rooms": 2,
    "test_rooms": 2,
    "probe_points": 40,
    "eval_points": 60,
    "probe_decays": (1e-3, 1e-1),
    "probe_steps": 20,
    "bank": 50,
    "neighbours": 3,
}


def sample(name: str, seed: int, count: int = 60, shift: float = 0.0) -> Sample:
    """Points of three classes, around three places of feature space; ``shift`` moves the places."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, count).astype(np.int32)
    feat = np.eye(3, 6)[label] * 4 + rng.normal(size=(count, 6)) + shift
    return Sample(name, feat.astype(np.float16), label)


@pytest.fixture
def diary(monkeypatch) -> list[str]:
    """What is encoded and scored, in order; rooms are made up."""
    events: list[str] = []

    def encode(encoder, out, part, rooms, most, seed):
        events.append(f"encode {part} {len(rooms)} {most} {seed}")
        return [sample(f"{part}{i}", 10 * len(part) + i, most) for i in range(len(rooms))]

    def load(path, student):
        events.append(f"load {path} {'student' if student else 'teacher'}")
        return SimpleNamespace()

    scored = probes.scored

    def spy(predictions, samples):
        events.append(f"score {samples[0].name[:-1]}")
        return scored(predictions, samples)

    monkeypatch.setattr(probes, "encode_rooms", encode)
    monkeypatch.setattr(probes, "scored", spy)
    monkeypatch.setattr("lam3c_plugin.encode.load", load)
    return events


def test_rooms_are_encoded_once_and_the_test_is_scored_once_a_probe(diary):
    result = probes.run(SPEC, Path("job"), Path("out"))
    assert diary[0] == "load out/jobs/full-0/run/model/model_last.pth teacher"
    assert [line for line in diary if line.startswith("encode")] == [
        "encode train 3 40 5",  # the seed draws the points that train
        "encode val 2 60 0",  # and not those that are scored
        "encode test 2 60 0",
    ]
    assert diary.count("score test") == 2  # linear, kNN
    chosen = [i for i, line in enumerate(diary) if line == "score val"][: len(SPEC["probe_decays"])]
    assert max(chosen) < diary.index("encode test 2 60 0")  # all is chosen before the test rooms are read
    kinds = [(entry["probe"], entry["split"]) for entry in result["entries"]]
    assert kinds == [("linear", "val"), ("knn", "val"), ("linear", "test"), ("knn", "test")]
    assert all(entry["m_iou"] > 0.6 for entry in result["entries"])
    assert set(result["decays"]) == {"0.001", "0.1"}


def test_the_decay_is_the_best_on_validation(monkeypatch):
    """Heads that are right, wrong and half right on the validation rooms: the middle decay has to win."""
    quality = {1.0: 0.5, 2.0: 0.0, 3.0: 1.0, 4.0: 0.5}

    def train(feat, label, classes, decay, steps):
        return Head(np.full((1, 1), quality[decay]), np.zeros(1), "fake")

    def classify(feat, head):
        label = np.arange(60, dtype=np.int32) % 3
        wrong = np.arange(60) >= 60 * head.weight[0, 0]
        return np.where(wrong, (label + 1) % 3, label), None

    monkeypatch.setattr("lam3c_plugin.analysis.probing.train_linear", train)
    monkeypatch.setattr("lam3c_plugin.analysis.heads.classify", classify)
    room = Sample("val0", np.zeros((60, 1), np.float16), np.arange(60, dtype=np.int32) % 3)
    head, decay, tried = probes.choose_decay(room.feat, room.label, [room], (1.0, 2.0, 3.0, 4.0), 5)
    assert decay == 3.0
    assert head.weight[0, 0] == 1.0
    assert tried == pytest.approx({"1": 1 / 3, "2": 0.0, "3": 1.0, "4": 1 / 3})


def test_scores_are_over_classes_that_occur():
    room = Sample("a", np.zeros((4, 1), np.float16), np.array([0, 0, 1, 1], np.int32))
    found = probes.scored([np.array([0, 0, 1, 7], np.int32)], [room])
    assert found["m_iou"] == pytest.approx((1.0 + 0.5) / 2)
    assert found["accuracy"] == 0.75
    assert found["iou"][:3] == [1.0, 0.5, None]
    assert len(found["iou"]) == probes.CLASSES

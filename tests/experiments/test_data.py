"""Rooms: sets that share none, lists of the first and of few."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np

from data_tools.synthetic.rooms.rooms import ROOM_KINDS
from experiments.learning import data
from experiments.learning.presets import PRESETS, SEEDS


def make(out: Path, part: str, noise: str, rooms: int) -> dict:
    spec = {"set": part, "noise": noise, "rooms": rooms, "points": 300, "seed": SEEDS[part]}
    return data.run(spec, out / "jobs/x", out)


def scene(out: Path, part: str, noise: str, name: str) -> Path:
    return data.root_of(out, part, noise) / name


def test_sets_hold_the_listed_rooms_and_share_none(tmp_path):
    sizes = {("pretrain", "pi3"): 3, ("train", "clean"): 2, ("val", "clean"): 2, ("test", "clean"): 2}
    seen = []
    for (part, noise), rooms in sizes.items():
        assert make(tmp_path, part, noise, rooms) == {"rooms": rooms}
        for name in data.room_names(part, noise, rooms):
            folder = scene(tmp_path, part, noise, name)
            seen.append(np.load(folder / "coord.npy"))
            assert (folder / "segment.npy").exists() == (part != "pretrain")  # no labels to pre-train with
    assert len({array.tobytes() for array in seen}) == len(seen) == 9


def test_noise_levels_are_of_the_same_rooms(tmp_path):
    """So that the curve over noise compares noise alone."""
    meta, coord = [], []
    for noise in ("clean", "pi3"):
        make(tmp_path, "pretrain", noise, 1)
        folder = scene(tmp_path, "pretrain", noise, *data.room_names("pretrain", noise, 1))
        meta.append(json.loads((folder / "meta.json").read_text()))
        coord.append(np.load(folder / "coord.npy"))
    assert meta[0]["room_size"] == meta[1]["room_size"]
    assert meta[0]["cameras"] == meta[1]["cameras"]
    assert coord[0].tobytes() != coord[1].tobytes()


def test_fewer_rooms_are_the_first_of_more(tmp_path):
    root = data.root_of(tmp_path, "pretrain", "pi3")
    few, many = (json.loads((root / data.first_rooms(tmp_path, "pretrain", "pi3", n)).read_text()) for n in (3, 8))
    assert many[:3] == few
    assert len(set(many)) == 8


def test_a_smaller_share_of_labels_lies_within_a_larger_one(tmp_path):
    chosen = [data.few_rooms(tmp_path, 60, share)[1] for share in (0.01, 0.1, 0.5, 1.0)]
    assert [len(item) for item in chosen] == [1, 6, 30, 60]
    for small, large in pairwise(chosen):
        assert set(small) < set(large)
    assert chosen[-1] == data.room_names("train", "clean", 60)


def test_the_file_of_few_rooms_says_which(tmp_path):
    name, names = data.few_rooms(tmp_path, 40, 0.1)
    assert json.loads((data.root_of(tmp_path, "train", "clean") / name).read_text()) == names
    assert len(names) == 4


def test_a_tenth_of_the_labels_has_every_kind_of_room(tmp_path):
    """One list serves all seeds, so it must not lack a kind by chance."""
    make(tmp_path, "train", "clean", 6)
    _, names = data.few_rooms(tmp_path, PRESETS["cpu"].train_rooms, 0.1)
    metas = [json.loads((scene(tmp_path, "train", "clean", name) / "meta.json").read_text()) for name in names]
    assert {meta["generator"]["kind"] for meta in metas} == set(ROOM_KINDS)

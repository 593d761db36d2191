"""Rooms of the learning proof: sets of different generator seeds, made once, and lists of their first or few rooms.

``OUT/data/pretrain-<noise>/train`` has the rooms to pre-train on, without labels; ``OUT/data/labelled/<split>``
clean ones with labels. A list is a JSON file beside the split's folder, as the engine's datasets take them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_tools.stages.files import write_json
from data_tools.synthetic.rooms.generate import SyntheticSettings, generate, scene_name
from experiments.learning.presets import SEEDS


def root_of(out: Path, part: str, noise: str) -> Path:
    """Data root of a set: ``part`` is "pretrain" or a labelled split."""
    return out / "data" / (f"pretrain-{noise}" if part == "pretrain" else "labelled")


def split_of(part: str) -> str:
    """Split of a set in its data root."""
    return "train" if part == "pretrain" else part


def run(spec: Mapping[str, Any], folder: Path, out: Path) -> dict[str, Any]:
    """Make the rooms of a set that are not there; ``spec``: set, noise, rooms, points, seed, and workers."""
    del folder
    settings = SyntheticSettings(seed=spec["seed"], noise=spec["noise"], points=spec["points"])
    part = spec["set"]
    names = generate(
        root_of(out, part, spec["noise"]),
        spec["rooms"],
        settings,
        split_of(part),
        workers=int(os.environ.get("LAM3C_PROOF_WORKERS", "1")),
        labels=part != "pretrain",
    )
    return {"rooms": len(names)}


def room_names(part: str, noise: str, rooms: int) -> list[str]:
    """Scene folders of the first rooms of a set, relative to its data root."""
    settings = SyntheticSettings(seed=SEEDS[part], noise=noise)
    return [f"{split_of(part)}/{scene_name(settings, index)}" for index in range(rooms)]


def first_rooms(out: Path, part: str, noise: str, rooms: int) -> str:
    """Split file of the first rooms of a set: kinds of rooms take turns, and fewer lie within more."""
    root, name = root_of(out, part, noise), f"{part}-first{rooms}.json"
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / name, room_names(part, noise, rooms))
    return name


def few_rooms(out: Path, rooms: int, share: float) -> tuple[str, list[str]]:
    """Split file of a share of the labelled training rooms, at least one, and their names.

    One list for all rows and seeds, as ScanNet's data-efficient benchmark fixes its scenes: with lists drawn anew the
    spread over seeds is that of the draw, several times the methods'.
    """
    count = max(1, round(share * rooms))
    return first_rooms(out, "train", "clean", count), room_names("train", "clean", count)

"""Rooms of ``lam3c-tiny``: mixed noise and density to pre-train on, clean and noisy ones to choose on and to score.

``OUT/rooms/pretrain/train`` has no labels; ``OUT/rooms/{clean,noisy}/{train,val,test}`` has. The sets have generator
seeds that nothing else in the repository uses. Nothing is chosen on the test rooms.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from data_tools.stages.files import write_json
from data_tools.synthetic.rooms.generate import SyntheticSettings, generate_one, scene_name

SEEDS = {"pretrain": 7000, "train": 8000, "val": 8500, "test": 8700}
NOISE = ("clean", "pi3", "pi3", "worse")
POINTS = (20_000, 40_000, 80_000)  # a video's cloud may fill the grid's cells, or a third of them
PROBE_NOISE = {"clean": ("clean",), "noisy": ("pi3", "worse")}
PROBE_POINTS = 40_000
KINDS = 6  # of rooms, which take turns: noise and density change after all of them
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Room:
    """One room to make: its settings and number, its set ("pretrain", "clean", "noisy") and split."""

    settings: SyntheticSettings
    index: int
    kind: str
    split: str

    @property
    def name(self) -> str:
        """Folder relative to the set's data root."""
        return f"{self.split}/{scene_name(self.settings, self.index)}"


def pretrain_rooms(count: int) -> list[Room]:
    """The first rooms to pre-train on; fewer lie within more."""
    rooms = []
    for i in range(count):
        noise, points = NOISE[i // KINDS % len(NOISE)], POINTS[i // (KINDS * len(NOISE)) % len(POINTS)]
        rooms.append(Room(SyntheticSettings(SEEDS["pretrain"], noise, points), i, "pretrain", "train"))
    return rooms


def probe_rooms(kind: str, split: str, count: int) -> list[Room]:
    """The first rooms of a probe's set: ``kind`` "clean" or "noisy", ``split`` "train", "val" or "test"."""
    levels = PROBE_NOISE[kind]
    return [
        Room(SyntheticSettings(SEEDS[split], levels[i // KINDS % len(levels)], PROBE_POINTS), i, kind, split)
        for i in range(count)
    ]


def make(rooms: list[Room], out: Path, workers: int) -> None:
    """Make what is not there yet, and the list of the rooms to pre-train on (``pretrain.json``)."""
    with one_thread(), ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        jobs = [(r.settings, r.index, out / r.kind / r.split, r.kind != "pretrain", False) for r in rooms]
        for _ in pool.map(generate_one, *zip(*jobs, strict=True), chunksize=4):
            pass
    if names := [room.name for room in rooms if room.kind == "pretrain"]:
        write_json(out / "pretrain" / "pretrain.json", names)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Processes started in here have one thread each."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

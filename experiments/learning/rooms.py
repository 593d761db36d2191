"""Rooms of the experiment: noisy ones to pre-train on, and labelled ones that were never seen, as surface and as video.

``WORK/rooms-<digest>/<noise>/train`` has scene folders without labels; ``.../labelled/<split>-<i>-<version>.npz`` a
labelled cloud each: version "clean", or "pi3-0" and "pi3-1", two independent reconstructions of one scan of the room.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from data_tools.clouds.io import Cloud
from data_tools.stages.files import replacing
from data_tools.stages.scene_folder import settings_hash
from data_tools.synthetic.rooms import generate
from data_tools.synthetic.rooms.generate import SyntheticSettings, make_room, make_scan, reconstruct, scene_name
from experiments.learning.plan import SEEDS, VERSION, Settings
from experiments.tiny.probe import raw_inputs

SPLIT = "train"


@dataclass(frozen=True)
class Labelled:
    """A labelled cloud.

    Attributes:
        name: of the room, whatever its version.
        columns: coord (N, 3) metres, color (N, 3) 0-255, normal (N, 3).
        segment: (N,) class of each point.
        surface: (N,) number of the point of the true surface that each is a reconstruction of.
        raw: (M, 10) raw inputs of the cells, see `experiments.tiny.probe.raw_inputs`.
        cell: (N,) cell of each point.
    """

    name: str
    columns: tuple[np.ndarray, np.ndarray, np.ndarray]
    segment: np.ndarray
    surface: np.ndarray
    raw: np.ndarray
    cell: np.ndarray


@dataclass(frozen=True)
class Room:
    """One cloud to make: "pretrain" or a labelled split, its number, its noise, and which reconstruction."""

    part: str
    index: int
    noise: str = "clean"
    draw: int = 0

    @property
    def version(self) -> str:
        """Of a labelled room."""
        return "clean" if self.noise == "clean" else f"{self.noise}-{self.draw}"


def root(work: Path, settings: Settings) -> Path:
    """Folder of all rooms of these settings."""
    digest = settings_hash({"points": settings.points, "seeds": SEEDS, "version": (VERSION, generate.VERSION)})
    return work / f"rooms-{digest[:8]}"


def every(settings: Settings) -> Iterator[Room]:
    """All rooms, to be made in any order."""
    noises = sorted({noise for noise, _ in settings.seeds} | {"pi3", "worse"})  # the map has both
    for noise in noises:
        yield from (Room("pretrain", i, noise) for i in range(settings.rooms))
    for split, count in (("train", settings.train_rooms), ("val", settings.val_rooms), ("test", settings.test_rooms)):
        yield from (Room(split, i) for i in range(count))
    for noise in noises:
        yield from (Room("test", i, noise, draw) for i in range(settings.test_rooms) for draw in (0, 1))


def make(room: Room, work: Path, settings: Settings) -> None:
    """Make a cloud unless it is there."""
    folder = root(work, settings)
    how = SyntheticSettings(SEEDS[room.part], room.noise, settings.points)
    if room.part == "pretrain":
        generate.generate_one(how, room.index, folder / room.noise / SPLIT, labels=False, overwrite=False)
        return
    path = _path(folder, room)
    if path.is_file():
        return
    cloud = make_room(how, room.index)[0] if room.noise == "clean" else _reconstructed(how, room)
    columns = cloud.coord, cloud.color.astype(np.float32), cloud.normal
    raw, cell = raw_inputs(columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ("coord", "color", "normal")
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            **dict(zip(names, columns, strict=True)),
            segment=cloud.segment.astype(np.int32),
            surface=cloud.instance,
            raw=raw,
            cell=cell,
        )


def _reconstructed(how: SyntheticSettings, room: Room) -> Cloud:
    """One of the independent reconstructions of a scan; ``instance`` numbers the true surface's points."""
    built, scan = make_scan(how, room.index)
    numbered = replace(scan.points, instance=np.arange(len(scan.points), dtype=np.int32))
    rng = np.random.default_rng([how.seed, room.index, 10 + room.draw])
    return reconstruct(how, built, replace(scan, points=numbered), rng)


def _path(folder: Path, room: Room) -> Path:
    return folder / "labelled" / f"{room.part}-{room.index}-{room.version}.npz"


@cache
def read(room: Room, work: Path, settings: Settings) -> Labelled:
    """A labelled cloud; a process keeps what it read, since every row is probed on the same rooms."""
    with np.load(_path(root(work, settings), room)) as file:
        columns = tuple(file[name] for name in ("coord", "color", "normal"))
        rest = [file[name] for name in ("segment", "surface", "raw", "cell")]
    return Labelled(f"{room.part}-{room.index}", columns, *rest)


def scenes(work: Path, settings: Settings, noise: str) -> list[str]:
    """Folders of the rooms to pre-train on, relative to their data root, which is ``root(...) / noise``."""
    how = SyntheticSettings(SEEDS["pretrain"], noise, settings.points)
    return [f"{SPLIT}/{scene_name(how, index)}" for index in range(settings.rooms)]

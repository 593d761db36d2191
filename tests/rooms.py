"""Rooms for the tests: a box room in closed form, one of `data_tools.synthetic`, and scene folders of either."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.clouds.io import Cloud
from data_tools.synthetic.rooms.generate import SyntheticSettings, make_room

FLOOR, WALL, BLOCK = range(3)
COLORS = np.array([[190, 60, 50], [60, 90, 190], [50, 170, 70]])


def box_room(
    count: int = 1500, size: tuple[float, float, float] = (2.0, 2.0, 1.6), seed: int = 0, unlabelled: float = 0.0
) -> Cloud:
    """The inside of a box with a low block in it, one corner at 0, in metres: random points in random order.

    Colours tell the classes `FLOOR`, `WALL` (the ceiling's, too) and `BLOCK` apart, normals face into the room. The
    block's top covers x from 1/8 to 3/8, y from 1/6 to 1/2 of the room at a fifth of its height. A share of the labels
    is -1.
    """
    rng = np.random.default_rng(seed)
    part = rng.choice(4, count, p=(0.3, 0.15, 0.35, 0.2))  # floor, ceiling, walls, block
    unit, normal = rng.random((count, 3)), np.zeros((count, 3), np.float32)
    for number, place, facing in ((0, 0, 1), (1, 1, -1), (3, 0.2, 1)):
        unit[part == number, 2] = place
        normal[part == number, 2] = facing
    wall = np.flatnonzero(part == 2)
    axis, side = rng.integers(0, 2, len(wall)), rng.integers(0, 2, len(wall))
    unit[wall, axis] = side
    normal[wall, axis] = 1 - 2 * side
    unit[part == 3, :2] = unit[part == 3, :2] * (1 / 4, 1 / 3) + (1 / 8, 1 / 6)
    segment = np.array([FLOOR, WALL, WALL, BLOCK], np.int32)[part]
    color = np.clip(COLORS[segment] + rng.normal(0, 8, (count, 3)), 0, 255).astype(np.uint8)
    segment[rng.random(count) < unlabelled] = -1
    return Cloud((unit * size).astype(np.float32), color, normal, segment=segment)


@cache
def synthetic_room(index: int = 0, **settings: Any) -> tuple[Cloud, dict[str, Any]]:
    """Room ``index`` of ``SyntheticSettings(**settings)`` and its meta.json; the arrays are not to be written to."""
    cloud, meta = make_room(SyntheticSettings(**settings), index)
    for value in cloud.arrays().values():
        value.flags.writeable = False
    return cloud, meta


def sample_of(cloud: Cloud, **more: Any) -> dict[str, Any]:
    """A cloud as the data sets hand it to the transforms: a dict of float32 and int32 arrays with a name."""
    arrays = {
        key: np.asarray(value, np.int32 if value.ndim == 1 else np.float32) for key, value in cloud.arrays().items()
    }
    return {**arrays, "name": "room", **more}


def put_scene(folder: Path, cloud: Cloud | None = None, **arrays: Any) -> Path:
    """A scene folder as other tools may have written it: the cloud's arrays, others or None instead of some.

    Without a cloud it is a box room of 60 points without labels.
    """
    if cloud is None:
        cloud = box_room(60)
        cloud.segment = None
    folder.mkdir(parents=True)
    for name, value in {**cloud.arrays(), **arrays}.items():
        if value is not None:
            np.save(folder / f"{name}.npy", value)
    return folder


def put_rooms(root: Path, splits: dict[str, int], labels: tuple[str, ...] = ("segment",), **room: Any) -> Path:
    """``root/<split>/room<i>``, so many of every split: box rooms, all different, with their labels in these files."""
    for number, (split, rooms) in enumerate(splits.items()):
        for index in range(rooms):
            cloud = box_room(seed=100 * number + index, **room)
            put_scene(root / split / f"room{index}", cloud, **{"segment": None, **dict.fromkeys(labels, cloud.segment)})
    return root

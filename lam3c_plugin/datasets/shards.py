"""Scenes in tar files, as ``package.py --shards`` writes them: ``<root>/<split>/00000.tar`` and ``00000.json``.

The json holds ``size`` of the tar in bytes, ``sha256``, and ``scenes``: name -> file -> [first byte, bytes] in the tar.
The files are read where they lie: nothing is unpacked, and a scene costs one open file and a read an array.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import numpy as np

from lam3c_plugin.datasets.scene import ReadFile, read_part
from lam3c_plugin.errors import DataError

FILES = ("coord.npy", "color.npy", "normal.npy")
COLUMNS = 1 + 2 * len(FILES)
CURE = "fetch it again, or write it with package.py --shards"


class Shards:
    """Where the scenes of a data set lie in tar files: 56 bytes a scene.

    Before `settle` it is filled folder by folder; after it, it answers for the scenes by number. It holds no open file
    (so it pickles, and a fork shares nothing).
    """

    def __init__(self) -> None:
        self.tars: list[str] = []
        self._rows: dict[str, int] = {}
        self._folders: set[str] = set()
        self._places: list[np.ndarray] = []
        self._table = np.zeros((0, COLUMNS), np.int64)

    def add(self, folder: str) -> list[str]:
        """Take in the numbered tar files of a split's folder; returns the paths its scenes would have as folders.

        Raises:
            DataError: a tar or its index is missing, damaged or of another size than the other says.
        """
        if folder in self._folders or not os.path.isdir(folder):
            return []
        self._folders.add(folder)
        parts = [os.path.splitext(name) for name in os.listdir(folder) if not name.startswith(".")]
        found: list[str] = []
        for stem in sorted({stem for stem, ending in parts if ending in (".tar", ".json") and stem.isdigit()}):
            tar = os.path.join(folder, f"{stem}.tar")
            names, places = _read_index(tar, len(self.tars))
            paths = [os.path.join(folder, name) for name in names]
            first = sum(map(len, self._places))
            self._rows.update((os.path.normpath(path), first + number) for number, path in enumerate(paths))
            self._places.append(places)
            self.tars.append(tar)
            found += paths
        return found

    def settle(self, scenes: Sequence[str]) -> None:
        """Keep the places of these scenes, in their order; those that are no part of a tar lie in folders."""
        table = np.concatenate([*self._places, np.full((1, COLUMNS), -1)])  # the last row is that of a folder
        self._table = table[[self._rows.get(os.path.normpath(path), -1) for path in scenes]]
        self._rows, self._places, self._folders = {}, [], set()

    def reader(self, number: int) -> ReadFile | None:
        """What reads the files of scene ``number``, or None where it is a folder."""
        tar, *places = self._table[number].tolist() if len(self._table) else [-1]
        if tar < 0:
            return None
        starts, sizes = places[: len(FILES)], places[len(FILES) :]

        def read(name: str) -> np.ndarray | None:
            which = FILES.index(name)
            if starts[which] < 0:
                return None
            file = os.open(self.tars[tar], os.O_RDONLY | getattr(os, "O_BINARY", 0))
            try:
                return read_part(file, starts[which], sizes[which])
            finally:
                os.close(file)

        return read


def _read_index(tar: str, number: int) -> tuple[list[str], np.ndarray]:
    """The scenes' names, and a row for each: ``number``, the first bytes of its `FILES`, their lengths; -1 for none.

    Raises:
        DataError: the tar or its index is missing or damaged, or the tar is of another size than the index says.
    """
    path = f"{os.path.splitext(tar)[0]}.json"
    try:
        there = os.path.getsize(tar)
        with open(path, encoding="utf-8") as file:
            index = json.load(file)
        size, scenes = int(index["size"]), dict(index["scenes"])
        rows = [[files.get(name, (-1, -1)) for name in FILES] for files in scenes.values()]
        places = [[number, *(start for start, _ in row), *(length for _, length in row)] for row in rows]
        table = np.array(places, np.int64).reshape(len(scenes), COLUMNS)
        starts, lengths = np.split(table[:, 1:], 2, axis=1)
        if ((starts < 0) != (starts == -1)).any() or (lengths < -1).any() or (starts + lengths > size).any():
            raise ValueError("a file lies outside the tar")
    except FileNotFoundError as error:
        raise DataError(f"{os.path.abspath(error.filename)} is missing: {CURE}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{os.path.abspath(path)} cannot be read as the index of a tar ({error}): {CURE}") from None
    if there != size:
        raise DataError(f"{os.path.abspath(tar)} has {there} bytes, its index says {size}: {CURE}")
    return list(scenes), table

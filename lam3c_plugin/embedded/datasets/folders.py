"""Scene folders on disk: ``<root>/<split>/<scene>/*.npy``, or a JSON list of scene folders."""

from __future__ import annotations

import json
import os
import re

from lam3c_plugin.errors import DataError, did_you_mean


def natural_key(name: str) -> list[int | str]:
    """Sort key that puts ``scene2`` before ``scene10``."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name)]


def list_split(root: str, split: str) -> list[str]:
    """Scenes of one split of a data root, as paths ``root/...``.

    ``split`` is a folder under ``root`` (its sub-folders, hidden ones aside, in natural order; symlinks are followed
    and stray files ignored), or a JSON file under ``root`` with a list of folders relative to ``root``, kept in its
    order.

    Raises:
        DataError: there is no such split, or the JSON file is not a list of folders.
    """
    path = os.path.join(root, split)
    if os.path.isfile(path):
        return [os.path.join(root, entry) for entry in _read_list(path)]
    try:
        with os.scandir(path) as entries:
            # a dangling link is a broken scene, not a stray file: it is kept and reported when it is read
            names = [
                entry.name
                for entry in entries
                if not entry.name.startswith(".")
                and (entry.is_dir() or (entry.is_symlink() and not os.path.exists(entry.path)))
            ]
    except FileNotFoundError:
        cure = "`python data_tools/package.py CLOUDS --out ROOT --split NAME` makes one"
        place = f"no split {split!r} in {os.path.abspath(root)}"
        raise DataError(f"{place}{_known_splits(root, split)}; {cure}") from None
    except OSError as error:
        raise DataError(f"cannot list {os.path.abspath(path)}: {error.strerror or error}") from None
    return [os.path.join(path, name) for name in sorted(names, key=lambda name: (natural_key(name), name))]


def _read_list(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            entries = json.load(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{os.path.abspath(path)} is not a JSON list of scene folders: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise DataError(f"{os.path.abspath(path)} must hold a list of folders relative to the data root")
    return entries


def _known_splits(root: str, split: str) -> str:
    try:
        known = [
            name
            for name in os.listdir(root)
            if not name.startswith(".") and (name.endswith(".json") or os.path.isdir(os.path.join(root, name)))
        ]
    except OSError:
        return ": the folder itself is missing"
    return did_you_mean(split, known)

"""Scenes that are no more: listed first, then moved aside, never deleted while the chain works."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from data_tools.chain.folders import remove_folder
from data_tools.chain.items import Places

UNDO = "undo.sh"
HEAD = """#!/bin/sh
# Brings back what the chain took out of the data set, each line a folder: sh undo.sh
cd "$(dirname "$0")" || exit 1
"""


def removed_area(places: Places) -> Path:
    """What was taken out, until ``--clean``."""
    return places.work / "removed"


class Removed:
    """Moves folders to ``WORK/removed/<run>``, with an ``undo.sh`` that moves them back.

    Args:
        places: the folders.
        run: the run's name; shards have an area each.
    """

    def __init__(self, places: Places, run: str) -> None:
        self.area = removed_area(places) / run

    def take(self, folders: Sequence[Path], reason: str) -> None:
        """Move folders aside.

        Raises:
            OSError: the disk is full or not writable; what is not listed is not moved.
        """
        if not folders:
            return
        self.area.mkdir(parents=True, exist_ok=True)
        moves = [(folder, self._free_place(folder)) for folder in folders]
        with (self.area / UNDO).open("a", encoding="utf-8") as handle:
            if not handle.tell():
                handle.write(HEAD)
            for folder, target in moves:
                at, back = (shlex.quote(os.path.relpath(path, self.area)) for path in (target, folder))
                handle.write(f"[ -e {back} ] || mv {at} {back}  # {' '.join(reason.split())}\n")
            handle.flush()
            os.fsync(handle.fileno())
        for folder, target in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
            _move(folder, target)

    def _free_place(self, folder: Path) -> Path:
        place, number = self.area / folder.parent.name / folder.name, 1
        while place.exists():
            number += 1
            place = place.with_name(f"{folder.name}~{number}")
        return place


def _move(folder: Path, target: Path) -> None:
    """Rename; onto another file system: copy, then remove the first as a whole."""
    try:
        folder.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copytree(folder, target)
        remove_folder(folder)


def clean(places: Places) -> int:
    """Delete what was taken out; returns how many folders that were."""
    area = removed_area(places)
    count = sum(path.is_dir() for path in area.glob("*/*/*"))
    shutil.rmtree(area, ignore_errors=True)
    return count

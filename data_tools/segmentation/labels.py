"""Labels of frames from a CSV file: a person's, or another program's."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.stages.record import StageError

SURE = 0.97  # probability of a label that was given


@dataclass(frozen=True)
class LabelTable:
    """Labels at times.

    Attributes:
        times: (R,) seconds, rising.
        labels: (R,) names; one holds until midway to the next.
        names: the different names, sorted.
    """

    times: NDArray[np.float64]
    labels: list[str]
    names: list[str]

    def probabilities(self, times: NDArray[np.float64]) -> NDArray[np.float32]:
        """(S, names) probabilities at (S,) times: the nearest row's label is nearly sure."""
        right = np.clip(np.searchsorted(self.times, times), 0, len(self.times) - 1)
        left = np.maximum(right - 1, 0)
        nearest = np.where(times - self.times[left] <= self.times[right] - times, left, right)
        rest = (1 - SURE) / max(len(self.names) - 1, 1)
        rows = np.full((len(times), len(self.names)), rest, np.float32)
        column = {name: i for i, name in enumerate(self.names)}
        rows[np.arange(len(times)), [column[self.labels[i]] for i in nearest]] = SURE
        return rows / rows.sum(1, keepdims=True)


def label_file(path: Path, video_id: str) -> Path:
    """The CSV of a video: the path itself, or ``<video_id>.csv`` in a folder.

    Raises:
        StageError: the folder has none for this video.
    """
    if not path.is_dir():
        return path
    found = path / f"{video_id}.csv"
    if not found.is_file():
        raise StageError(f"{video_id}: no {found.name} among the label files; add it or use --labels none", False)
    return found


def read_labels(path: Path) -> LabelTable:
    """Read rows ``time,label`` (seconds; a header and more columns are allowed).

    Raises:
        StageError: not readable, a time that is not a number, no row.
    """
    rows: list[tuple[float, str]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            columns = (0, 1)
            for number, row in enumerate(csv.reader(handle), start=1):
                if not rows and "label" in (header := [cell.strip().lower() for cell in row]) and "time" in header:
                    columns = header.index("time"), header.index("label")
                elif any(cell.strip() for cell in row):
                    rows.append(_row(path, number, row, columns))
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(f"{path.name}: label file cannot be read: {error}", False) from error
    if not rows:
        raise StageError(f"{path.name}: no rows time,label in it", False)
    rows.sort(key=lambda row: row[0])
    names = sorted({label for _, label in rows})
    return LabelTable(np.array([time for time, _ in rows]), [label for _, label in rows], names)


def _row(path: Path, number: int, row: Sequence[str], columns: tuple[int, int]) -> tuple[float, str]:
    try:
        time, label = float(row[columns[0]]), row[columns[1]].strip().lower()
    except (ValueError, IndexError) as error:
        raise StageError(f"{path.name}: line {number}: {row!r} is not time,label", False) from error
    if not np.isfinite(time) or not label:
        raise StageError(f"{path.name}: line {number}: {row!r} is not time,label", False)
    return time, label

"""The log of runs: what was called, what came of it, how long it took, what was killed. The folders stay the truth.

Each run, or shard of one, adds JSON lines to a file of its own, ``WORK/log/<run>~<host>.jsonl``; reading takes all of
them. A line about an item is believed as long as the item's record is the one that the line was written for
(`data_tools.chain.plan`); else the record itself is read. So deleting the logs loses times and attempts, and what
failed without leaving a folder is tried again.
"""

from __future__ import annotations

import socket
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_tools.stages.lines import append_lines, read_lines

Item = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """The state of one item in one stage.

    Attributes:
        stage: of the item.
        name: the item's, which is its folder's.
        video: that it belongs to.
        status: "done", "rejected", "failed".
        reason: why not; one line.
        permanent: another try would end the same way.
        key: of the input (`data_tools.chain.plan`).
        mark: size and time of the item's record, to see that it is the same still; empty without one.
        attempts: how often it was tried with this key.
        seconds: of the last try.
        host: of the last try.
        time: Unix time of the line.
        passing: the cloud goes when the scene is settled; never so for what the log does not know.
    """

    stage: str
    name: str
    video: str
    status: str
    reason: str = ""
    permanent: bool = False
    key: str = ""
    mark: str = ""
    attempts: int = 1
    seconds: float = 0.0
    host: str = ""
    time: float = 0.0
    passing: bool = False

    @property
    def item(self) -> Item:
        """What the row is about."""
        return self.stage, self.name


@dataclass(frozen=True, slots=True)
class Print:
    """A video file as it was when its fingerprint was taken."""

    path: str
    size: int
    mtime_ns: int
    fingerprint: str
    video: str


END = "end"
USUAL = {
    "reason": "",
    "permanent": False,
    "attempts": 1,
    "seconds": 0.0,
    "host": "",
    "mark": "",
    "key": "",
    "passing": False,
}


class Journal:
    """All rows, and the file of this run.

    Args:
        folder: of the logs.
        run: name of this run; None only reads.

    A disk that cannot be written costs nothing but time: lines wait in memory for the next try.
    """

    def __init__(self, folder: Path, run: str | None = None) -> None:
        self.file = None if run is None else folder / f"{run}~{socket.gethostname()}.jsonl"
        self.rows: dict[Item, Row] = {}
        self.prints: dict[str, Print] = {}
        self.origins: dict[str, str] = {}  # of videos
        self.seconds: Counter[str] = Counter()
        self.ended = 0.0  # when a run last came to its end
        self.fresh: set[Item] = set()  # tried in this run: once is enough
        self._unsaved: list[dict[str, Any]] = []
        for path in sorted(folder.glob("*.jsonl")):
            for line in read_lines(path):
                self._read(line)

    def _read(self, line: dict[str, Any]) -> None:
        try:
            if "status" in line:
                line["stage"], line["video"] = sys.intern(line["stage"]), sys.intern(line["video"])
                row = Row(**line)
                before = self.rows.get(row.item)
                self.seconds[row.stage] += row.seconds
                if before is None or before.time <= row.time:
                    self.rows[row.item] = row
            elif "fingerprint" in line:
                found = Print(**line)
                self.prints[found.path] = found
            elif "origin" in line:
                self.origins[line["video"]] = line["origin"]
            elif line.get("event") == END:
                self.ended = max(self.ended, line["time"])
            elif "gone" in line:
                self.rows.pop((line["stage"], line["gone"]), None)
        except (TypeError, KeyError, ValueError):  # of another version: the folder is asked
            return

    def get(self, stage: str, name: str) -> Row | None:
        """The newest row of an item."""
        return self.rows.get((stage, name))

    def put(self, row: Row) -> Row:
        """Keep what came of a try; tries with the same key are counted up."""
        before = self.rows.get(row.item)
        attempts = before.attempts + 1 if before is not None and before.key == row.key else 1
        row = self.found(replace(row, attempts=attempts, host=sys.intern(row.host)))
        self.fresh.add(row.item)
        return row

    def found(self, row: Row) -> Row:
        """Keep the row of a folder that the logs did not know."""
        row = replace(row, time=round(time.time(), 3))
        self.seconds[row.stage] += row.seconds
        return self.amend(row)

    def amend(self, row: Row) -> Row:
        """Put a row in the place of the item's last one: nothing was done, so no time is counted."""
        self.rows[row.item] = row
        self._unsaved.append(_line(row))
        return row

    def drop(self, items: Iterable[Item]) -> None:
        """Forget items that are no longer part of the data set, or whose outcome does not count."""
        for item in items:
            if self.rows.pop(item, None) is not None:
                self._unsaved.append({"stage": item[0], "gone": item[1]})

    def put_print(self, found: Print) -> None:
        """Remember a file's fingerprint."""
        self.prints[found.path] = found
        self._unsaved.append(_line(found))

    def put_origin(self, video: str, origin: str) -> None:
        """Remember the set that a video comes from."""
        if origin and self.origins.get(video) != origin:
            self.origins[video] = origin
            self._unsaved.append({"video": video, "origin": origin})

    def note(self, event: str, **facts: Any) -> None:
        """Something that is no outcome: a run, a kill, folders that were moved."""
        self._unsaved.append({"event": event, "time": round(time.time(), 3), **facts})

    def save(self) -> bool:
        """Write what is new; returns whether all is written."""
        if self.file is None or not self._unsaved:
            return not self._unsaved
        try:
            append_lines(self.file, self._unsaved)
        except OSError:
            return False
        self._unsaved.clear()
        return True


def _line(value: Row | Print) -> dict[str, Any]:
    """What is unusual about a row; without the copies that ``asdict`` makes."""
    fields = ((name, getattr(value, name)) for name in value.__slots__)
    return {name: found for name, found in fields if USUAL.get(name) != found}


def read_events(folder: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Noted events of all logs, oldest first."""
    lines = (line for path in sorted(folder.glob("*.jsonl")) for line in read_lines(path))
    return sorted((line for line in lines if line.get("event") in names), key=lambda line: line.get("time", 0))

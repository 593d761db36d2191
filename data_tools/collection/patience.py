"""What a run of downloads makes of its answers: when it waits, when it stops, what is asked again.

One patience serves a whole run, whichever video it asks for: a dead network or a rate limit is not a video's fault.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from data_tools.collection.failures import DISK, PASSING, RATE_LIMITED
from data_tools.collection.ledger import AREA
from data_tools.collection.preflight import age_of_yt_dlp
from data_tools.collection.settings import CollectSettings
from data_tools.stages.files import write_json
from data_tools.stages.record import StageRecord, read_record, write_record

NETWORK, REFUSED = "network", "refused"
SIGNS = {"network": NETWORK, "server": NETWORK, "refused": REFUSED}  # categories that are seldom a video's own fault
TOO_LONG = "too long"
CURE = (
    'update yt-dlp (pip install -U "yt-dlp[default]"), log in (setting cookies) or wait, then start it again; '
    "nothing is lost"
)
Say = Callable[[str], None]
Item = TypeVar("Item")


class QueueStoppedError(Exception):
    """The queue cannot go on now; what is left waits for the next run.

    Args:
        reason: one line with the cure.
        taken_back: videos whose answers do not count: they are undone again.
    """

    def __init__(self, reason: str, taken_back: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.taken_back = list(taken_back)


def to_stderr(message: str) -> None:
    """Print a line beside a progress bar."""
    print(f"collect: {message}", file=sys.stderr)


class Pause:
    """A wait that outlives the process: started again after a kill, the run still keeps it."""

    def __init__(
        self, videos: Path, sleep: Callable[[float], None] = time.sleep, now: Callable[[], float] = time.time
    ) -> None:
        self.path = videos / AREA / "pause.json"
        self.sleep, self.now = sleep, now

    def state(self) -> tuple[float, int, str]:
        """When it ends (seconds since 1970), how many in a row it is, why."""
        try:
            value = json.loads(self.path.read_text(encoding="utf-8"))
            return float(value["until"]), int(value["count"]), str(value["reason"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0, 0, ""

    def left(self) -> float:
        """Seconds still to wait."""
        return max(0.0, self.state()[0] - self.now())

    def begin(self, first: float, longest: float, reason: str) -> float:
        """Start a wait, twice as long as the one before; returns its seconds."""
        count = self.state()[1]
        seconds = min(first * 2 ** min(count, 16), longest)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, {"until": self.now() + seconds, "count": count + 1, "reason": reason})
        return seconds

    def keep(self, say: Callable[[str], None]) -> None:
        """Wait until it is over."""
        seconds, reason = self.left(), self.state()[2]
        if seconds <= 0:
            return
        say(f"waiting {seconds / 60:.0f} min: {reason}; nothing is lost, interrupt and start again as you like")
        while (seconds := self.left()) > 0:
            self.sleep(min(seconds, 30.0))

    def clear(self) -> None:
        """A video came through: the next wait starts small again."""
        self.path.unlink(missing_ok=True)


class Patience:
    """Judges the answers of a run, one after the other."""

    def __init__(
        self,
        videos: Path,
        settings: CollectSettings,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.videos, self.settings = videos, settings
        self.pause = Pause(videos, sleep, now)
        self.waits = 0
        self._answer = ""
        self._alike: list[str] = []  # videos that were answered so, in a row
        self._suspects: set[str] = set()  # showed a sign of a dead network or of a rate limit
        self._own: set[str] = set()  # showed one, and others came through since: it is their own

    def remember(self, records: Sequence[StageRecord]) -> None:
        """Take up the row of equal answers that a run was at when it was killed: its last answers, oldest first."""
        for record in records:
            answer = answer_of(record)
            if answer in ("", NETWORK, REFUSED) or answer != self._answer:
                self._answer, self._alike = answer, []
            self._alike += [record.item] if answer not in ("", NETWORK, REFUSED) else []

    def tell(self, record: StageRecord) -> list[str]:
        """Take the answer to a question that was really asked.

        Returns:
            Names of videos to ask again after the wait that has begun; none: go on with the next.

        Raises:
            QueueStoppedError: still refused after the last wait, too many answers alike, or the disk is full.
        """
        kind = record.result.get("failure")
        if kind == DISK:
            raise QueueStoppedError(f"{self.videos}: the disk is full; make room, then start it again")
        answer = answer_of(record)
        if not answer:
            self._came_through()
            return []
        is_sign = answer in (NETWORK, REFUSED)
        if is_sign and kind != RATE_LIMITED and record.item in self._own:
            return []
        if answer != self._answer:
            self._answer, self._alike = answer, []
        self._alike.append(record.item)
        if is_sign:
            return self._meet_sign(record, kind == RATE_LIMITED)
        self.waits = 0
        if self.settings.alike and len(self._alike) >= self.settings.alike:
            self._stop(record)
        return []

    def _came_through(self) -> None:
        self._own |= self._suspects
        self._suspects = set()
        self._answer, self._alike, self.waits = "", [], 0
        self.pause.clear()

    def _meet_sign(self, record: StageRecord, is_sure: bool) -> list[str]:
        self._suspects.add(record.item)
        if not is_sure and len(self._alike) < self.settings.network_failures:
            return []
        if self.waits == self.settings.pauses:
            reason = f"still refused after {self.waits} waits ({record.reason})"
            cure = "check the network, then start it again" if self._answer == NETWORK else cure_line()
            raise QueueStoppedError(f"{reason}; {cure}", self._alike)
        first = self.settings.network_pause if self._answer == NETWORK else self.settings.pause
        why = f"{record.result.get('category')}: {record.reason[:120]}"
        self.pause.begin(first, max(first, self.settings.pause_max), why)
        self.waits += 1
        again, self._alike = list(dict.fromkeys(self._alike)), []
        return again

    def _stop(self, record: StageRecord) -> None:
        """So many equal answers tell of the asker: none of these videos is written off."""
        count, names = len(self._alike), list(dict.fromkeys(self._alike))
        self._answer, self._alike = "", []
        for name in names:
            take_back(self.videos / name)
        raise QueueStoppedError(
            f"{count} answers in a row were alike ({record.reason}); {cure_line()}; if all of these videos are so, "
            "go on with the setting alike=0",
            names,
        )


def cure_line() -> str:
    """What to do about answers that tell of the asker; an old yt-dlp is named."""
    return "; ".join(filter(None, (age_of_yt_dlp(), CURE)))


def answer_of(record: StageRecord) -> str:
    """What two equal answers share; empty where the video came, or came but for its length."""
    category = str(record.result.get("category", ""))
    if record.status == "done" or (record.status == "rejected" and category == TOO_LONG):
        return ""
    if record.result.get("failure") == RATE_LIMITED:
        return REFUSED
    if category in ("", "unknown"):
        return re.sub(r"\d+", "#", record.reason.replace(record.item, "…"))
    return SIGNS.get(category, category)


def take_back(folder: Path) -> None:
    """Make a video's failure a passing one, so that it is asked for again."""
    record = read_record(folder)
    if record is None or record.status == "done":
        return
    record.status, record.permanent = "failed", False
    record.result["failure"] = PASSING
    record.notes.append("one of many equal answers in a row; asked again")
    write_record(folder, record)


def put_back(left: deque[Item], again: Sequence[Item], record: StageRecord) -> None:
    """Put items into the queue again: first at a rate limit, else last, behind those that may go well."""
    if record.result.get("failure") == RATE_LIMITED:
        left.extendleft(reversed(again))
    else:
        left.extend(again)

"""A pause that all processes keep, across restarts too."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from data_tools.collection.ledger import AREA
from data_tools.stages.files import write_json


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

"""The downloads of a run: handed out one at a time, with one patience for all of them."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_tools.chain.items import Call
from data_tools.collection.patience import Patience, QueueStoppedError, put_back
from data_tools.collection.settings import CollectSettings
from data_tools.stages.record import StageRecord


class Downloads:
    """Holds the collect calls of a run, so that what one of them meets decides for all.

    A dead network and a rate limit begin a wait and use up no video; after the last wait, and after too many equal
    answers in a row, the queue stops and the other stages go on.

    Args:
        videos: folder of the video folders.
        settings: of the collect stage; other settings than ``CollectSettings`` (tests) have its default manners.
        submit: gives a call to the executor.
    """

    def __init__(self, videos: Path, settings: Any, submit: Callable[[Call], None]) -> None:
        manners = settings if isinstance(settings, CollectSettings) else CollectSettings()
        self.patience, self.submit = Patience(videos, manners), submit
        self.stopped = ""
        self._left: deque[Call] = deque()
        self._asked: dict[str, Call] = {}
        self._in_hand = ""
        self._said = ""

    @property
    def is_waiting(self) -> bool:
        """Whether calls are left that the executor does not have."""
        return bool(self._left)

    def add(self, call: Call) -> None:
        """Take a call."""
        self._left.append(call)
        self.start()

    def start(self) -> None:
        """Hand out the next call, if none is running and no wait is on."""
        if self._in_hand or not self._left:
            return
        seconds, (_, _, reason) = self.patience.pause.left(), self.patience.pause.state()
        if seconds > 0:
            if reason != self._said:
                _say(f"downloads wait {seconds / 60:.0f} min: {reason}; nothing is lost, the other stages go on")
            self._said = reason
            return
        call = self._left.popleft()
        self._in_hand, self._asked[call.name], self._said = call.name, call, ""
        self.submit(call)

    def take(self, call: Call, record: StageRecord | None) -> tuple[bool, list[str]]:
        """Take what came of the call in hand; ``record`` is None where its process was killed.

        Returns:
            Whether the outcome counts, and names of videos whose earlier outcomes no longer count.
        """
        self._in_hand = ""
        if record is None or record.skipped:
            return True, []
        try:
            again = self.patience.tell(record)
        except QueueStoppedError as error:
            self.stopped = f"{error} ({len(self._left) + len(error.taken_back or [call.name])} videos wait)"
            self._left.clear()
            return False, error.taken_back
        put_back(self._left, [self._asked[name] for name in again], record)
        return call.name not in again, again

    def drop_waiting(self) -> None:
        """Give up what has not begun; the next run comes to it."""
        self._left.clear()


def _say(message: str) -> None:
    from tqdm import tqdm

    tqdm.write(f"build_roomtours: {message}", file=sys.stderr)

"""Ctrl-C and SIGTERM ask a run to stop after the step it is in; asked again, it ends at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A terminal, torchrun and our own launcher may each pass on the same Ctrl-C: what follows this fast is no second wish.
_SAME_WISH = 0.5
STOP_POLL = 8  # optimiser steps after which several ranks ask each other whether to stop
_ANNOUNCEMENT = (
    f"\nstopping: finishing this step (several ranks: up to {STOP_POLL}), then saving; once more to stop at once\n"
)


class StopSignals:
    """While entered, records the first stop signal in `received` (its number, else 0) for the loop to see."""

    def __init__(self, announce: bool = True) -> None:
        self.announce = announce
        self.received = 0
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *exc: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        now = time.monotonic()
        if not self.received:
            self.received, self._since = number, now
            if self.announce:  # by os.write, since a handler may interrupt a print in progress
                os.write(2, _ANNOUNCEMENT.encode())
        elif now - self._since > _SAME_WISH:
            os._exit(128 + number)


def name_of(number: int) -> str:
    """``SIGINT`` as a person knows it."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name

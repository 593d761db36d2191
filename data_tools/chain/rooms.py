"""Back-pressure: how many scenes are under way, so that neither decoded frames nor raw clouds pile up on the disk."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from data_tools.chain.items import Call


class Rooms:
    """Holds the first calls of scenes until others have come to their end.

    A scene is under way from its first call (its frames are decoded) to its folder in the data set, so a GPU waits
    where post-processing does not keep up. Of the calls in the executor, what is nearest to its end goes first.

    Args:
        most: how many may be under way now; at least one always may.
        submit: gives a call to the executor; returns whether it was taken.
    """

    def __init__(self, most: Callable[[], int], submit: Callable[[Call], bool]) -> None:
        self.most, self.submit = most, submit
        self.inside: set[str] = set()
        self._outside: list[tuple[int, int, Call]] = []
        self._count = itertools.count()

    @property
    def waiting(self) -> int:
        """How many scenes have not begun."""
        return len(self._outside)

    def add(self, call: Call) -> None:
        """Take a call of a scene."""
        if call.name in self.inside:
            self.submit(call)
        else:
            heapq.heappush(self._outside, (call.priority, next(self._count), call))
            self._let_in()

    def end(self, scene: str) -> None:
        """A scene came to its end, is given up, or has to wait for a long time."""
        self.inside.discard(scene)
        self._let_in()

    def drop_waiting(self) -> None:
        """Give up what has not begun; the next run comes to it."""
        self._outside.clear()

    def _let_in(self) -> None:
        while self._outside and len(self.inside) < max(1, self.most()):
            call = heapq.heappop(self._outside)[2]
            if self.submit(call):
                self.inside.add(call.name)

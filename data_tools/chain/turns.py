"""Flows that wait for another one's end, so that of two copies the one that comes first in the list is made."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from data_tools.chain.items import Call
from data_tools.chain.journal import Row


@dataclass(frozen=True, slots=True)
class After:
    """The tour of a video or the way of a scene, whose end a flow waits for by yielding this."""

    name: str
    is_scene: bool = False


Flow = Generator[Call | After, Row, None]
Waiting = tuple[Flow, Row | None]


class Turns:
    """Who is under way, and who waits for whom."""

    def __init__(self) -> None:
        self._under_way: set[After] = set()
        self._waiting: dict[After, list[Waiting]] = {}

    def begin(self, who: After) -> None:
        """A flow begins."""
        self._under_way.add(who)

    def wait(self, whom: After, flow: Flow, row: Row | None) -> bool:
        """Hold a flow that goes on with this row; False where there is nobody to wait for."""
        if whom in self._under_way:
            self._waiting.setdefault(whom, []).append((flow, row))
        return whom in self._under_way

    def end(self, who: After) -> list[Waiting]:
        """A flow has come to its end, or may take long: nobody waits for it any more. Returns who did."""
        self._under_way.discard(who)
        return self._waiting.pop(who, [])

    def end_tours(self) -> list[Waiting]:
        """Nobody waits for a tour any more: none of them goes on. Returns who did."""
        return [found for who in [who for who in self._waiting if not who.is_scene] for found in self.end(who)]

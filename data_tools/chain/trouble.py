"""When to give up: on a call that takes too long, on a stage that fails in one way again and again, on a full disk."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from data_tools.chain.journal import Item, Row
from data_tools.reporting.measures import generic_reason

LEAST_SECONDS = 1800.0
TIMES_MEDIAN = 10.0
ALIKE = 20
REMEMBERED = 501


class Clock:
    """How long a call may take: half an hour, or ten times the stage's median so far, whichever is more."""

    def __init__(self, least: float = LEAST_SECONDS) -> None:
        self.least = least
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)

    def took(self, stage: str, seconds: float) -> None:
        """A call of a stage came to an end after so long."""
        self._seconds[stage] = [*self._seconds[stage][1 - REMEMBERED :], seconds]

    def limit(self, stage: str) -> float:
        """Seconds that a call of a stage may take."""
        return max(self.least, TIMES_MEDIAN * median(self._seconds[stage] or [0.0]))


class Breaker:
    """Counts failures of a stage that read alike, one after the other.

    Args:
        most: so many stop the stage; 0 for never.
    """

    def __init__(self, most: int = ALIKE) -> None:
        self.most = most
        self.stopped: dict[str, str] = {}
        self._alike: dict[str, tuple[str, list[Item]]] = {}

    def tell(self, row: Row) -> list[Item]:
        """Take what came of a call.

        Returns:
            Items whose failures do not count, for the stage stops now or has stopped; else none.
        """
        if row.status != "failed":
            self._alike.pop(row.stage, None)
            return []
        if row.stage in self.stopped:
            return [row.item]
        reason, (before, items) = general_reason(row), self._alike.get(row.stage, ("", []))
        items = [*items, row.item] if before == reason else [row.item]
        self._alike[row.stage] = reason, items
        if not self.most or len(items) < self.most:
            return []
        self.stopped[row.stage] = (
            f"{len(items)} failures in a row were alike ({row.reason}); mend the cause and start it again: nothing "
            "counts against them; if they are the items' own, go on with --alike 0"
        )
        return items


def general_reason(row: Row) -> str:
    """A reason without the item's and its video's name, paths and numbers, so that equal ones count together."""
    return generic_reason(generic_reason(row.reason, row.name), row.video)

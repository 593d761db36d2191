"""What the parts of `benchmarks/fuzz.py` share: outcomes, their count, the table."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

SAME, NOTED, REFUSED, TRACEBACK, SILENT = "same", "noted", "one line", "tracebacks", "silent differences"
OUTCOMES = (SAME, NOTED, REFUSED, TRACEBACK, SILENT)
MOST_EXAMPLES = 20


@dataclass
class Tally:
    """What became of the cases of one part.

    Attributes:
        part: its name, such as "clouds".
        rows: outcomes by kind of input.
        disputes: cases that two judges read differently, by kind and in words.
        examples: what the tracebacks and silent differences were, with the case's number.
    """

    part: str
    rows: dict[str, Counter[str]] = field(default_factory=dict)
    disputes: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, kind: str, outcome: str, words: str = "") -> None:
        """Count one case; the words of a traceback or a silent difference are kept."""
        self.rows.setdefault(kind, Counter())[outcome] += 1
        if outcome in (TRACEBACK, SILENT) and len(self.examples) < MOST_EXAMPLES:
            self.examples.append(f"{outcome}, {kind}: {words}")

    def attempt(
        self, kind: str, label: str, read: Callable[[], Any], refusal: type[Exception], names: Sequence[str]
    ) -> Any | None:
        """What ``read()`` gives; None, and counted, where it refuses (in a line that has one of ``names``) or fails."""
        try:
            return read()
        except refusal as error:
            clear = "\n" not in str(error) and any(name in str(error) for name in names)
            self.add(kind, REFUSED if clear else TRACEBACK, f"{label}: not one clear line: {error}")
        except Exception:
            self.add(kind, TRACEBACK, f"{label}: {traceback.format_exc().splitlines()[-1]}")
        return None

    def count(self, outcome: str) -> int:
        """Cases of all kinds with this outcome."""
        return sum(row[outcome] for row in self.rows.values())

    @property
    def bad(self) -> int:
        """Tracebacks and silent differences together; 0 is the bar."""
        return self.count(TRACEBACK) + self.count(SILENT)

    def lines(self) -> list[str]:
        """The table, then disputes and examples."""
        head = f"{self.part:24} {'cases':>7} " + " ".join(f"{name:>{max(9, len(name))}}" for name in OUTCOMES)
        out = [head]
        for kind, row in [*sorted(self.rows.items()), ("all", sum(self.rows.values(), Counter()))]:
            cells = " ".join(f"{row[name]:>{max(9, len(name))}}" for name in OUTCOMES)
            out.append(f"{kind:24} {row.total():>7} {cells}")
        out += [f"judges differ, {count:4} x {words}" for words, count in self.disputes.most_common()]
        return out + self.examples

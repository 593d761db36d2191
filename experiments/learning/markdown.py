"""Small pieces of Markdown: tables, scores, lists of settings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.learning.scores import Score


def cell(score: Score | None) -> str:
    """A score in a table."""
    return "–" if score is None else str(score)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; bars in a cell are escaped, line breaks become blanks."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[" ".join(str(item).split()).replace("|", "\\|") for item in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted key, value in words)."""
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            found.append((f"{prefix}{key}", ", ".join(map(str, value)) or "none"))
        else:
            found.append((f"{prefix}{key}", str(value)))
    return found


def in_words(items: Iterable[str]) -> str:
    """``a, b and c``."""
    *first, last = [*items] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def minutes(seconds: float | None) -> str:
    """A time for people; "unknown" for None."""
    if seconds is None or math.isnan(seconds):
        return "unknown"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"

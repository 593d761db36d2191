"""What readers had to do, said once per kind and not once per cloud."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

NUMBER = re.compile(r"\d[\d.,]*(e[-+]?\d+)?")


def grouped_notes(by_cloud: Iterable[tuple[str, Sequence[str]]], unit: str = "cloud") -> list[str]:
    """One line per kind of note: how many clouds have it, its words, and which cloud had it first.

    Args:
        by_cloud: names and notes of the clouds; notes that differ in their numbers alone are of one kind.
        unit: what they are, where they are no clouds.

    Returns:
        lines, most frequent first, such as "3 clouds: dropped 12 repeated (hall; numbers differ)".
    """
    first: dict[str, tuple[str, str]] = {}
    clouds: dict[str, set[str]] = {}
    texts: dict[str, set[str]] = {}
    for name, notes in by_cloud:
        for note in notes:
            kind = NUMBER.sub("#", note)
            first.setdefault(kind, (name, note))
            clouds.setdefault(kind, set()).add(name)
            texts.setdefault(kind, set()).add(note)
    lines = []
    for kind in sorted(clouds, key=lambda kind: -len(clouds[kind])):
        (name, note), count = first[kind], len(clouds[kind])
        where = name if count == 1 else f"{count} {unit}s"
        example = f" ({name}; numbers differ)" if len(texts[kind]) > 1 else ""
        lines.append(f"{where}: {note}{example}")
    return lines

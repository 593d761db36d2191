"""Files of JSON lines that are only ever added to; a line that a kill or a full disk cut off costs itself alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def append_lines(path: Path, values: Sequence[dict[str, Any]]) -> None:
    """Add JSON lines in one write; after a line that was cut off, on lines of their own.

    Raises:
        OSError: the disk is full or not writable; what came before is whole.
    """
    if not values:
        return
    text = "".join(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n" for value in values)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as handle:
        if handle.tell():
            handle.seek(-1, os.SEEK_END)
            if handle.read(1) != b"\n":
                text = "\n" + text
        handle.write(text.encode(errors="surrogateescape"))


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file, a line each; damaged lines are passed over, a missing file has none."""
    if not path.is_file():
        return
    with path.open("rb") as handle:
        for line in handle:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value

"""The one way to write a file: under a temporary name beside it, then renamed, so that it is whole or not there."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], durable: bool = False) -> Iterator[Path]:
    """A temporary name that takes ``path``'s place when the block ends well; else it is removed and the old file stays.

    The name carries host and process, so that writers on a shared file system do not meet, and ends as ``path`` does,
    for writers that look at the suffix. Missing folders are made.

    Args:
        path: the file to be.
        durable: flush to the disk before the rename (checkpoints), so that a power cut leaves the old file or the new.

    Raises:
        OSError: the disk is full or the folder is not writable; ``path`` is what it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}~{socket.gethostname()}-{os.getpid()}{path.suffix}")
    try:
        yield partial
        if durable:
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):  # a disk that went away: the error that matters is already on its way
            partial.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file (UTF-8) whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON (sorted keys, unicode kept, one line at the end) whole or not at all."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")

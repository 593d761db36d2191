"""The one way to write: under a temporary name, then renamed, so that a file or folder is whole or not there.

Temporary names carry host and process (``.room~host-123.ply``, ``.partial/room~host-123``), so that writers on a shared
file system do not meet, and what a killed process left is told from what is being written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

PARTIAL = ".partial"
BLOCK = 1 << 20  # bytes read at a time
STALE_SECONDS = 24 * 3600
Kind = TypeVar("Kind", dict, list)
_TEMPORARY = re.compile(r"~(?P<host>[^~]+)-(?P<pid>\d+)(\.[^~]*)?(~old)?$")


def _stamp() -> str:
    return f"~{socket.gethostname()}-{os.getpid()}"


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], durable: bool = False) -> Iterator[Path]:
    """A temporary name that takes ``path``'s place when the block ends well; else it is removed and the old file stays.

    The name ends as ``path`` does, for writers that look at the suffix. Missing folders are made.

    Args:
        path: the file to be.
        durable: flush to the disk before the rename (checkpoints), so that a power cut leaves the old file or the new.

    Raises:
        OSError: the disk is full or the folder is not writable; ``path`` is what it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}{_stamp()}{path.suffix}")
    try:
        partial.unlink(missing_ok=True)  # of a killed process that had this one's number: it may be a link
        yield partial
        if durable:
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):  # a disk that went away: the error that matters is already on its way
            partial.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """A file's SHA-256 as 64 hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    found = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(BLOCK):
            found.update(data)
    return found.hexdigest()


def read_json(path: Path, kind: type[Kind]) -> Kind:
    """JSON of a file; an empty dict or list, whichever ``kind`` asks for, where it is missing, damaged or no such."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return kind()
    return value if isinstance(value, kind) else kind()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file (UTF-8) whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON (sorted keys, unicode kept, one line at the end) whole or not at all."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def replacing_folder(folder: Path, root: Path) -> Iterator[Path]:
    """An empty temporary folder that takes ``folder``'s place when the block ends well; else it is removed.

    Args:
        folder: the folder to be; an older one under the name is replaced as a whole.
        root: where ``.partial``, which holds the temporary folder, lies: on the same disk as ``folder``.

    Raises:
        OSError: the disk is full or not writable; ``folder`` is what it was.
    """
    partial = root / PARTIAL / f"{folder.name}{_stamp()}"
    try:
        make_partial(partial)
        yield partial
        folder.parent.mkdir(parents=True, exist_ok=True)
        take_place(partial, folder, partial.with_name(f"{partial.name}~old"))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process is writing there
            partial.parent.rmdir()


def make_partial(partial: Path) -> None:
    """An empty folder in the partial area, which another process may remove at the same time: it was empty."""
    shutil.rmtree(partial, ignore_errors=True)
    for left in reversed(range(100)):
        try:
            partial.mkdir(parents=True)
            return
        except (FileNotFoundError, FileExistsError):  # the area went away while it was made, or as it was looked at
            if not left:
                raise


def take_place(partial: Path, folder: Path, old: Path) -> None:
    """Rename ``partial`` to ``folder``; what was there goes aside to ``old`` first and away after, or back."""
    if folder.is_dir() and not folder.is_symlink():
        folder.replace(old)
    elif folder.exists() or folder.is_symlink():
        folder.unlink()
    try:
        partial.replace(folder)
    except OSError:
        with contextlib.suppress(OSError):
            old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def clean_partial(root: Path) -> int:
    """Remove what killed processes left in ``root/.partial``; returns how many folders."""
    removed = remove_leftovers(root / PARTIAL, "*")
    with contextlib.suppress(OSError):  # not there, or another process is writing there
        (root / PARTIAL).rmdir()
    return removed


def remove_leftovers(folder: Path, pattern: str = ".*~*") -> int:
    """Remove the temporary files and folders in ``folder`` whose process is gone; returns how many.

    Args:
        folder: it need not be there.
        pattern: of the names to look at; with ``".*~*"`` all that `replacing` makes.
    """
    removed = 0
    for entry in list(folder.glob(pattern)):
        if _TEMPORARY.search(entry.name) and not is_being_written(entry):
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
            removed += 1
    return removed


def is_being_written(entry: Path) -> bool:
    """Whether ``entry`` has a temporary name whose process is alive, or of which another host may know; for a day."""
    name = _TEMPORARY.search(entry.name)
    if name is None or (name["host"] == socket.gethostname() and not _is_alive(int(name["pid"]))):
        return False
    try:
        return time.time() - entry.stat().st_mtime < STALE_SECONDS
    except OSError:  # renamed or removed just now
        return True


def _is_alive(pid: int) -> bool:
    if pid == os.getpid() or os.name != "posix":
        return True  # os.kill(pid, 0) ends the process on Windows
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

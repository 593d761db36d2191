"""The zoo's folder on this machine: downloads, what they were when they came (lock files), other people's indexes.

``$LAM3C_HOME/zoo`` or ``~/.cache/lam3c/zoo``: ``locks/<name>.json``; ``files/<name>/<file>`` for what does not lie in
the Hub's own cache; ``indexes/*.json``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_tools.stages import files
from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.zoo.index import Entry, parse_entry, parse_index
from lam3c_plugin.zoo.shipped import INDEX, packaged


def home() -> Path:
    """The zoo's folder; ``LAM3C_HOME`` moves it."""
    base = os.environ.get("LAM3C_HOME")
    if base:
        return Path(base).expanduser() / "zoo"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "lam3c" / "zoo"


def sha256_of(path: Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        return files.checksum(path)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}; check its name and rights") from error


@dataclass
class Lock:
    """What an entry's file was when it first came.

    Attributes:
        path: where it lies.
        sha256: of its bytes.
        size: number of its bytes.
        commit: of the Hub repository, where it came from there.
        source: where it came from, in words.
        mtime_ns: of the file when its hash was last compared; an untouched file is not hashed again.
    """

    path: str
    sha256: str
    size: int
    commit: str | None = None
    source: str = ""
    mtime_ns: int = 0

    def is_untouched(self) -> bool:
        """Whether the file has the size and time it had when its hash was last compared."""
        try:
            stat = os.stat(self.path)
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)


def read_lock(name: str) -> Lock | None:
    """The lock of an entry, ``None`` where it was never downloaded.

    Raises:
        CheckpointError: the lock file is damaged.
    """
    path = home() / "locks" / f"{name}.json"
    try:
        return Lock(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); remove it and download {name} again") from error


def write_lock(name: str, lock: Lock) -> None:
    """Record what was downloaded."""
    write_small(home() / "locks" / f"{name}.json", json.dumps(asdict(lock), indent=1) + "\n")


def write_small(path: Path, text: str) -> None:
    """Write one of the zoo's small files whole or not at all.

    Raises:
        CheckpointError: it cannot be written.
    """
    try:
        files.write_text(path, text)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {path}: {error.strerror}; check the folder (LAM3C_HOME moves the zoo's)"
        ) from error


def on_machine(entry: Entry) -> Lock | None:
    """An entry's file where it is here: downloaded, or part of the package; else ``None``.

    Raises:
        CheckpointError: its lock file is damaged.
    """
    if entry.path and entry.origin == "shipped":
        return Lock(entry.path, sha256_of(Path(entry.path)), Path(entry.path).stat().st_size)
    lock = read_lock(entry.name)
    return lock if lock and Path(lock.path).exists() else None


# ---------------------------------------------------------------------------------------------------------- entries
def shipped_entries() -> list[Entry]:
    """The package's own entries."""
    shipped = [*packaged(), *parse_index(INDEX, "shipped index")]
    return [parse_entry(entry, "shipped index", strict=False) for entry in shipped]


def added_indexes() -> dict[Path, Mapping[str, Any]]:
    """The index files that `lam3c zoo add` stored.

    Raises:
        CheckpointError: one is damaged.
    """
    found = {}
    for path in sorted((home() / "indexes").glob("*.json")):
        try:
            found[path] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{path} is damaged ({error}); remove it and add the index again") from error
    return found


def entries() -> list[Entry]:
    """All entries: the shipped ones, then those of added indexes."""
    found = shipped_entries()
    for path, content in added_indexes().items():
        found += [parse_entry(entry, str(path)) for entry in parse_index(content, str(path))]
    return found

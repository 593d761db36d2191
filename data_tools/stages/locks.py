"""One process at a time on one folder."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from data_tools.stages.files import write_text


class BusyError(Exception):
    """Another process holds the lock; the message is one line."""


@contextlib.contextmanager
def run_lock(path: Path, patience: float | None = 0.0) -> Iterator[None]:
    """Hold a lock file; the system frees it however the process ends. Its holder's name lies beside it meanwhile.

    Args:
        path: the lock file; it stays when the lock is free.
        patience: seconds to wait for another holder; None waits for ever.

    Raises:
        BusyError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder, lock = path.with_name(f"{path.name}.holder"), FileLock(path)
    try:
        lock.acquire(timeout=-1 if patience is None else patience)
    except Timeout:
        name = holder.read_text(encoding="utf-8").strip() if holder.is_file() else "another process"
        raise BusyError(f"{path}: {name} is at work here; wait for it, or give the runs different --shard") from None
    except NotImplementedError:  # a file system without locks: two runs would do work twice, and nothing worse
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a full disk must not keep a run from starting
            write_text(holder, f"{socket.gethostname()} process {os.getpid()}")
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()

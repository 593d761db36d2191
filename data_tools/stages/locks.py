"""One run at a time on one part of the data set."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class BusyError(Exception):
    """Another run holds the lock; the message is one line."""


@contextlib.contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold a lock file; the system frees it however the process ends.

    Raises:
        BusyError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.seek(0)
                holder = handle.read().strip() or "another process"
                raise BusyError(
                    f"{path}: {holder} is at work here; wait for it, or give the runs different --shard"
                ) from None
            except OSError:
                pass  # a file system without locks: two runs would do work twice, and nothing worse
        with contextlib.suppress(OSError):  # a full disk must not keep a run from starting
            handle.truncate(0)
            handle.write(f"{socket.gethostname()} process {os.getpid()}")
            handle.flush()
        yield

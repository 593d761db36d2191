"""A call in a process of its own, and the memory it takes there; without PyTorch, which would be in the figures."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

MIB, GIB = 2**20, 2**30


def in_new_process(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)`` where nothing else was done, so that memory and caches are its own.

    Raises:
        BrokenProcessPool: it was killed, most likely for memory.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def peak_resident() -> int:
    """Most memory that this process has held, bytes (Linux); ``ru_maxrss`` would count its parent's as well."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

"""The bar and the log of a run."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_tools.chain.states import Row

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class Bar:
    """One tqdm bar over all stage runs, with counts of what was not done.

    Args:
        is_quiet: no bar; what fails is written to stderr all the same.
    """

    def __init__(self, is_quiet: bool = False) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(total=0, desc="build_roomtours", unit="step", disable=is_quiet, dynamic_ncols=True)
        self._counts: Counter[str] = Counter()

    def add(self, items: int) -> None:
        """So many more stage runs are known to be there."""
        self._bar.total += items
        self._bar.refresh()

    def step(self, row: Row, items: int = 1, is_new: bool = False) -> None:
        """So many ended, the last with this row; ``is_new``: it came about in this run."""
        if row.status == "done":
            self._counts[row.stage] += row.stage in ("segment", "package")
        else:
            self._counts[row.status] += 1
            if is_new or not row.updated:
                self._bar.write(f"{row.status}: {row.stage} {row.name}: {row.reason}", file=sys.stderr)
        names = {"segment": "videos", "package": "scenes"}
        self._bar.set_postfix({names.get(name, name): n for name, n in self._counts.items() if n}, refresh=False)
        self._bar.update(items)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


@contextlib.contextmanager
def log_file(path: Path) -> Iterator[logging.Logger]:
    """The chain's logger, writing to a file; a full disk does not stop the run."""
    logger = logging.getLogger("roomtours")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.raiseExceptions = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler: logging.Handler = logging.FileHandler(path, encoding="utf-8")
    except OSError:
        handler = logging.NullHandler()
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        handler.close()

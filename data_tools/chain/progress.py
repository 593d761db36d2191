"""The bar of a run."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from data_tools.chain.journal import Row


class Bar:
    """One tqdm bar over all videos and scenes, with counts of what was not done.

    Args:
        is_quiet: no bar; what fails is written to stderr all the same.
    """

    def __init__(self, is_quiet: bool = False) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(total=0, desc="build_roomtours", unit="item", disable=is_quiet, dynamic_ncols=True)
        self._counts: Counter[str] = Counter()

    def add(self, items: int) -> None:
        """So many more videos or scenes are known to be there."""
        self._bar.total += items

    def end(self, row: Row | None, is_new: bool) -> None:
        """One ended: well, or with this row; ``is_new``: it came about in this run."""
        if row is not None:
            self._counts[row.status] += 1
            if is_new:
                self._bar.write(f"{row.status}: {row.stage} {row.name}: {row.reason}", file=sys.stderr)
            self._bar.set_postfix(self._counts, refresh=False)
        self._bar.update(1)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

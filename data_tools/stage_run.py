"""Many items through one stage: processes, a progress bar, a table, an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from data_tools.stage import STATES, StageRecord

Item = TypeVar("Item")


def run_items(
    stage: str,
    items: Sequence[Item],
    work: Callable[[Item], StageRecord],
    name: Callable[[Item], str] = str,
    jobs: int = 1,
    unit: str = "scene",
) -> list[StageRecord]:
    """Run a stage over items with a progress bar; a bad item is reported and the others go on.

    Args:
        stage: for the bar and for records of items whose process died.
        items: what ``work`` takes; must pickle when ``jobs`` > 1, as must ``work``.
        work: one item to its record (it calls ``run_stage``).
        name: an item's name, for records of items whose process died.
        jobs: processes.
        unit: of the bar.

    Returns:
        A record per item, in the order of ``items``.
    """
    from tqdm import tqdm

    records: dict[int, StageRecord] = {}
    bar = tqdm(_results(stage, items, work, name, jobs), total=len(items), desc=stage, unit=unit)
    for index, record in bar:
        records[index] = record
        if record.status != "done":
            bar.write(f"{record.status}: {record.item}: {record.reason}", file=sys.stderr)
    return [records[index] for index in range(len(items))]


def _results(
    stage: str, items: Sequence[Item], work: Callable[[Item], StageRecord], name: Callable[[Item], str], jobs: int
) -> Iterator[tuple[int, StageRecord]]:
    if jobs <= 1 or len(items) <= 1:
        for index, item in enumerate(items):
            yield index, work(item)
        return
    left = set(range(len(items)))
    try:
        with ProcessPoolExecutor(min(jobs, len(items)), mp_context=get_context("spawn")) as pool:
            running = {pool.submit(work, items[index]): index for index in left}
            for future in as_completed(running):
                record = future.result()
                left.discard(running[future])
                yield running[future], record
    except BrokenProcessPool:
        for index in sorted(left):  # each item left gets a process of its own, so a bad one takes only itself
            yield index, _alone(stage, items[index], work, name)


def _alone(stage: str, item: Item, work: Callable[[Item], StageRecord], name: Callable[[Item], str]) -> StageRecord:
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(work, item).result()
    except BrokenProcessPool:
        reason = f"{name(item)}: its process was killed, most likely for memory; use fewer frames or points"
        return StageRecord(stage, name(item), "failed", reason)


def print_records(records: Sequence[StageRecord]) -> int:
    """One line of counts; returns the exit code: 1 if an item failed, else 0 (rejected is not failed)."""
    counts = {state: sum(r.status == state and not r.skipped for r in records) for state in STATES}
    before = sum(r.skipped for r in records)
    print(", ".join(f"{count} {state}" for state, count in counts.items()) + f", {before} as before")
    return 1 if any(record.status == "failed" for record in records) else 0

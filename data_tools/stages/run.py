"""Many items through one stage: processes, a progress bar, a table, an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from data_tools.clouds.notes import grouped_notes
from data_tools.stages.record import STATES, StageRecord

Item = TypeVar("Item")
Result = TypeVar("Result")


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

    Returns:
        A record per item, in the order of ``items``.
    """
    from tqdm import tqdm

    def died(item: Item) -> StageRecord:
        reason = f"{name(item)}: its process was killed, most likely for memory; use fewer frames or points"
        return StageRecord(stage, name(item), "failed", reason)

    records: dict[int, StageRecord] = {}
    bar = tqdm(in_processes(items, work, died, jobs), total=len(items), desc=stage, unit=unit)
    for index, record in bar:
        records[index] = record
        if record.status != "done":
            bar.write(f"{record.status}: {record.item}: {record.reason}", file=sys.stderr)
    return [records[index] for index in range(len(items))]


def in_processes(
    items: Sequence[Item], work: Callable[[Item], Result], died: Callable[[Item], Result], jobs: int
) -> Iterator[tuple[int, Result]]:
    """Index and result of every item as it comes; here with one job or item, else in processes of their own.

    Args:
        died: an item's result when its process was killed, most often for memory: it takes only itself.
    """
    if jobs <= 1 or len(items) <= 1:
        for index, item in enumerate(items):
            yield index, work(item)
        return
    left = set(range(len(items)))
    try:
        with ProcessPoolExecutor(min(jobs, len(items)), mp_context=get_context("spawn")) as pool:
            running = {pool.submit(work, items[index]): index for index in left}
            for future in as_completed(running):
                result = future.result()
                left.discard(running[future])
                yield running[future], result
    except BrokenProcessPool:
        for index in sorted(left):  # each item left gets a process of its own, so a bad one takes only itself
            yield index, _alone(items[index], work, died)


def _alone(item: Item, work: Callable[[Item], Result], died: Callable[[Item], Result]) -> Result:
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(work, item).result()
    except BrokenProcessPool:
        return died(item)


def print_records(records: Sequence[StageRecord], unit: str = "scene") -> int:
    """A line a kind of note, and a line of counts; returns the exit code.

    Returns:
        1 if an item failed, else 0 (rejected is not failed).
    """
    for line in grouped_notes(((record.item, record.notes) for record in records), unit):
        print(f"note: {line}")
    counts = {state: sum(r.status == state and not r.skipped for r in records) for state in STATES}
    before = sum(r.skipped for r in records)
    print(", ".join(f"{count} {state}" for state, count in counts.items()) + f", {before} as before")
    return 1 if any(record.status == "failed" for record in records) else 0

"""A run of the chain from its options to its exit code: lock, log, signals, executor, what it ends with."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_tools.chain import finish
from data_tools.chain.build import DryRun, build
from data_tools.chain.copies import Copies
from data_tools.chain.engine import RUN, Engine, Tally
from data_tools.chain.folders import ALL, all_rows, clear_attempts
from data_tools.chain.items import Places, SceneItem, StageFunction, VideoItem
from data_tools.chain.journal import Journal, Row
from data_tools.chain.local import Executor, LocalExecutor
from data_tools.chain.plan import ChainSettings, Planner
from data_tools.chain.progress import Bar
from data_tools.chain.recorded import record
from data_tools.chain.sources import apart_from_earlier
from data_tools.chain.trouble import ALIKE
from data_tools.stages.locks import run_lock


@dataclass(frozen=True)
class RunOptions:
    """How a run goes; none of it touches the output's bytes.

    Attributes:
        executor: "local" or "ray".
        jobs: CPU workers.
        gpu_slots: a GPU number per GPU worker.
        threads: of each worker's libraries.
        shard: (i, n), or None for all.
        ray_address: of a running Ray cluster; empty starts one here.
        report: write the HTML report at the end.
        quiet: no progress bar.
        grace: seconds that running items get after Ctrl-C or SIGTERM.
        alike: so many equal failures in a row stop a stage; 0 for never.
    """

    executor: str = "local"
    jobs: int = 1
    gpu_slots: Sequence[str] = ()
    threads: int = 1
    shard: tuple[int, int] | None = None
    ray_address: str = ""
    report: bool = True
    quiet: bool = False
    grace: float = 20.0
    alike: int = ALIKE

    @property
    def name(self) -> str:
        """Of the part of the data set that the run works on; names its lock, log and attempts."""
        return ALL if self.shard is None else f"{self.shard[0]}_of_{self.shard[1]}"


@dataclass
class StageTable:
    """The functions behind the stages, so that tests can put others in."""

    functions: Mapping[str, StageFunction]
    read_scenes: Callable[[Path], list[SceneItem]]


@dataclass
class Stop:
    """Set by the first Ctrl-C or SIGTERM; the second raises ``KeyboardInterrupt``."""

    is_set: bool = False
    name: str = ""
    before: dict[int, Any] = field(default_factory=dict)

    def __call__(self, number: int, _frame: object) -> None:
        """The signal handler."""
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set, self.name = True, signal.Signals(number).name
        text = f"\n{self.name}: no new items; running ones may end. Once more ends it at once.\n"
        os.write(2, text.encode())  # a print may be on its way in the code that the signal interrupts


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Take Ctrl-C and SIGTERM (a job's time limit) while the chain runs."""
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        stop.before[number] = signal.signal(number, stop)
    try:
        yield stop
    finally:
        for number, handler in stop.before.items():
            signal.signal(number, handler)


def run_chain(
    videos: Sequence[VideoItem], places: Places, settings: ChainSettings, options: RunOptions, stages: StageTable
) -> int:
    """Run the chain over videos; prints what came of it.

    Returns:
        0, 1 if an item failed, 130 if it was stopped.

    Raises:
        BusyError: another run is at work on the same part, or on one that overlaps.
        OSError: the output cannot be written at all.
        StageError, ConnectionError: the executor cannot be started.
        KeyboardInterrupt: stopped twice.
    """
    places.work.mkdir(parents=True, exist_ok=True)
    locks = places.work / "locks"
    with run_lock(locks / f"{options.name}.lock"):
        for other in locks.glob("*.lock"):
            if _overlap(other.stem, options.name):
                with run_lock(other):  # or `BusyError`: two runs would do the same items
                    pass
        record(places, settings.stages)
        clear_attempts(places, options.name)
        journal = Journal(places.log, options.name)
        planner = Planner(places, settings, journal, options.name, stages.read_scenes)
        try:
            return _work(apart_from_earlier(videos, journal), planner, options, stages)
        finally:
            clear_attempts(places, options.name)
            if not journal.save():
                print("build_roomtours: the log could not be written whole; free space", file=sys.stderr)


def _overlap(one: str, other: str) -> bool:
    """Whether two parts may hold the same videos: shards of one division do not."""
    (_, is_shard, count), (_, _, other_count) = one.partition("_of_"), other.partition("_of_")
    return one != other and not (is_shard and count == other_count)


def _work(videos: Sequence[VideoItem], planner: Planner, options: RunOptions, stages: StageTable) -> int:
    executor = build_executor(options, planner.places, stages.functions)
    bar, code = Bar(options.quiet), 0

    def report() -> None:
        nonlocal code
        bar.close()
        code = _finish(videos, planner, options, engine, stop)

    try:
        with stop_signals() as stop:
            copies = Copies(planner, options.shard) if planner.settings.copies else None
            engine = Engine(planner, executor, bar, lambda: stop.is_set, options.grace, options.alike, copies)
            build(engine, videos, report)
            return code
    finally:
        bar.close()
        executor.close()


def build_executor(options: RunOptions, places: Places, functions: Mapping[str, StageFunction]) -> Executor:
    """The executor that the options name; its processes start with their first call."""
    if options.executor == "ray":
        from data_tools.chain.ray_executor import RayExecutor

        return RayExecutor(functions, options.ray_address, options.jobs, len(options.gpu_slots) or None)
    return LocalExecutor(functions, options.jobs, options.gpu_slots, options.threads, places.work / "logs")


def _finish(
    videos: Sequence[VideoItem],
    planner: Planner,
    options: RunOptions,
    engine: Engine,
    stop: Stop,
) -> int:
    """The last stage: the table of counts, statistics, card and report; returns the exit code."""
    places, asked = planner.places, {video.video_id for video in videos}
    tally, executor = engine.tally, engine.executor
    rows = [row for row in all_rows(places, planner.journal) if row.video in asked]
    print(finish.counts_table(rows, planner.journal.seconds))
    print(finish.tally_line(tally))
    if engine.copies is not None and engine.copies.unknown:
        print(f"{engine.copies.unknown} scenes have no embeddings (older, or segmented without CLIP): not compared")
    if stop.is_set:
        print(f"build_roomtours: stopped by {stop.name}; start it again to go on", file=sys.stderr)
        return 130
    for what, why in {**tally.stopped, **executor.stopped}.items():
        print(f"build_roomtours: {what} stopped: {why}", file=sys.stderr)
    if RUN in tally.stopped:
        return 1
    if options.shard is None:
        _write_report(planner, options, tally, rows)
    else:
        print("this is a shard: a run without --shard, when all are done, writes the statistics and the report")
    if tally.failed:
        print("build_roomtours: --status names every item that failed", file=sys.stderr)
    return 1 if tally.failed or tally.stopped or executor.stopped else 0


def _write_report(planner: Planner, options: RunOptions, tally: Tally, rows: Sequence[Row]) -> None:
    places = planner.places
    is_new = finish.refresh_summary(places)
    if is_new and planner.settings.copies and any(places.log.glob("*_of_*~*.jsonl")):
        print(finish.copies_line(places, Copies(planner).pairs()))
    page = places.out / "report" / "index.html"
    if options.report and (is_new or tally.ran or not page.is_file()):
        finish.refresh_report(places, options.jobs, options.quiet)
    for line in finish.scene_lines(places, rows):
        print(line)
    look = f"look at {page.absolute().as_uri()}, or: " if page.is_file() else ""
    print(f"{look}python data_tools/report.py {places.out} --serve")


def print_status(places: Places) -> None:
    """Counts over all items, and each that is not done; nothing is run or written."""
    journal = Journal(places.log)
    rows = all_rows(places, journal)
    print(finish.counts_table(rows, journal.seconds))
    for row in sorted(rows, key=lambda row: (row.video, row.name)):
        if row.status != "done":
            again = "" if row.permanent else " (tried again by the next run)"
            print(f"{row.status}: {row.stage} {row.name}: {row.reason}{again}")


def dry_run(
    videos: Sequence[VideoItem], places: Places, settings: ChainSettings, options: RunOptions, stages: StageTable
) -> dict[str, int]:
    """What a run would do now, by stage; scenes of videos that are not yet segmented are not known."""
    journal = Journal(places.log)
    run = DryRun(Planner(places, settings, journal, options.name, stages.read_scenes))
    build(run, apart_from_earlier(videos, journal))
    return dict(run.counts)

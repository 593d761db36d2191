"""A run of the chain from its options to its exit code: lock, table, signals, executor, what it ends with."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_tools.chain import finish
from data_tools.chain.engine import Engine, Tally
from data_tools.chain.folders import clear_attempts, list_scenes, rebuild_rows
from data_tools.chain.items import SCENE_STAGES, Places, SceneItem, StageFunction, VideoItem
from data_tools.chain.local import Executor, LocalExecutor
from data_tools.chain.plan import ChainSettings, Planner
from data_tools.chain.progress import Bar, log_file
from data_tools.chain.sources import apart_from_earlier
from data_tools.chain.states import States, merged_rows
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
        rebuild: make the table again from the folders first.
        report: write the HTML report at the end.
        quiet: no progress bar.
        grace: seconds that running items get after Ctrl-C or SIGTERM.
    """

    executor: str = "local"
    jobs: int = 1
    gpu_slots: Sequence[str] = ()
    threads: int = 1
    shard: tuple[int, int] | None = None
    ray_address: str = ""
    rebuild: bool = False
    report: bool = True
    quiet: bool = False
    grace: float = 20.0

    @property
    def name(self) -> str:
        """Of the part of the data set that the run works on; names its lock, log and attempts."""
        return "all" if self.shard is None else f"{self.shard[0]}_of_{self.shard[1]}"


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
        print(f"\n{self.name}: no new items; running ones may end. Once more ends it at once.", file=sys.stderr)


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


def state_tables(places: Places) -> list[Path]:
    """The common table and those of all shards."""
    return [places.table, *sorted((places.work / "states").glob("*.sqlite"))]


def own_table(places: Places, options: RunOptions) -> Path:
    """The table that a run writes."""
    return places.table if options.shard is None else places.work / "states" / f"{options.name}.sqlite"


def run_chain(
    videos: Sequence[VideoItem], places: Places, settings: ChainSettings, options: RunOptions, stages: StageTable
) -> int:
    """Run the chain over videos; prints what came of it.

    Returns:
        0, 1 if an item failed, 130 if it was stopped.

    Raises:
        BusyError: another run is at work on the same part.
        OSError: the output cannot be written at all.
        StageError, ConnectionError: the executor cannot be started.
        KeyboardInterrupt: stopped twice.
    """
    places.work.mkdir(parents=True, exist_ok=True)
    with run_lock(places.work / "locks" / f"{options.name}.lock"), log_file(_log_path(places, options)) as log:
        clear_attempts(places, options.name)
        states = open_states(places, options)
        videos = apart_from_earlier(videos, states)
        log.info("run over %d videos, executor %s, jobs %d", len(videos), options.executor, options.jobs)
        try:
            tally, stop = _work(videos, places, settings, options, stages, states)
            code = _finish(videos, places, options, states, tally, stop)
            log.info("%s", finish.tally_line(tally))
        finally:
            clear_attempts(places, options.name)
            if not states.close(None if options.shard is None else places.table):
                print("build_roomtours: the table of states could not be written whole", file=sys.stderr)
                print("build_roomtours: free space; the next run mends it from the folders", file=sys.stderr)
    return code


def _log_path(places: Places, options: RunOptions) -> Path:
    return places.work / "logs" / f"{options.name}.log"


def open_states(places: Places, options: RunOptions) -> States:
    """The table of a run with the rows of all others; made from the folders where it is new or damaged."""
    table = own_table(places, options)
    states = States(table, [path for path in state_tables(places) if path != table])
    for note in states.notes:
        print(f"build_roomtours: {note}", file=sys.stderr)
    if options.rebuild or (states.is_new and not states.rows):
        states.put_all(rebuild_rows(places))
    return states


def _work(
    videos: Sequence[VideoItem],
    places: Places,
    settings: ChainSettings,
    options: RunOptions,
    stages: StageTable,
    states: States,
) -> tuple[Tally, Stop]:
    planner = Planner(places, settings, states, options.name, stages.read_scenes)
    executor = build_executor(options, places, stages.functions)
    bar = Bar(options.quiet)
    try:
        with stop_signals() as stop:
            engine = Engine(planner, executor, bar, list_scenes(places), lambda: stop.is_set, options.grace)
            return engine.run(videos), stop
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
    videos: Sequence[VideoItem], places: Places, options: RunOptions, states: States, tally: Tally, stop: Stop
) -> int:
    rows = [row for video in videos for row in states.of_video(video.video_id)]
    print(finish.counts_table(rows))
    print(finish.tally_line(tally))
    if stop.is_set:
        print(f"build_roomtours: stopped by {stop.name}; start it again to go on", file=sys.stderr)
        return 130
    if tally.stopped:
        print(f"build_roomtours: downloads: {tally.stopped}", file=sys.stderr)
    try:
        is_new = finish.refresh_summary(places, states)
        if options.report and (is_new or tally.ran or not (places.out / "report/index.html").is_file()):
            finish.refresh_report(places, options.jobs)
    except OSError as error:
        print(f"build_roomtours: {places.out}: {error.strerror or error}; free space and run again", file=sys.stderr)
        return 1
    has_failed = any(row.status == "failed" for row in rows)
    if has_failed:
        print(f"build_roomtours: see {_log_path(places, options)}, and --status for every reason", file=sys.stderr)
    page = places.out / "report" / "index.html"
    print(f"{f'look at {page}, or: ' if page.is_file() else ''}python data_tools/report.py {places.out} --serve")
    return 1 if has_failed or tally.stopped else 0


def print_status(places: Places) -> None:
    """Counts over all tables, and each item that is not done; nothing is run or written."""
    rows = list(merged_rows(state_tables(places)).values())
    print(finish.counts_table(rows))
    for row in sorted(rows, key=lambda r: r.item):
        if row.status != "done":
            again = "" if row.permanent else " (tried again by the next run)"
            print(f"{row.status}: {row.stage} {row.name}: {row.reason}{again}")


def dry_run(
    videos: Sequence[VideoItem], places: Places, settings: ChainSettings, options: RunOptions, stages: StageTable
) -> dict[str, int]:
    """What a run would do now, by stage; scenes of videos that are not yet segmented are not known."""
    counts = {"settled": 0}
    scratch = States(None, state_tables(places))
    planner = Planner(places, settings, scratch, options.name, stages.read_scenes)
    for video in apart_from_earlier(videos, scratch):
        step = planner.video_step(video)
        calls = [step.call]
        for scene in step.scenes:
            call = planner.scene_step(video, scene).call
            counts["settled"] += call is None
            if call is not None:
                for stage in SCENE_STAGES[SCENE_STAGES.index(call.stage) :]:
                    counts[stage] = counts.get(stage, 0) + 1
        for call in filter(None, calls):
            counts[call.stage] = counts.get(call.stage, 0) + 1
    return counts

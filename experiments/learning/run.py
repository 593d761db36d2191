"""Does it learn? Pre-trains without labels on noisy synthetic rooms, then probes on rooms that were never seen.

All figures go to OUT/results.json, whole after every job. What is done is not done again: the same command resumes
after a kill, and a results file of another machine is continued when it lies in OUT. `preregistration.md` says what is
asked and how it is decided.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ["LAM3C_ENGINE"] = "embedded"  # before the package is imported
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # for the workers
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

from benchmarks._harness import commit
from data_tools.stages.files import write_json
from data_tools.stages.locks import BusyError, run_lock
from experiments.learning import rooms, work
from experiments.learning.plan import PRESETS, Job, Settings, changed, make_jobs
from lam3c_plugin.errors import ConfigError, DataError, run_main

VERSION = 2
FILE = "results.json"
TIME_IS_UP = 75  # exit code: not all is done, run it again (EX_TEMPFAIL)
MARGIN = 0.75  # of the time that is left, for a plan made from a short trial
STEPS = range(20, 301, 10)  # what a trial chooses from
CHUNK = 4  # rooms a task
EXAMPLES = """examples:
  the table and the map on two CPU cores, about four hours; again after a kill:
    python experiments/learning/run.py --preset cpu --workers 2
  on one GPU, as many steps as eight minutes allow:
    python experiments/learning/run.py --preset gpu --workers 15 --minutes 8
  two seeds of one noise level, no map:
    python experiments/learning/run.py --preset cpu --out exp/two --set "seeds=(('pi3',2),)" map_seeds=0
  other readings of the Laplacian term, three seeds, about an hour of one core:
    python experiments/learning/run.py --preset cpu --explore --out exp/explored --set steps=50 "seeds=(('pi3',3),)"
  does it run at all (its figures mean nothing):
    python experiments/learning/run.py --preset smoke --out exp/smoke

exit code: 0 all done, 1 a job failed, 75 the time was up first, 128 + n stopped by signal n
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=sorted(PRESETS), required=True, help="numbers for a machine")
    parser.add_argument("--out", type=Path, default=Path("exp/learning"), help="results (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="rooms and states of running jobs (default: OUT)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--explore", action="store_true", help="the rows that nobody registered, beside clustering")
    parser.add_argument("--minutes", type=float, help="end then; no job starts that would not be done")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="numbers other than the preset's")
    args = parser.parse_args(argv)
    if args.workers < 1 or (args.minutes is not None and args.minutes <= 0):
        parser.error("--workers is at least 1, --minutes above 0")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is left to do; return the exit code.

    Raises:
        ConfigError: an option makes no sense, or another process works on the output folder.
        DataError: the results file is of other settings, or damaged.
    """
    args = parse_args(argv)
    settings = changed(PRESETS[args.preset], args.set)
    try:
        with run_lock(args.out.resolve() / ".lock"):
            return Experiment(args, settings).run()
    except BusyError as error:
        raise ConfigError(f"{str(error).split(';')[0]}; wait for it, or give another --out") from error


class Experiment:
    """One call of the command.

    Args:
        args: the command line.
        settings: the numbers; with ``steps=0`` those of the results file, or of a trial, fill in.
    """

    def __init__(self, args: argparse.Namespace, settings: Settings) -> None:
        import torch

        self.begun = time.monotonic()
        self.limit = 60 * args.minutes if args.minutes else float("inf")
        self.path = args.out.resolve() / FILE
        self.device = args.device
        if args.device == "auto":
            self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.count = args.workers
        self.explored = args.explore
        self.work = (args.work or args.out).resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.results = self._read(settings)
        self.settings = replace(settings, steps=settings.steps or self.results["settings"]["steps"])
        self.failed: dict[str, str] = {}
        words = ["--preset", args.preset, *["--explore"] * args.explore, *(["--set", *args.set] if args.set else [])]
        self.record = {
            "machine": work.machine(self.device),
            "commit": commit(),
            "workers": args.workers,
            "seconds": 0.0,
        }
        self.record["command"] = shlex.join(["python", "experiments/learning/run.py", *words])
        self.results["runs"].append(self.record)

    def _read(self, settings: Settings) -> dict[str, Any]:
        plain = json.loads(json.dumps(asdict(settings)))
        if not self.path.is_file():
            return {"version": VERSION, "settings": plain, "rates": {}, "runs": [], "jobs": {}}
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
            same = {**plain, "steps": plain["steps"] or known["settings"]["steps"]} == known["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path}: damaged ({error}); move it away to start anew") from error
        if known["version"] != VERSION or not same:
            raise DataError(f"{self.path}: was made with other settings; give another --out, or the same --set")
        return known

    def left(self) -> float:
        """Seconds until the time is up."""
        return self.limit - (time.monotonic() - self.begun)

    def say(self, text: str) -> None:
        """A line with the seconds since the start."""
        print(f"[{time.monotonic() - self.begun:6.1f} s] {text}", flush=True)

    def save(self) -> None:
        """Write the results file, whole or not at all."""
        self.record["seconds"] = round(time.monotonic() - self.begun, 1)
        self.results["settings"] = json.loads(json.dumps(asdict(self.settings)))
        write_json(self.path, self.results)

    def run(self) -> int:
        """Rooms, a trial where the steps are not known, the jobs."""
        with Pool(self.count, self.work, self.device) as pool:
            every = list(rooms.every(self.settings))
            chunks = [("rooms", (self.settings, every[i : i + CHUNK])) for i in range(0, len(every), CHUNK)]
            self._must(pool.run(chunks, self.left))
            self.say(f"{len(every)} rooms in {self.work}")
            if not self.settings.steps:
                self._choose_steps(pool)
            jobs = make_jobs(self.settings, self.explored)
            done = self.results["jobs"]
            waiting = [job for job in jobs if done.get(job.id, {}).get("digest") != job.digest]
            self.save()
            self.say(f"{len(waiting)} of {len(jobs)} jobs to do, {self.settings.steps} steps each, on {self.device}")
            tasks = [("job", job) for job in waiting]
            pool.run(tasks, self.left, self._settle, lambda task: self.seconds(task[1]))
        self.save()
        open_ = sum(done.get(job.id, {}).get("digest") != job.digest for job in jobs)
        self.say(f"{len(jobs) - open_} of {len(jobs)} jobs done, {len(self.failed)} failed: {self.path}")
        if pool.signal:
            return 128 + pool.signal
        return 1 if self.failed else TIME_IS_UP if open_ else 0

    def _must(self, failed: dict[int, str]) -> None:
        if failed:
            raise DataError(next(iter(failed.values())))

    def _settle(self, task: work.Task, kind: str, result: Any) -> None:
        job = task[1]
        if kind == "failed":
            self.failed[job.id] = result
            self.say(f"{job.id}: FAILED: {result}")
            return
        self.results["jobs"][job.id] = result
        self.save()
        scores = " ".join(f"{row} {100 * v['linear']:.1f}" for row, v in result["rows"].items() if "linear" in v)
        self.say(f"{job.id}: {result['seconds']:.0f} s; linear probe {scores}")

    def _choose_steps(self, pool: Pool) -> None:
        """As many steps as the time allows, by a trial in all workers at once; no score is looked at."""
        if self.limit == float("inf"):
            raise ConfigError("this preset takes as many steps as the time allows: give --minutes, or --set steps=N")
        found: list[dict[str, float]] = []
        self._must(pool.run([("trial", self.settings)] * self.count, self.left, lambda task, kind, r: found.append(r)))
        self.results["rates"] = {key: round(sum(item[key] for item in found) / len(found), 4) for key in found[0]}
        fitting = [steps for steps in STEPS if self.makespan(steps) <= MARGIN * self.left()]
        self.settings = replace(self.settings, steps=fitting[-1] if fitting else STEPS[0])
        self.say(f"trial: {self.results['rates']} seconds; {self.settings.steps} steps a pre-training")

    def seconds(self, job: Job) -> float:
        """What a job is expected to take; 0 where nobody has tried."""
        rates = self.results["rates"]
        steps, probes = job.effort
        share = 0.6 / self.settings.map_rooms if job.kind == "map" else 1.0
        return steps * rates["step"] + probes * share * rates["probe"] if rates else 0.0

    def makespan(self, steps: int) -> float:
        """Seconds in which the workers would do all jobs."""
        busy = [0.0] * self.count
        for job in make_jobs(replace(self.settings, steps=steps), self.explored):
            first = busy.index(min(busy))
            busy[first] += self.seconds(job)
        return max(busy)


class Pool:
    """Long-lived worker processes; a task is given to one that is idle, in the order of the list.

    Args:
        count: processes.
        folder: of rooms and states.
        device: of torch.
    """

    def __init__(self, count: int, folder: Path, device: str) -> None:
        self.context = multiprocessing.get_context("spawn")
        self.start = lambda: _Worker(self.context, folder, device)
        self.workers = [self.start() for _ in range(count)]
        self.signal = 0

    def __enter__(self) -> Pool:
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *details: object) -> None:
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(10)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signal = number

    def run(
        self,
        tasks: Sequence[work.Task],
        left: Callable[[], float],
        settle: Callable[[work.Task, str, Any], None] = lambda task, kind, result: None,
        seconds: Callable[[work.Task], float] = lambda task: 0.0,
    ) -> dict[int, str]:
        """Do the tasks until none is left, or the time is up, or a signal comes.

        Args:
            tasks: in the order of preference.
            left: seconds until the time is up; what then runs is ended.
            settle: is told of every task that ended.
            seconds: what a task may take; it is left out where less is left.

        Returns:
            Why tasks failed, by their number.
        """
        waiting, failed = list(enumerate(tasks)), {}
        while not self.signal and left() > 0:
            for worker in self.workers:
                fitting = next((item for item in waiting if seconds(item[1]) <= left()), None)
                if worker.task is None and fitting is not None:
                    waiting.remove(fitting)
                    worker.give(fitting)
            busy = [worker for worker in self.workers if worker.task is not None]
            if not busy:
                break
            ready = wait([worker.connection for worker in busy], timeout=0.2)
            for worker in (worker for worker in busy if worker.connection in ready):
                (number, task), kind, result = worker.take()
                if kind == "died":
                    self.workers[self.workers.index(worker)] = self.start()
                if kind != "done":
                    failed[number] = result
                settle(task, "done" if kind == "done" else "failed", result)
        return failed


class _Worker:
    """A process, and the task that it has."""

    def __init__(self, context: Any, folder: Path, device: str) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work.serve, args=(theirs, folder, device), daemon=True)
        self.process.start()
        theirs.close()
        self.task: tuple[int, work.Task] | None = None

    def give(self, task: tuple[int, work.Task]) -> None:
        self.task = task
        self.connection.send(task[1])

    def take(self) -> tuple[tuple[int, work.Task], str, Any]:
        task, self.task = self.task, None
        assert task is not None
        try:
            return task, *self.connection.recv()
        except EOFError:
            self.process.join()
            return task, "died", f"its process ended with exit code {self.process.exitcode} (out of memory?)"


if __name__ == "__main__":
    sys.exit(run_main(main))

"""Runs jobs in processes, some at a time: done ones are skipped, failed ones recorded, stopped ones go on next time.

A job's folder ``OUT/jobs/<id>`` has ``job.json`` (what it is, with a digest of all it depends on), ``log.txt``,
``result.json`` once it is done, or ``error.json`` where it failed. A folder of another digest is emptied.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from data_tools.stages.files import write_json
from experiments.learning.engine import ROOT
from experiments.learning.plan import Job, digests
from experiments.learning.progress import Forecast, describe

STOP_GRACE = 120.0  # seconds that stopped jobs have to finish a step and save
HEARTBEAT = 60.0  # seconds between lines while nothing else happens
WORKER = (sys.executable, "-m", "experiments.learning.worker")


def folder_of(out: Path, job: Job) -> Path:
    """A job's folder."""
    return out / "jobs" / job.id


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def result_of(out: Path, job: Job, digest: str) -> dict[str, Any] | None:
    """The result of a job that is done as it stands in the plan."""
    found = read_json(folder_of(out, job) / "result.json")
    return found if found is not None and found.get("digest") == digest else None


def error_of(out: Path, job: Job, digest: str) -> str | None:
    """What the job's last try failed with."""
    found = read_json(folder_of(out, job) / "error.json")
    return str(found.get("error")) if found is not None and found.get("digest") == digest else None


def prepare(out: Path, job: Job, digest: str) -> Path:
    """The job's folder with its ``job.json``; what another plan left in it is removed."""
    folder = folder_of(out, job)
    known = read_json(folder / "job.json")
    if known is None or known.get("digest") != digest:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.json").unlink(missing_ok=True)
    write_json(folder / "job.json", {"id": job.id, "kind": job.kind, "spec": job.spec, "digest": digest})
    return folder


@dataclass
class Outcome:
    """What a run came to: ids of jobs, and why it ended early ("" if it did not)."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: str = ""
    signal: int = 0


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    since: float


class Runner:
    """Runs jobs until all are done, failed or lack one that failed.

    Args:
        jobs: in the order of preference, each after those it needs.
        out: output folder.
        slots: processes at a time.
        threads: of each.
        time_limit: seconds after which running jobs are stopped, as on Ctrl-C; None: no limit.
        say: is told what happens, a line at a time.
        worker: command that does the job whose output folder and id follow it.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        out: Path,
        slots: int,
        threads: int = 1,
        time_limit: float | None = None,
        say: Callable[[str], None] = print,
        worker: Sequence[str] = WORKER,
    ) -> None:
        self.worker = list(worker)
        self.out, self.slots, self.threads, self.say = out, slots, threads, say
        self.digests = digests(jobs)
        self.total = len(jobs)
        self.started = time.monotonic()
        self.deadline = None if time_limit is None else self.started + time_limit
        self.outcome = Outcome()
        self.running: list[_Running] = []
        self.forecast = Forecast(slots)
        self.waiting: list[Job] = []
        for job in jobs:
            found = result_of(out, job, self.digests[job.id])
            if found is None:
                self.waiting.append(job)
            else:
                self.outcome.done.append(job.id)
                self.forecast.learn(job, float(found.get("seconds", 0.0)))

    def run(self) -> Outcome:
        """Do all that can be done."""
        if self.outcome.done:
            self.say(f"{len(self.outcome.done)} of {self.total} jobs were done before")
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._loop()
        finally:
            self._stop_all()
            for number, handler in before.items():
                signal.signal(number, handler)
        return self.outcome

    def _loop(self) -> None:
        told = time.monotonic()
        while self.waiting or self.running:
            if self.deadline is not None and time.monotonic() > self.deadline and not self.outcome.stopped:
                self.outcome.stopped = "the time limit"
            if self.outcome.stopped:
                self.say(f"stopped by {self.outcome.stopped}; the same command goes on from here")
                return
            changed = self._reap()
            self._drop_hopeless()
            changed |= self._start_ready()
            if not changed:
                if time.monotonic() - told > HEARTBEAT and self.running:
                    told = time.monotonic()
                    self.say(self._line(", ".join(describe(item.job, self.out) for item in self.running)))
                time.sleep(0.1)
            else:
                told = time.monotonic()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.outcome.stopped = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self.outcome.signal = number

    # ---- starting ------------------------------------------------------------------------------------------------

    def _start_ready(self) -> bool:
        done = set(self.outcome.done)
        started = False
        for job in list(self.waiting):
            if len(self.running) >= self.slots or any(item.job.alone for item in self.running):
                break
            if not done.issuperset(job.needs):
                continue
            if job.alone and self.running:
                break  # nothing is to overtake it, or it would wait for ever
            self.waiting.remove(job)
            self._start(job)
            started = True
        return started

    def _start(self, job: Job) -> None:
        folder = prepare(self.out, job, self.digests[job.id])
        with (folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [*self.worker, str(self.out), job.id],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment(job),
                start_new_session=True,  # Ctrl-C comes through the runner, once
            )
        self.running.append(_Running(job, process, time.monotonic()))

    def _environment(self, job: Job) -> dict[str, str]:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        threads = str(self.threads)
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "LAM3C_ENGINE": "embedded",
            "LAM3C_PROOF_WORKERS": str(self.slots * self.threads if job.alone else 1),
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OMP_WAIT_POLICY": "PASSIVE",
        }

    # ---- ending --------------------------------------------------------------------------------------------------

    def _reap(self) -> bool:
        ended = [item for item in self.running if item.process.poll() is not None]
        for item in ended:
            self.running.remove(item)
            self._settle(item)
        return bool(ended)

    def _settle(self, item: _Running) -> None:
        if item.process.stdin is not None:
            item.process.stdin.close()
        job, code = item.job, item.process.returncode
        result = result_of(self.out, job, self.digests[job.id])
        if code == 0 and result is not None:
            self.outcome.done.append(job.id)
            self.forecast.learn(job, float(result["seconds"]))
            self.say(self._line(f"{job.id}: done in {result['seconds']:.0f} s{_scores(result)}"))
        else:
            killed = "killed, out of memory? " if code == -signal.SIGKILL else ""
            self._fail(job, f"{killed}{_last_line(folder_of(self.out, job) / 'log.txt')} (exit code {code})")

    def _fail(self, job: Job, error: str) -> None:
        self.outcome.failed[job.id] = error
        folder = folder_of(self.out, job)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "error.json", {"id": job.id, "digest": self.digests[job.id], "error": error})
        self.say(self._line(f"{job.id}: FAILED: {error}"))

    def _drop_hopeless(self) -> None:
        for job in list(self.waiting):
            lost = [need for need in job.needs if need in self.outcome.failed]
            if lost:
                self.waiting.remove(job)
                self._fail(job, f"needs {lost[0]}, which failed")

    def _stop_all(self) -> None:
        """SIGTERM to what runs; a training saves first."""
        if self.running and self.outcome.stopped:
            self.say(f"waiting for {', '.join(item.job.id for item in self.running)} to save")
        for item in self.running:
            item.process.terminate()
        deadline = time.monotonic() + STOP_GRACE
        for item in self.running:
            try:
                item.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                item.process.kill()
                item.process.wait()
            if item.process.stdin is not None:
                item.process.stdin.close()
            if result_of(self.out, item.job, self.digests[item.job.id]) is not None:  # just made it
                self.outcome.done.append(item.job.id)
        self.running.clear()

    def _line(self, text: str) -> str:
        settled = len(self.outcome.done) + len(self.outcome.failed)
        now = time.monotonic()
        left = self.forecast.left(self.waiting, [(item.job, now - item.since) for item in self.running])
        return f"[{settled:>3}/{self.total}] {text} | {(now - self.started) / 60:.1f} min, about {left / 60:.0f} left"


def _scores(result: Mapping[str, Any]) -> str:
    """The validation mIoU, where there is one."""
    found = [
        f"{entry.get('probe', 'fine-tuned')} {100 * entry['m_iou']:.1f}"
        for entry in result.get("entries", [])
        if entry["split"] == "val"
    ]
    return f" (val mIoU: {', '.join(found)})" if found else ""


def _last_line(log: Path) -> str:
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return "no log"
    return next((line.removeprefix("error: ") for line in reversed(lines) if line), "no word in its log")

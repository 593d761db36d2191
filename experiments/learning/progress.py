"""How far jobs are, and how long the rest takes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from experiments.learning.plan import Job

#: seconds per unit of a job's effort (a step, a room) until one of the kind is done; of a core of 2023
START_UP = 4.0  # seconds of a process until it works
FIRST_GUESS = {"data": 0.3, "random": 5.0, "pretrain": 2.2, "probe": 0.5, "finetune": 0.7, "terms": 4.0}


class Forecast:
    """Learns seconds per unit of effort from finished jobs, kind by kind.

    Args:
        slots: processes at a time.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._seconds: dict[str, float] = defaultdict(float)
        self._effort: dict[str, float] = defaultdict(float)

    def learn(self, job: Job, seconds: float) -> None:
        """A job took so long."""
        self._seconds[job.kind] += seconds
        self._effort[job.kind] += job.effort

    def seconds(self, job: Job) -> float:
        """What a job takes, as far as is known."""
        if self._effort[job.kind] and self._seconds[job.kind]:
            rate = self._seconds[job.kind] / self._effort[job.kind]
        else:
            rate = FIRST_GUESS.get(job.kind, 1.0) / (self.slots if job.alone else 1)
        return START_UP + job.effort * rate

    def left(self, waiting: Sequence[Job], running: Sequence[tuple[Job, float]]) -> float:
        """Seconds until all is done; ``running`` jobs come with the seconds they have had."""
        busy = [max(0.0, self.seconds(job) - spent) for job, spent in running]
        alone = sum(self.seconds(job) for job in waiting if job.alone)
        shared = sum(self.seconds(job) for job in waiting if not job.alone) + sum(busy)
        return alone + max(shared / self.slots, max(busy, default=0.0))


def describe(job: Job, out: Path) -> str:
    """A running job for the progress line; a pre-training with its step."""
    if job.kind != "pretrain":
        return job.id
    path = out / "jobs" / job.id / "run" / "monitor.jsonl"
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return f"{job.id} (step {json.loads(lines[-1])['step']} of {job.spec['steps']})"
    except (OSError, ValueError, IndexError, KeyError):
        return f"{job.id} (starting)"

"""A long-lived process that does one task after another: rooms, a trial of the machine's speed, jobs of the plan."""

from __future__ import annotations

import logging
import os
import platform
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks._harness import cpu_name
from experiments.learning import rooms
from experiments.learning.measure import Probing, encoded, raw
from experiments.learning.plan import RANDOM, RAW, TRAINED, Job, Settings
from experiments.learning.train import Run, Runs, collapsed

WARM_UP, TRIAL = 3, 6  # steps of the trial: the first do not count
TRIAL_ROOMS = 3  # of its probe, one room in so many
ORPHANED = 2.0  # seconds between looks for the parent
Task = tuple[str, Any]  # a name of `TASKS` and what it is given


def serve(connection: Connection, work: Path, device: str) -> None:
    """Do the tasks that come, and send back ("done", result) or ("failed", one line), until None comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes through the parent, once
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)
    logging.disable(logging.INFO)  # of the engine: a line for every group of every optimiser
    while (task := connection.recv()) is not None:
        name, given = task
        try:
            connection.send(("done", TASKS[name](given, work, torch.device(device))))
        except Exception as error:
            traceback.print_exc()
            connection.send(("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))


def _end_with(parent: int) -> None:
    """Leave when the parent was killed: nobody would take the result."""
    while os.getppid() == parent:
        time.sleep(ORPHANED)
    os._exit(1)


def make_rooms(given: tuple[Settings, list[rooms.Room]], work: Path, device: torch.device) -> int:
    """Make some rooms; how many."""
    del device
    settings, chosen = given
    for room in chosen:
        rooms.make(room, work, settings)
    return len(chosen)


def trial(settings: Settings, work: Path, device: torch.device) -> dict[str, float]:
    """Seconds of an optimiser step of a row, and of one probe with all measures, as this machine does them now."""
    job = Job("trial", "pi3", 1_000_000 + os.getpid(), tuple(TRAINED), (), settings, WARM_UP + TRIAL)
    runs = Runs(job, work, device)
    for _ in range(WARM_UP):
        _step(runs)
    begun = time.perf_counter()
    for _ in range(TRIAL):
        _step(runs)
    _wait(device)
    step = (time.perf_counter() - begun) / TRIAL / len(TRAINED)
    begun = time.perf_counter()
    run = runs.rows["full"]
    Probing(work, settings, "pi3", job.seed, device, TRIAL_ROOMS).all(encoded(run.encoder()))
    return {"step": step, "probe": TRIAL_ROOMS * (time.perf_counter() - begun)}


def _step(runs: Runs) -> None:
    batch = runs.batch(runs.done)
    for run in runs.rows.values():
        run.step(runs.done, batch)
    runs.done += 1


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def do_job(job: Job, work: Path, device: torch.device) -> dict[str, Any]:
    """Train all rows of a job and measure them.

    Returns:
        Its place in the results file: digest, machine, seconds, and by row the measures of `measure.Probing`, with
        ``rank`` (first and last step), ``loss`` (likewise) and ``collapsed`` of rows that were trained.
    """
    begun = time.perf_counter()
    is_map = job.kind == "map"
    every = job.settings.map_rooms if is_map else 1
    probing = Probing(work, job.settings, job.noise, job.seed, device, every)
    measure: Callable[..., dict[str, float]] = probing.clean if is_map else probing.all
    found: dict[str, dict[str, Any]] = {} if is_map else {RAW: measure(raw)}
    found[RANDOM] = measure(encoded(Run(job, job.rows[0], device).encoder()))
    save = work / "states" / f"{job.id}.pth"
    save.parent.mkdir(parents=True, exist_ok=True)
    runs = Runs(job, work, device, save)
    untrained = time.perf_counter()
    runs.train()
    _wait(device)
    trained = time.perf_counter() - untrained
    for row, run in runs.rows.items():
        health = run.health
        found[row] = {
            **({} if collapsed(health) and _is_broken(run) else measure(encoded(run.encoder()))),
            "collapsed": collapsed(health),
            "rank": [item["rank"] for item in health],
            "loss": [item["loss"] for item in health],
        }
    save.unlink(missing_ok=True)
    seconds = time.perf_counter() - begun
    return {
        "digest": job.digest,
        "machine": machine(device.type),
        "seconds": round(seconds, 1),
        "training_seconds": round(trained, 1),
        "rows": {row: _short(values) for row, values in found.items()},
    }


def _is_broken(run: Run) -> bool:
    """Whether weights are not finite: there is nothing to probe."""
    return not all(bool(torch.isfinite(value).all()) for value in run.model.parameters())


def _short(values: Mapping[str, Any]) -> dict[str, Any]:
    """Five digits of every number."""
    return {key: _digits(value) for key, value in values.items()}


def _digits(value: Any) -> Any:
    if isinstance(value, list):
        return [_digits(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


@cache
def machine(device: str) -> str:
    """What a figure was made on."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"{cpu_name()}, {os.cpu_count()} cores"
    return f"{name}; torch {torch.__version__}; Python {platform.python_version()}"


TASKS: dict[str, Callable[[Any, Path, torch.device], Any]] = {"rooms": make_rooms, "trial": trial, "job": do_job}

"""All finished jobs of a plan as one ``results.json``; the only source of the tables' numbers."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_tools.stages.files import write_json
from data_tools.synthetic.rooms.palette import CLASSES
from experiments.learning.engine import ROOT
from experiments.learning.jobs import error_of, read_json, result_of
from experiments.learning.plan import Job, digests
from experiments.learning.presets import GRID_SIZE, SEEDS, Preset

VERSION = 1
FILE = "results.json"
RUNS = "runs.json"


def collect(
    preset: Preset, jobs: Sequence[Job], out: Path, command: str = "", note: dict[str, str] | None = None
) -> dict[str, Any]:
    """What the jobs found so far, in the schema of version 1.

    Args:
        preset: the numbers.
        jobs: the plan.
        out: output folder.
        command: that made the results.
        note: errors of jobs by id, beside those recorded in their folders.
    """
    expected = digests(jobs)
    finished = {job.id: found for job in jobs if (found := result_of(out, job, expected[job.id])) is not None}
    errors = {job.id: error for job in jobs if (error := error_of(out, job, expected[job.id])) is not None}
    errors = {key: value for key, value in {**errors, **(note or {})}.items() if key not in finished}
    done = [(job, finished[job.id]) for job in jobs if job.id in finished]
    return {
        "version": VERSION,
        "preset": preset.name,
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "command": command,
        "wall_seconds": round(sum((read_json(out / RUNS) or {}).get("seconds", [])), 1),
        "classes": list(CLASSES),
        "settings": {**asdict(preset), "grid_size": GRID_SIZE, "generator_seeds": SEEDS},
        "pretrain": [_pretrain(job, result) for job, result in done if job.kind == "pretrain"],
        "probe": [entry for job, result in done if job.kind == "probe" for entry in _probe(job, result)],
        "finetune": [entry for job, result in done if job.kind == "finetune" for entry in _finetune(job, result)],
        "terms": [_terms(job, result) for job, result in done if job.kind == "terms"],
        "failed": [{"id": key, "error": value} for key, value in errors.items()],
        "open": [job.id for job in jobs if job.id not in finished and job.id not in errors],
        "jobs": {job.id: {key: result[key] for key in ("kind", "seconds")} for job, result in done},
    }


def write(found: dict[str, Any], out: Path) -> Path:
    """Write ``results.json``, whole or not at all."""
    path = out / FILE
    write_json(path, found)
    return path


def add_run(out: Path, seconds: float) -> None:
    """Note the wall time of one call of the script; a result may have taken several."""
    before = (read_json(out / RUNS) or {}).get("seconds", [])
    write_json(out / RUNS, {"seconds": [*before, round(seconds, 1)]})


def _pretrain(job: Job, result: dict[str, Any]) -> dict[str, Any]:
    spec = {key: job.spec[key] for key in ("row", "seed", "rooms", "noise", "steps", "options")}
    kept = {key: result[key] for key in ("seconds", "checkpoint", "command", "monitor")}
    return {"id": job.id, **spec, **kept}


def _probe(job: Job, result: dict[str, Any]) -> list[dict[str, Any]]:
    spec = {key: job.spec[key] for key in ("source", "row", "seed", "rooms", "noise", "step")}
    shared = {"share": 1.0, "checkpoint": result["checkpoint"], "decays": result["decays"]}
    return [{"id": job.id, **spec, **entry, **shared} for entry in result["entries"]]


def _terms(job: Job, result: dict[str, Any]) -> dict[str, Any]:
    return {"id": job.id, "row": job.row, "seed": job.spec["seed"], "steps": result["terms"]}


def _finetune(job: Job, result: dict[str, Any]) -> list[dict[str, Any]]:
    spec = {key: job.spec[key] for key in ("row", "seed", "share", "steps")}
    return [{"id": job.id, **spec, **entry, "seconds": result["seconds"]} for entry in result["entries"]]


def machine() -> dict[str, Any]:
    """Processor, memory and GPU of this machine."""
    from lam3c_plugin.machine import find_gpus

    found: dict[str, Any] = {"cpu": _cpu_name(), "cores": os.cpu_count() or 1, "system": platform.system()}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        found["memory_gib"] = round(size / 2**30, 1)
    gpus = find_gpus()
    if gpus:
        found["gpu"] = ", ".join(f"{gpu.name} ({gpu.gib:.0f} GiB)" for gpu in gpus)
    return found


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def versions() -> dict[str, str]:
    """Python and the packages that numbers may depend on."""
    import numpy
    import torch

    from lam3c_plugin import __version__

    return {
        "lam3c_plugin": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }


def commit() -> str:
    """The repository's commit, with "+" where files differ from it; "" outside of git."""

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        except OSError:  # no git on this machine
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    head = git("rev-parse", "--short", "HEAD")
    return f"{head}+" if head and git("status", "--porcelain", "--untracked-files=no") else head

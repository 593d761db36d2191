"""What the results files hold: joined, by row and measure, and the runs of the map."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.learning.plan import MAP_RATES, MAP_REST
from experiments.learning.verdicts import Difference
from lam3c_plugin.errors import DataError

RESULTS = Path(__file__).with_name("results.json")
OWN = ("seeds", "map_seeds", "steps", "map_share")  # settings in which joined files may differ
MEASURES = {
    "linear": "linear probe, clean",
    "knn": "kNN probe, clean",
    "linear_noisy": "linear probe, noisy",
    "knn_noisy": "kNN probe, noisy",
    "retrieval": "retrieval",
    "transfer": "label transfer",
}
NAMES = {
    "raw": "raw inputs",
    "random": "random weights",
    "clustering": "clustering",
    "laplacian": "clustering + Laplacian",
    "consistency": "clustering + consistency",
    "full": "full",
}
PAIRS = {  # hypothesis, and the rows whose difference it is about
    "H1": ("full", "clustering"),
    "H2": ("full", "raw"),
    "H3": ("full", "random"),
    "H4": ("laplacian", "clustering"),
    "H5a": ("consistency", "clustering"),
    "H5b": ("full", "laplacian"),
}
NOISES = ("pi3", "worse")
FAILED = 2.0  # mIoU above random weights, or the run has failed
Jobs = Mapping[str, Mapping[str, Any]]


def read(path: Path) -> dict[str, Any]:
    """A JSON file.

    Raises:
        DataError: it is not there, or is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def join(known: Mapping[str, Any], new: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The committed results with those of one more file: ``settings``, and ``jobs`` with commit and steps each, which
    are part of the name of a map's job: maps of several lengths stand beside each other.

    Raises:
        DataError: other sizes than those of the known results, or a job that both have with other figures.
    """
    sizes = {key: value for key, value in new["settings"].items() if key not in OWN}
    if known and sizes != known["settings"]:
        raise DataError(f"{name}: was made with other settings than {RESULTS.name}")
    jobs = dict(known.get("jobs", {}))
    commits = ", ".join(dict.fromkeys(run["commit"] for run in new["runs"]))
    share = {"map": new["settings"]["map_share"]}
    for key, job in new["jobs"].items():
        kind = key.split("-")[0]
        steps = max(1, round(share.get(kind, 1.0) * new["settings"]["steps"]))
        key = key.replace("map-", f"map{steps}-")
        added = {**job, "commit": commits, "steps": steps}
        if key in jobs and {**jobs[key], "commit": ""} != {**added, "commit": ""}:
            raise DataError(f"{name}: {key} is there already with other figures; a job is reported once")
        jobs.setdefault(key, added)
    return {"settings": sizes, "jobs": jobs}


def figures_of(jobs: Jobs, noise: str, row: str, measure: str, kind: str = "table") -> dict[int, float]:
    """A row's measure in percent, by seed."""
    found = {}
    for key, job in jobs.items():
        if key.startswith(f"{kind}-{noise}-") and measure in job["rows"].get(row, {}):
            found[int(key.split("-")[-1])] = 100 * job["rows"][row][measure]
    return found


def difference(jobs: Jobs, noise: str, pair: str, measure: str) -> Difference | None:
    """The paired difference of a hypothesis; None with fewer than two seeds."""
    left, right = (figures_of(jobs, noise, row, measure) for row in PAIRS[pair])
    return Difference.of(left, right)


def describe(pair: str) -> str:
    """``full − clustering``, ``full − (clustering + Laplacian)``."""
    left, right = (NAMES[row] for row in PAIRS[pair])
    return f"{left} − {f'({right})' if '+' in right else right}"


def map_lengths(jobs: Jobs) -> list[int]:
    """Steps of the maps that there are, the longest first."""
    return sorted({job["steps"] for key, job in jobs.items() if key.startswith("map")}, reverse=True)


def map_runs(jobs: Jobs, steps: int) -> dict[tuple[str, int, float, float, int], dict[str, Any]]:
    """Of the map of that length: mIoU of the rows in percent, and whether each has failed.

    Returns:
        By noise, prototypes, momentum, rate and seed.
    """
    found = {}
    for noise, prototypes, momentum in MAP_REST:
        for rate in MAP_RATES:
            prefix = f"map{steps}-{noise}-{rate:g}-{prototypes}-{momentum:g}-"
            for key in (key for key in jobs if key.startswith(prefix)):
                rows = jobs[key]["rows"]
                scores = {row: 100 * rows[row]["linear"] for row in rows if "linear" in rows[row]}
                failed = {
                    row: rows[row]["collapsed"] or scores.get(row, 0.0) < scores["random"] + FAILED
                    for row in ("clustering", "full")
                }
                cell = (noise, prototypes, momentum, rate, int(key.removeprefix(prefix)))
                found[cell] = {"scores": scores, "failed": failed}
    return found

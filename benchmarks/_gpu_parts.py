"""`gpu.py`: a GPU's tests, losses and neighbours against their plain forms, the loader, the learning proof."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np

from benchmarks import clustering_loss, laplacian_loss, neighbours
from benchmarks._clouds import furnished_room
from benchmarks._gpu_case import Case
from benchmarks._harness import ROOT
from benchmarks._process import MIB


def run_tests(case: Case) -> None:
    """`pytest -m gpu`; without a card the same tests on the CPU."""
    command = [sys.executable, "-m", "pytest", "-v", "-p", "benchmarks._gpu_failures", "--tb=short", "--no-summary"]
    command += ["-o", "faulthandler_timeout=60", "--durations=8", "tests/gpu"]
    command += ["-m", "not gpu" if case.device == "cpu" else "gpu"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    count: dict[str, int] = {}
    for line in process.stdout or ():
        print(line, end="", flush=True)
        if found := re.match(r"(?:\S*?::)?(tests/gpu/\S+?)::(.+?) (PASSED|FAILED|ERROR|SKIPPED)", line):
            file, name, verdict = found.groups()
            count[verdict] = count.get(verdict, 0) + 1
            if verdict in ("FAILED", "ERROR"):
                case.row("tests that failed", test=f"{file}::{name}")
        elif re.match(r"E   |=+ .* in ", line):
            case.note(line.strip("E= \n")[:300])
    code = process.wait()
    case.row("tests", **count, **{"exit code": code})
    if code:
        raise RuntimeError(f"pytest ended with {code}")


def compare_losses(case: Case) -> None:
    """The benchmarks of the losses and of the neighbours, with what each must reach on a GPU."""
    small = case.dry
    shared = dict(device=case.device, repeats=1 if small else 5, tolerance=20.0)
    clustering = dict(prototypes=64 if small else 4096, dtype="float32", from_embeddings=False)
    laplacian = dict(channels=64 if small else 1088, k=24, spacing=0.08)
    search = dict(k=24, radius=0.08, repeats=1 if small else 3, backend="auto" if case.device == "cuda" else "grid")
    jobs: list[tuple[str, ModuleType, dict, list[int], str]] = [
        ("clustering", clustering_loss, clustering, [100_000, 20_000], ">= 3x, <= 0.1 of the memory"),
        ("clustering, bfloat16", clustering_loss, {**clustering, "dtype": "bfloat16"}, [100_000], ""),
        ("clustering from embeddings", clustering_loss, {**clustering, "from_embeddings": True}, [100_000, 20_000], ""),
        ("neighbours, 8 cm apart", neighbours, {**search, "spacing": 0.08}, [100_000], ">= 3x torch.cdist"),
        ("neighbours, 2 cm apart", neighbours, {**search, "spacing": 0.02}, [100_000], ">= 3x torch.cdist"),
        ("Laplacian", laplacian_loss, laplacian, [20_000, 50_000], ""),
    ]
    for name, module, settings, sizes, bar in jobs:
        for size in (600,) if small else sizes:
            if case.left < 4 and not small:
                case.note(f"no time for {name} at {size} and what follows")
                return
            with case.trying(f"{name} at {size}"):
                r = module.measure(size, argparse.Namespace(**{**shared, **settings}))
                case.row(
                    "against the plain forms, forward and backward", what=name, size=size, **{
                        "ours ms": r.ours * 1e3, "plain ms": r.reference * 1e3, "ratio": r.reference / r.ours,
                        "ours MiB": r.ours_peak / MIB, "plain MiB": r.reference_peak / MIB,
                        "memory": r.ours_peak / max(r.reference_peak, 1), "bar": bar,
                    },
                )  # fmt: skip


def write_room(job: tuple[str, int, int]) -> None:
    """A scene folder of the RoomTours format."""
    folder, points, seed = job
    scene = furnished_room(points, seed)
    Path(folder).mkdir(parents=True)
    for key, kind in (("coord", np.float32), ("color", np.uint8), ("normal", np.float16)):
        np.save(Path(folder, f"{key}.npy"), scene[key].astype(kind))


def loader(case: Case) -> None:
    """Samples a second of the training loader, by workers, on scenes of realistic size."""
    from lam3c_plugin.embedded.datasets import point_collate_fn
    from lam3c_plugin.embedded.engine.data import build_loader, shut_down
    from lam3c_plugin.embedded.registry import build_dataset
    from lam3c_plugin.recipes.pretrain import view_transforms

    sizes = [3000] * 3 if case.dry else [300_000, 500_000, 700_000, 1_000_000] * 6
    cores = len(os.sched_getaffinity(0))
    counts = [2] if case.dry else [n for n in (14, 12, 8) if n <= cores] or [cores]
    batch = 2  # a batch is one worker's work: of twelve scenes each there would be few to count in the time
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(f"{folder}/train/room{number}", points, number) for number, points in enumerate(sizes)]
        start = time.monotonic()
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(write_room, jobs))
        case.note(
            f"{len(sizes)} scenes of {min(sizes)} to {max(sizes)} points, made in {time.monotonic() - start:.0f} s"
        )
        config = dict(type="RoomToursDataset", data_root=folder, transform=view_transforms(), loop=50)
        for number, workers in enumerate(counts):
            spend = 2.0 if case.dry else case.left / (len(counts) - number) - 2.0
            if spend < 5 and not case.dry:
                case.note(f"no time for {workers} workers")
                break
            with case.trying(f"{workers} workers"):
                built = build_loader(
                    build_dataset(config), batch_size=batch, rank=0, world_size=1, seed=0, num_workers=workers,
                    collate_fn=point_collate_fn, pin_memory=case.device == "cuda",
                )  # fmt: skip
                _read(case, built, workers, batch, min(spend, 20.0))
                shut_down(built)


def _read(case: Case, built: object, workers: int, batch: int, spend: float) -> None:
    """Time the batches behind the first ones, which the workers made together."""
    batches, start = itertools.chain.from_iterable(itertools.repeat(built)), time.perf_counter()
    first = next(batches)
    waited = time.perf_counter() - start
    skip = 0 if case.dry else 2 * workers  # what was prepared while the first was on its way
    for _ in range(skip):
        next(batches)
    start, done, points = time.perf_counter(), 0, 0
    while done == 0 or time.perf_counter() - start < spend:
        data = next(batches)
        done += 1
        points += len(data["global_coord"]) + len(data["local_coord"])
    taken = time.perf_counter() - start
    case.row(
        "loader", workers=workers, **{
            "batch": batch, "samples/s": done * batch / taken, "points/s": points / taken, "batches": done,
            "first batch s": waited, "points of the first": len(first["global_coord"]) + len(first["local_coord"]),
        },
    )  # fmt: skip


def learning(case: Case) -> None:
    """`experiments/learning` with one seed and fewer rooms: does the run on this device learn what a CPU's does?"""
    minutes = max(0.5, (case.left - 25) / 60)
    with tempfile.TemporaryDirectory() as folder:
        chosen = ["seeds=(('pi3',1),)", "map_seeds=0"]
        chosen += ["points=600", "view_points=300"] if case.dry else ["rooms=80", "steps=150"]
        command = [sys.executable, str(ROOT / "experiments/learning/run.py"), "--out", folder, "--set", *chosen]
        command += f"--preset {'smoke' if case.dry else 'gpu'} --workers 1 --minutes {minutes:.2f}".split()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        print(done.stdout, done.stderr, flush=True)
        case.row("learning", **{"exit code": done.returncode, "command": " ".join(command[1:4])})
        for line in done.stdout.splitlines()[-3:]:
            case.note(line)
        if done.returncode not in (0, 75):  # 75: the time came first
            raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "run.py failed")
        found = json.loads(Path(folder, "results.json").read_text(encoding="utf-8"))
        for name, job in found["jobs"].items():
            for row, values in job["rows"].items():
                numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
                case.row(f"learning: {name}", row=row, **numbers)

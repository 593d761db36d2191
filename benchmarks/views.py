"""Views of a scene for pre-training, one core: our transforms against Pointcept's (POINTCEPT_ROOT), same config.

Both run Sonata's recipe (2 global and 4 local views of at most 65,536 points) on a synthetic furnished room. Nothing of
a sample is equal to the bit, as each draws its own random numbers; checked are the entries, the number of grid cells
and, over the timed samples, the mean size of the views. `tests/embedded/test_transforms_pointcept.py` compares the
distributions.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: the bar is samples a second of one core

import random
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks._clouds import furnished_room
from benchmarks._harness import Result, compare, parser, report
from benchmarks._process import MIB
from benchmarks.host_transforms import load_host_transforms, missing_host
from lam3c_plugin.embedded.transforms import Compose, GridSample
from lam3c_plugin.recipes.pretrain import view_transforms


def seeded(pipeline: Callable, scene: dict, sizes: list[int]) -> Callable[[], dict]:
    """A call that makes the next sample of ``scene``; the number of its points goes to ``sizes``."""
    seeds = iter(range(10**6))

    def call() -> dict:
        seed = next(seeds)
        np.random.seed(seed)
        random.seed(seed)
        torch.manual_seed(seed)
        sample = pipeline(dict(scene))
        sizes.append(len(sample["global_feat"]) + len(sample["local_feat"]))
        return sample

    return call


def measure(points: int, args: argparse.Namespace, host: object) -> Result:
    """Compare samples of a scene, then time both."""
    scene = furnished_room(points)
    recipe = view_transforms(args.grid_size)
    sizes: tuple[list[int], list[int]] = ([], [])
    calls = [seeded(build(recipe), scene, size) for build, size in zip((Compose, host.Compose), sizes, strict=True)]
    ours, theirs = (call() for call in calls)
    assert set(ours) == set(theirs)
    cells = [len(grid(dict(scene))["coord"]) for grid in (GridSample(args.grid_size), host.GridSample(args.grid_size))]
    assert cells[0] == cells[1]
    found = compare(points, *calls, args)
    means = [np.mean(size) for size in sizes]
    assert abs(means[0] / means[1] - 1) < 0.35, means
    print(f"{points} points, {cells[0]} cells, {means[0]:.0f} / {means[1]:.0f} points in the views (ours / the host's)")
    return found


def stages(points: int, args: argparse.Namespace) -> None:
    """Where our time goes: seconds of each transform of the outer list."""
    pipeline = Compose(view_transforms(args.grid_size)).transforms
    for _ in range(2):
        sample = furnished_room(points)
        line = []
        for transform in pipeline:
            begin = time.perf_counter()
            sample = transform(sample)
            line.append(f"{type(transform).__name__} {1e3 * (time.perf_counter() - begin):.0f} ms")
    size = sum(value.nbytes for value in sample.values() if torch.is_tensor(value))
    print(f"ours, {points} points: {', '.join(line)}; {size / MIB:.0f} MiB a sample")


def main() -> None:
    """Where our time goes, then all sizes against the host."""
    options = parser(__doc__.splitlines()[0], [250_000, 500_000, 1_000_000])
    options.add_argument("--grid_size", type=float, default=0.02, help="metres")
    args = options.parse_args()
    args.device = "cpu"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the host calls what SciPy has renamed
    stages(args.sizes[-1], args)
    reason = missing_host()
    if reason:
        sys.exit(f"no reference: {reason}")
    host = load_host_transforms()
    results = [measure(points, args, host) for points in args.sizes]
    report("views: samples of Sonata's recipe, one core", "Pointcept's transforms", results, "cpu")


if __name__ == "__main__":
    main()

"""How ours alone grows with the points of a batch, up to a million: time and peak memory at every doubling.

    python benchmarks/scaling.py                            losses, neighbours, views, PTv3 and the step
    python benchmarks/scaling.py --only ptv3 --largest 500000

No reference runs here (most would not fit); the other scripts compare. Each part is a process of its own, so that its
memory is its own. The bar: at most 2.2 times the time for twice the points, memory in proportion. The step and PTv3 run
at their tiny size where the Base size would not fit this machine's memory; the title says which.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from itertools import pairwise
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])
os.environ["LAM3C_ENGINE"] = "embedded"

import torch
from torch.nn import functional as F

from benchmarks._clouds import furnished_room, surface_clouds
from benchmarks._harness import interleaved, machine, peak_memory
from benchmarks._process import MIB, in_new_process

CLOUDS = 8
LIMIT = 2.2
Run = Callable[[], object]


def clustering(size: int, device: str) -> Run:
    """From embeddings, 4,096 prototypes, forward and backward."""
    from lam3c_plugin.losses import clustering_loss_from_embeddings

    torch.manual_seed(0)
    centre = F.normalize(torch.randn(4096, 256, device=device), dim=1)
    student = F.normalize(torch.randn(size, 256, device=device), dim=1)
    batch = torch.arange(size, device=device) * CLOUDS // size

    def run() -> None:
        leaves = student.detach().requires_grad_(), centre.detach().requires_grad_()
        clustering_loss_from_embeddings(leaves[0], student, leaves[1], centre, batch, 0.1, 0.05).backward()

    return run


def laplacian(size: int, device: str) -> Run:
    """Graph, forward and backward; 128 channels, so that a million points are half a gigabyte of features."""
    from lam3c_plugin.losses import laplacian_smoothing_loss

    coord, offset = surface_clouds(size, CLOUDS, 0.08, device)
    feat = torch.randn(size, 128, device=device) * 0.03
    return lambda: laplacian_smoothing_loss(feat.detach().requires_grad_(), coord, offset).backward()


def neighbours(size: int, device: str) -> Run:
    """24 neighbours within 8 cm, points every 2 cm."""
    from lam3c_plugin.ops.neighbours import knn

    coord, offset = surface_clouds(size, CLOUDS, 0.02, device)
    return lambda: knn(coord, offset, coord, offset, 24, 0.08)


def views(size: int, device: str) -> Run:
    """One sample of Sonata's recipe from a scene of so many points (always on the CPU)."""
    from lam3c_plugin.embedded.transforms import Compose
    from lam3c_plugin.recipes.pretrain import view_transforms

    scene, pipeline = furnished_room(size), Compose(view_transforms(0.02))
    return lambda: pipeline(dict(scene))


def ptv3(size: int, device: str) -> Run:
    """PTv3 Base, forward, clouds of 50,000 points."""
    from benchmarks.ptv3_forward import BASE, room_cloud
    from lam3c_plugin.embedded.ptv3 import PointTransformerV3

    torch.manual_seed(0)
    model = PointTransformerV3(**BASE).to(device).eval()
    one = room_cloud(min(size, 50_000))
    copies = max(1, size // len(one["coord"]))
    batch = {name: torch.cat([one[name]] * copies).to(device) for name in ("coord", "feat", "grid_coord")}
    batch["offset"] = (torch.arange(1, copies + 1) * len(one["coord"])).to(device)
    batch["grid_size"] = one["grid_size"]

    def run() -> None:
        with torch.no_grad():
            model(batch)

    return run


def step(size: int, device: str) -> Run:
    """The tiny config's whole step: forward, backward, EMA; scenes of 24,000 points in all views."""
    from benchmarks.lam3c_step import make_batch, model_of
    from benchmarks.lam3c_step import step as one_step

    torch.manual_seed(0)
    model = model_of("pretrain-lam3c-v1m1-2-tiny").to(device).train()
    return one_step(model, make_batch(max(1, size // 24_000), 8_000, device), False)


#: name -> (what builds a run, largest size by default)
PARTS: dict[str, tuple[Callable[[int, str], Run], int]] = {
    "clustering": (clustering, 120_000),  # a million points have some 60,000 at the stage where they are matched
    "laplacian": (laplacian, 1_000_000),
    "neighbours": (neighbours, 1_000_000),
    "views": (views, 1_000_000),
    "ptv3": (ptv3, 400_000),
    "step": (step, 960_000),
}


def measure(name: str, args: argparse.Namespace) -> None:
    """Print the table of one part."""
    build, largest = PARTS[name]
    largest = min(largest, args.largest or largest)
    sizes = [largest >> shift for shift in reversed(range(args.doublings + 1))]
    print(f"{name}: {build.__doc__.strip().splitlines()[0]}\nmachine: {machine(args.device)}")
    rows = []
    for size in sizes:
        run = build(size, args.device)
        run()
        peak = peak_memory(run, args.device)
        (seconds,) = interleaved([run], args.device, args.repeats, args.clock)
        rows.append((size, seconds, peak))
        print(f"{size:>9} points {seconds:>8.3f} s {peak / MIB:>7.0f} MiB", flush=True)
    for (_, before, small), (size, after, large) in pairwise(rows):
        verdict = "" if after <= LIMIT * before else f"   over {LIMIT}"
        print(f"  to {size}: time x{after / before:.2f}, memory x{large / max(small, 1):.2f}{verdict}")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="some parts")
    parser.add_argument("--largest", type=int, help="largest batch in points (default: by part)")
    parser.add_argument("--doublings", type=int, default=3, help="sizes below the largest, each half of the next")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    failed = 0
    for name in args.only or PARTS:
        try:
            in_new_process(measure, name, args)
            print(flush=True)
        except BrokenProcessPool:
            print(f"{name}: stopped, most likely for memory\n", flush=True)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())

"""The quality score against faults of known size: a room of known truth blurred, doubled, bent and with holes.

    python benchmarks/quality.py [--truth data/walk] [--points 200000] [CLOUD ...]

A line a fault and size: the four measures, the score, the verdict; then the same for given clouds as they are. --truth
takes a filmed flat (data_tools/synthetic/walkthrough/film.py), what its camera saw of the first room; without it a
synthetic room is judged. Exit code 1 where a larger fault does not have the lower score.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data_tools.clouds.io import Cloud, read_cloud
from data_tools.postprocessing.pipeline import process
from data_tools.postprocessing.quality import PARTS, verdict
from data_tools.postprocessing.settings import PostprocessSettings
from data_tools.synthetic.rooms.generate import SyntheticSettings, make_room
from data_tools.synthetic.walkthrough.truth import read_truth

SIZES = {
    "blur": (0, 0.005, 0.01, 0.02, 0.04),  # m, sigma
    "double": (0, 0.25, 0.5, 1),  # share of the room that a second copy, 8 cm aside, covers
    "bend": (0, 0.1, 0.2, 0.4),  # m, of a wall's middle against its ends
    "holes": (0, 0.3, 0.6, 0.8),  # share of the cubes of 80 cm that are empty
}


def true_room(truth: Path | None, points: int) -> Cloud:
    """Points of a true surface, with normals."""
    if truth is None:
        cloud, _ = make_room(SyntheticSettings(noise="clean", points=points), 0)
        return Cloud(cloud.coord, None, cloud.normal)
    found = read_truth(truth)
    rows = np.flatnonzero(found.visible & (found.surface.instance == 0))
    rows = rows[np.random.default_rng(0).permutation(len(rows))[:points]]
    return Cloud(found.surface.coord[rows], None, found.surface.normal[rows])


def with_fault(cloud: Cloud, fault: str, size: float) -> Cloud:
    """The cloud with a fault of that size (see `SIZES`)."""
    rng, coord, normal = np.random.default_rng(1), cloud.coord.astype(np.float64), cloud.normal
    low, side = coord.min(0), np.ptp(coord, axis=0)
    along = (coord[:, 0] - low[0]) / side[0]
    if fault == "blur":
        coord = coord + rng.normal(0, 1, coord.shape) * size
    elif fault == "double":
        coord = coord + 0.08 * ((rng.random(len(coord)) < 0.4) & (along < size))[:, None]
    elif fault == "bend":
        coord = coord + np.outer(4 * size * (along - 0.5) ** 2, [0, 1, 0.5])
    else:
        cube = np.unique(((coord - low) / 0.8).astype(int), axis=0, return_inverse=True)[1].reshape(-1)
        kept = rng.random(cube.max() + 1)[cube] >= size
        coord, normal = coord[kept], normal[kept]
    return Cloud(coord.astype(np.float32), None, normal)


def judge(name: str, cloud: Cloud, settings: PostprocessSettings) -> float:
    """Print a cloud's measures; returns its score."""
    quality = process(cloud, None, settings, name, True).quality
    parts = " ".join(f"{part.times * getattr(quality, key):9.1f}" for key, part in PARTS.items())
    print(f"{name:24} {parts} {quality.score:7.2f}  {verdict(quality.score)}", flush=True)
    return quality.score


def main() -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clouds", nargs="*", type=Path, metavar="CLOUD")
    parser.add_argument("--truth", type=Path, help="folder of a filmed flat")
    parser.add_argument("--points", type=int, default=200_000)
    args = parser.parse_args()
    settings = PostprocessSettings(scale="metric", preview=False)
    room, is_monotone = true_room(args.truth, args.points), True
    print(f"{'fault':24} {'seen %':>9} {'double %':>9} {'rough mm':>9} {'lean deg':>9} {'score':>7}")
    for fault, sizes in SIZES.items():
        scores = [judge(f"{fault} {size:g}", with_fault(room, fault, size), settings) for size in sizes]
        is_monotone &= bool((np.diff(scores) <= 0.005).all()) and scores[-1] < scores[0] - 0.1
    for path in args.clouds:
        judge(path.name, read_cloud(path), settings)
    print("the larger the fault, the lower the score" if is_monotone else "NOT MONOTONE")
    return 0 if is_monotone else 1


if __name__ == "__main__":
    sys.exit(main())

"""Whole flats from chunks: a backend that knows the truth, a ten-minute walk back to its start, with and without loops.

    python benchmarks/long_tours.py
    python benchmarks/long_tours.py --chunks 300 --bend 0.02
    python benchmarks/long_tours.py --grow 750 1500 3000

The walk (10.5 minutes, 21 rounds of two rooms, 2 frames a second) is seen by chunks; every pass lies in a similarity of
its own and has noise, 5 % outliers and an error that walks along its frames (see ``_tours.Errors``). Per row: the
trajectory's error after one alignment (root mean square), that of single chunks and the ratio, the scale of the last
quarter over the first's, the share of the walls that is there twice (`postprocessing.quality`), passes, CPU seconds and
peak memory without the backend's own. --grow: against the number of frames instead.
Exit code: 0 all well, 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import NamedTuple

import numpy as np

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks._tours import Errors, Tour, TourReconstructor, film
from data_tools.postprocessing.pipeline import process
from data_tools.postprocessing.settings import PostprocessSettings
from data_tools.reconstruction.alignment import Similarity, align_cameras
from data_tools.reconstruction.assemble import build_cloud
from data_tools.reconstruction.base import Frames, Prediction, ReconstructSettings
from data_tools.reconstruction.chunks.surface import seen_best
from data_tools.reconstruction.chunks.tour import reconstruct_tour, split, work_folder
from data_tools.reconstruction.masks import keep_masks
from data_tools.stages.command_line import run_main

POINTS = 1_000_000
RATE, SIZE, WALK = 2, (64, 48), 1260  # frames a second, pixels, frames


class Row(NamedTuple):
    """What one run gives; lengths in metres, CPU seconds without the backend's."""

    error: float  # of the trajectory, root mean square
    chunk_error: float  # the same of single chunks, aligned one by one, on average
    drift: float  # scale of the last quarter of the walk over that of the first, minus 1
    double: float  # share of the walls' area with two layers
    passes: int  # of the backend
    loops: int  # closed
    seconds: float
    peak: float  # MiB allocated beyond what was there before, without files mapped into memory


def trajectory_error(poses: np.ndarray, truth: np.ndarray) -> tuple[float, Similarity]:
    """Root mean squared distance of camera centres (F, 4, 4) after the best similarity, and that similarity."""
    found = align_cameras(poses, truth)
    apart = np.linalg.norm(found.apply(poses[:, :3, 3]) - truth[:, :3, 3], axis=1)
    return float(np.sqrt((apart**2).mean())), found


def chunk_error(tour: Tour, backend: TourReconstructor, limit: int) -> float:
    """The mean trajectory error of single chunks."""
    spans = split(len(tour.frames), limit)
    errors = []
    for span in spans:
        poses = backend.reconstruct(tour.frames.select(span), 0).camera_to_world
        errors.append(trajectory_error(poses, tour.camera_to_world[span])[0])
    return float(np.mean(errors))


def run(tour: Tour, backend: TourReconstructor, limit: int, closes_loops: bool = True) -> Row:
    """Reconstruct a tour in chunks and measure it."""
    spent, passes = [0.0], backend.passes

    def predict(frames: Frames, notes: list[str]) -> tuple[Prediction, Frames]:
        begin = time.process_time()
        prediction = backend.reconstruct(frames, 0)
        spent[0] += time.process_time() - begin
        return prediction, frames

    with tempfile.TemporaryDirectory() as place, work_folder(Path(place) / "tour", "key") as folder:
        tracemalloc.start()
        begin = time.process_time()
        prediction = reconstruct_tour(predict, tour.frames, limit, folder, [], closes_loops)
        keep = keep_masks(prediction, tour.frames, ReconstructSettings())[0]
        cloud = build_cloud(prediction, seen_best(prediction, keep), POINTS, 0)
        seconds = time.process_time() - begin - spent[0]
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        poses, truth = prediction.camera_to_world, tour.camera_to_world[prediction.view]
        error, whole = trajectory_error(poses, truth)
        quarter = len(poses) // 4
        first = trajectory_error(poses[:quarter], truth[:quarter])[1]
        last = trajectory_error(poses[-quarter:], truth[-quarter:])[1]
        cloud.coord = whole.apply(cloud.coord.astype(np.float64)).astype(np.float32)
        cloud.normal = (cloud.normal @ whole.rotation.T).astype(np.float32)
        scene = process(cloud, None, PostprocessSettings(), is_metric=True)
    passes = backend.passes - passes
    return Row(
        error,
        chunk_error(tour, backend, limit),
        first.scale / last.scale - 1,
        scene.quality.double,
        passes,
        prediction.figures["loops_closed"],
        seconds,
        peak,
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, nargs="+", default=[60, 150, 300], help="frames of a pass")
    parser.add_argument("--bend", type=float, default=Errors.bend, help="metres a hundred frames (default %(default)s)")
    parser.add_argument("--grow", type=int, nargs="+", default=[], help="numbers of frames")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Entry of the command line; returns the exit code."""
    args = parse_args(argv)
    return run_main(lambda: _run(args), "long_tours")


def _run(args: argparse.Namespace) -> int:
    frames = max(args.grow, default=WALK)
    tour = film(frames / RATE, RATE, SIZE)
    backend = TourReconstructor(tour, Errors(bend=args.bend))
    print("frames chunk loops  error  chunk's  ratio  drift  doubled  passes    CPU     peak")
    for count in args.grow or [frames]:
        for limit in args.chunks:
            for closes_loops in (True,) if args.grow else (False, True):
                row = run(_first(tour, count), backend, limit, closes_loops)
                print(
                    f"{count:6d} {limit:5d} {row.loops:5d} {100 * row.error:4.1f} cm {100 * row.chunk_error:5.1f} cm "
                    f"{row.error / row.chunk_error:6.2f} {100 * row.drift:+5.2f}% {100 * row.double:6.1f} % "
                    f"{row.passes:7d} {row.seconds:5.1f} s {row.peak:4.0f} MiB",
                    flush=True,
                )
    return 0


def _first(tour: Tour, count: int) -> Tour:
    return Tour(tour.frames.select(np.arange(count)), tour.depth, tour.camera_to_world, tour.intrinsics)


if __name__ == "__main__":
    sys.exit(main())

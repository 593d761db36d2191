"""Encoding a room of 180,000 cells with PTv3 Base: seconds, peak memory, work; and what forced chunks change.

    python benchmarks/encode.py [--cells 180000] [--threads 2] [--size base] [--chunks 65536 32768 16384]
    python benchmarks/encode.py --checkpoint FILE --grid-size 0.04 --cells 40000     agreement with trained weights

The room is one of `data_tools.synthetic` (clean scan, true normals), as large as it takes to fill so many cells; the
cloud goes through `Encoder.encode` from NumPy to NumPy in a process of its own, whose peak is of everything: Python,
PyTorch, weights, the features themselves. The agreement is the cosine between the features of one pass and those in
chunks, point by point; "centred" is the same after the mean feature is taken off both, which is stricter. Random
weights attend to everything nearly alike, which is easy to cut: `--gain 4` makes their attention sharp.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks._process import GIB, in_new_process, peak_resident
from benchmarks.ptv3_forward import count_gflop, gemm_gflops
from data_tools.clouds.io import Cloud, grid_cells
from data_tools.synthetic.rooms.build import build_room
from data_tools.synthetic.rooms.generate import light
from data_tools.synthetic.rooms.scan import sample_room
from lam3c_plugin.encode import Encoder, load
from lam3c_plugin.encode.clouds import prepare

SECONDS, GIB_BAR, COSINE = 60.0, 6.0, 0.95


def room_of(cells: int, grid_size: float, seed: int = 0) -> Cloud:
    """A furnished room, cut to its points nearest to a corner that fill just over ``cells`` cells."""
    for index in range(50):
        rng = np.random.default_rng([seed, index])
        room = build_room(rng)
        if room.shape.area() < 0.8 * cells * grid_size**2:
            continue
        points = sample_room(room, 4.0 / grid_size**2, rng)
        first, _, _ = grid_cells(points.coord, grid_size)
        distance = np.linalg.norm(points.coord[first] - points.coord.min(axis=0), axis=1)
        first, size = first[np.argsort(distance, kind="stable")], cells
        # the encoder's own grid has another origin, so that some of them meet in its cells
        while (found := _cells_of(points.coord[first[:size]], grid_size)) < cells and size < len(first):
            size = min(len(first), int(size * cells / found) + 500)
        if found < cells:
            continue
        kept = rng.permutation(first[:size])  # files are in no order either
        color = np.rint(255 * light(room, points.coord, points.normal, points.color)[kept]).astype(np.uint8)
        return Cloud(points.coord[kept].astype(np.float32), color, points.normal[kept].astype(np.float32))
    raise SystemExit(f"no room of 50 has {cells} cells of {grid_size} m; ask for fewer")


def _cells_of(coord: np.ndarray, grid_size: float) -> int:
    return len(prepare(coord, grid_size=grid_size, normals="zero").cells)


def encoder_of(args: argparse.Namespace) -> Encoder:
    """The encoder that was asked for."""
    encoder = load(args.checkpoint, device="cpu") if args.checkpoint else Encoder.random(args.size, 0, "cpu")
    for name, value in encoder.backbone.named_parameters():
        if value.dim() > 1 and "stem" not in name:
            value.data *= args.gain
    return encoder


class Run(NamedTuple):
    """What a timed process said; the peak in GiB."""

    seconds: float
    cpu: float
    peak: float
    digest: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.seconds:6.1f} s ({self.cpu:.0f} CPU s)   peak {self.peak:.2f} GiB"


def run_once(args: argparse.Namespace, room: Path, estimate: bool, options: dict[str, Any]) -> Run:
    """The timed call, for a process of its own."""
    torch.set_num_threads(args.threads)
    cloud, encoder = np.load(room), encoder_of(args)
    normal = None if estimate else cloud["normal"]
    start, cpu = time.perf_counter(), time.process_time()
    out = encoder.encode(cloud["coord"], cloud["color"], normal, grid_size=args.grid_size, **options)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return Run(seconds, cpu, peak_resident() / GIB, hashlib.sha256(out.tobytes()).hexdigest(), out.shape)


def in_process(args: argparse.Namespace, room: Path, estimate: bool = False, **options: Any) -> Run:
    """`run_once` in a new process."""
    return in_new_process(run_once, args, room, estimate, {"chunk": None, **options})


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) cosine between the rows of two (N, C)."""
    return (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)


def agreement(args: argparse.Namespace, cloud: Cloud) -> float:
    """Print the table of chunks against one pass, by level; return the lowest median."""
    encoder, worst = encoder_of(args), 1.0
    inputs = (cloud.coord, cloud.color, cloud.normal)
    print(f"{'chunk':>8} {'pieces by stage':>18}  " + "  ".join(f"{f'level {i}':^22}" for i in range(5)))
    print(f"{'':>8} {'':>18}  " + "  ".join(f"{'median  5 %':<12}{'centred':>10}" for _ in range(5)))
    whole = encoder.encode_cells(*inputs, grid_size=args.grid_size, chunk=None).feat
    width = whole.shape[1]
    for chunk in args.chunks:
        result = encoder.encode_cells(*inputs, grid_size=args.grid_size, chunk=chunk)
        line = f"{chunk:>8} {'-'.join(map(str, result.pieces)):>18}  "
        for level in range(len(encoder.info.channels)):
            first = width - encoder.channels(level)  # a level is the last columns of the full features
            a, b = whole[:, first:], result.feat[:, first:]
            value, centre = cosines(a, b), a.mean(0)
            centred = np.median(cosines(a - centre, b - centre))
            worst = min(worst, float(np.median(value)))
            line += f"{np.median(value):.4f} {np.quantile(value, 0.05):.4f}{centred:>9.4f}   "
        print(line.rstrip(), flush=True)
    return worst


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=180_000)
    parser.add_argument("--grid-size", type=float, default=0.02, help="metres")
    parser.add_argument("--size", default="base", help="random weights: tiny, base or large")
    parser.add_argument("--checkpoint", help="these weights instead")
    parser.add_argument("--gain", type=float, default=1.0, help="factor on all weight matrices: sharper attention")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--chunks", type=int, nargs="*", default=[65536, 32768, 16384], help="agreement; none: skip")
    parser.add_argument("--runs", type=int, default=2, help="timed runs in fresh processes; 0: skip")
    return parser.parse_args()


def main() -> int:
    """Make the room and report; return 1 where a bar is missed."""
    args = parse()
    torch.set_num_threads(args.threads)
    cloud = room_of(args.cells, args.grid_size)
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder) / "room.npz"
        np.savez(room, coord=cloud.coord, color=cloud.color, normal=cloud.normal)
        return report(args, cloud, room)


def report(args: argparse.Namespace, cloud: Cloud, room: Path) -> int:
    """Print everything; 1 where a bar is missed."""
    name = (args.checkpoint or f"random {args.size}") + (f", gain {args.gain:g}" if args.gain != 1 else "")
    cells = _cells_of(cloud.coord, args.grid_size)
    print(
        f"{name}; {len(cloud)} points in {cells} cells of {args.grid_size} m; "
        f"{args.threads} threads, torch {torch.__version__}"
    )
    passed = True
    if args.runs:
        runs = [in_process(args, room) for _ in range(args.runs)]
        slowest, same = max(runs), len({run.digest for run in runs}) == 1
        passed = slowest.seconds < SECONDS and max(run.peak for run in runs) < GIB_BAR and same
        print(f"one pass         {slowest}   {slowest.shape} float32   same bytes: {same}")
        half = in_process(args, room, True, dtype="float16")
        print(f"normals, float16 {half}   normals estimated, features in float16")
        print(f"chunks of 16384  {in_process(args, room, chunk=16384, dtype='float16')}   features in float16")
        print_work(args, cloud, slowest.seconds)
    if args.chunks:
        passed = agreement(args, cloud) > COSINE and passed
    print(f"bars (under {SECONDS:.0f} s and {GIB_BAR:.0f} GiB, same bytes, medians > {COSINE}): {passed}")
    return 0 if passed else 1


def print_work(args: argparse.Namespace, cloud: Cloud, seconds: float) -> None:
    """Floating-point operations of the pass, and how near it comes to the machine's matrix product."""
    encoder = encoder_of(args)
    part = prepare(cloud.coord, cloud.color, cloud.normal, grid_size=args.grid_size)
    batch = dict(feat=part.feat, grid_coord=part.cells, coord=part.feat[:, :3].clone())
    batch["offset"] = torch.tensor([len(part.cells)])
    work, speed = count_gflop(encoder.backbone, batch), gemm_gflops()
    total = sum(work.values())
    print(
        f"work             {total:6.0f} GFLOP ({', '.join(f'{kind} {value:.0f}' for kind, value in work.items())}); "
        f"{total / seconds:.0f} GFLOP/s of {speed:.0f} in a matrix product"
    )


if __name__ == "__main__":
    raise SystemExit(main())

"""PTv3 Base of this checkout against that of another: forward of a crop, and of a whole room, in turn.

    git worktree add ../before 6199090
    python benchmarks/against.py --root ../before [--points 20000] [--cells 180112] [--repeats 5]

Each checkout runs in a process of its own, with the same weights, and takes its turn at every repeat. Printed are
medians of wall seconds, of the CPU seconds of all threads, and of the main thread's: on a busy machine the last is
nearest to what the wall clock would show on an idle one, since the threads that wait for work sleep. Returns 1 where
features differ by more than 1e-4 of their largest.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

CLOCKS = {"wall": time.perf_counter, "CPU": time.process_time, "main thread": time.thread_time}
# this file with another checkout's packages: the folder that a child works in goes before all others
CHILD = "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"


def serve(threads: int) -> None:
    """A checkout's side: for each number of points on the standard input, times and a sketch of the features."""
    import torch

    from benchmarks.ptv3_forward import BASE, room_cloud
    from lam3c_plugin.embedded.ptv3 import PointTransformerV3

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = PointTransformerV3(**{**BASE, "drop_path": 0.0, "shuffle_orders": False}).eval()
    batches = {}
    for points in map(int, sys.stdin):
        if points not in batches:
            batches[points] = room_cloud(points, "crop" if points < 100_000 else "room")
        before = [clock() for clock in CLOCKS.values()]
        with torch.inference_mode():
            feat = model(dict(batches[points])).feat.numpy()
        times = [clock() - start for clock, start in zip(CLOCKS.values(), before, strict=True)]
        sketch = feat[np.linspace(0, len(feat) - 1, 64).astype(int), :16]
        print(*(f"{number:.9g}" for number in (*times, *sketch.ravel())), flush=True)


def start(root: Path) -> subprocess.Popen[str]:
    """A process that serves the checkout at ``root``."""
    env = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", CHILD, __file__, "--serve", *sys.argv[1:]]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=root)


def compare(processes: dict[str, subprocess.Popen[str]], points: int, repeats: int) -> float:
    """Print the table of one size; return the largest difference over the largest feature."""
    numbers: dict[str, list[list[float]]] = {name: [] for name in processes}
    for _ in range(repeats + 1):
        for name, process in processes.items():
            process.stdin.write(f"{points}\n")
            process.stdin.flush()
            numbers[name].append([float(word) for word in process.stdout.readline().split()])
    ours, theirs = (np.array(numbers[name]) for name in ("ours", "theirs"))
    error = float(np.abs(ours - theirs)[0, len(CLOCKS) :].max() / np.abs(theirs[0, len(CLOCKS) :]).max())
    print(f"{points} points, {repeats} repeats; features differ by {error:.1e} of the largest")
    for place, clock in enumerate(CLOCKS):
        mine, other = (statistics.median(side[1:, place]) for side in (ours, theirs))  # the first is a warm-up
        print(f"  {clock:12} ours {mine:7.3f} s   theirs {other:7.3f} s   {other / mine:.2f}x", flush=True)
    return error


def main() -> int:
    """Ask both sides in turn and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="the other checkout")
    parser.add_argument("--points", type=int, default=20_000, help="of the crop; 0: skip")
    parser.add_argument("--cells", type=int, default=180_112, help="of the room; 0: skip")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.threads)
        return 0
    sides = {"ours": Path(__file__).resolve().parents[1], "theirs": args.root.resolve()}
    processes = {name: start(root) for name, root in sides.items()}
    worst = max(compare(processes, points, args.repeats) for points in (args.points, args.cells) if points)
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return int(worst > 1e-4)


if __name__ == "__main__":
    raise SystemExit(main())

"""PTv3 Base of this checkout against that of another: forward of a crop, and encode of a whole room, in turn.

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
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "CPU": time.process_time,
    "main thread": time.thread_time,
}


def served(cases: list[tuple[str, Callable[[], np.ndarray]]]) -> Iterator[str]:
    """Run the case that each line of the standard input names; yield its times, and a sketch of its result."""
    table = dict(cases)
    for line in sys.stdin:
        before = [clock() for clock in CLOCKS.values()]
        result = table[line.strip()]()
        times = [clock() - start for clock, start in zip(CLOCKS.values(), before, strict=True)]
        rows = np.linspace(0, len(result) - 1, 64).astype(int)
        yield " ".join(f"{number:.9g}" for number in (*times, *result[rows, :16].ravel()))


def serve(args: argparse.Namespace) -> None:
    """One checkout's side, in a process whose path begins with that checkout."""
    import torch
    from ptv3_forward import BASE, room_cloud

    try:
        from lam3c_plugin.embedded.ptv3 import PointTransformerV3
    except ImportError:  # before the engine was renamed
        from lam3c_plugin.standalone.ptv3 import PointTransformerV3

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = PointTransformerV3(**{**BASE, "drop_path": 0.0, "shuffle_orders": False}).eval()

    def forward(points: int) -> Callable[[], np.ndarray]:
        batch = room_cloud(points, "crop" if points < 100_000 else "room")

        def run() -> np.ndarray:
            with torch.inference_mode():
                return model(dict(batch)).feat.numpy()

        return run

    cases = [(str(points), forward(points)) for points in (args.points, args.cells) if points]
    for line in served(cases):
        print(line, flush=True)


def main() -> int:
    """Ask both sides in turn and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="the other checkout")
    parser.add_argument("--points", type=int, default=20_000, help="of the crop; 0: skip")
    parser.add_argument("--cells", type=int, default=180_112, help="of the room; 0: skip")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args)
        return 0
    if not args.root:
        parser.error("name the other checkout with --root")
    sides = {"ours": ROOT, "theirs": Path(args.root).resolve()}
    processes = {name: start(root) for name, root in sides.items()}
    worst = max(compare(processes, points, args.repeats) for points in (args.points, args.cells) if points)
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return int(worst > 1e-4)


def start(root: Path) -> subprocess.Popen[str]:
    """A process that serves the checkout at ``root``; this file and the clouds are always this checkout's."""
    code = "import runpy, sys; sys.argv[0] = sys.argv.pop(1); runpy.run_path(sys.argv[0], run_name='__main__')"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "benchmarks")])}
    env.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    command = [sys.executable, "-c", code, __file__, "--serve", *sys.argv[1:]]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=root)


def compare(processes: dict[str, subprocess.Popen[str]], points: int, repeats: int) -> float:
    """Print the table of one size; return the largest difference over the largest feature."""
    numbers: dict[str, list[list[float]]] = {name: [] for name in processes}
    for _ in range(repeats + 1):
        for name, process in processes.items():
            process.stdin.write(f"{points}\n")
            process.stdin.flush()
            numbers[name].append([float(word) for word in process.stdout.readline().split()])
    found = {name: np.array(rows[0][len(CLOCKS) :]) for name, rows in numbers.items()}
    error = float(np.abs(found["ours"] - found["theirs"]).max() / np.abs(found["theirs"]).max())
    print(f"{points} points, {repeats} repeats; features differ by {error:.1e} of the largest")
    for place, clock in enumerate(CLOCKS):
        # the first of each is a warm-up
        ours, theirs = (statistics.median(row[place] for row in numbers[name][1:]) for name in ("ours", "theirs"))
        print(f"  {clock:12} ours {ours:7.3f} s   theirs {theirs:7.3f} s   {theirs / ours:.2f}x", flush=True)
    return error


if __name__ == "__main__":
    raise SystemExit(main())

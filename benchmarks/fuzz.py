"""Nothing silent: mutated inputs through our readers, against judges; each read alike, noted, or refused in one line.

    python benchmarks/fuzz.py                       # 10,000 clouds, 1,000 videos, 1,000 lists of videos: minutes
    python benchmarks/fuzz.py --clouds 500 --videos 0 --seed 3

"same": what a judge reads. "noted": something else, and the reader's notes say so. "one line": refused, file and cure
named. The last two columns must be 0, or the exit code is 1. The judges are installed with `pip install -e '.[dev]'`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

# part: its module with run(count, seed) -> Tally, and how many cases it has by default
PARTS = {
    "clouds": ("benchmarks._fuzz_clouds", 10_000),
    "videos": ("benchmarks._fuzz_videos", 1_000),
    "lists": ("benchmarks._fuzz_manifests", 1_000),
}


def main(argv: list[str] | None = None) -> int:
    """Entry of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for part, (_, count) in PARTS.items():
        parser.add_argument(f"--{part}", type=int, default=count, metavar="N", help=f"cases (default {count}; 0: none)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    bad = 0
    for part, (module, _) in PARTS.items():
        count = getattr(args, part)
        if count > 0:
            start = time.perf_counter()
            tally = importlib.import_module(module).run(count, args.seed)
            print("\n".join(tally.lines()))
            print(f"{part}: {count} cases of seed {args.seed} in {time.perf_counter() - start:.0f} s")
            bad += tally.bad
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

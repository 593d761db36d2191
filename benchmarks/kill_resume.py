"""kill -9 at random moments of the real chain, then resume: is the output the one of an undisturbed run?

    python benchmarks/kill_resume.py tour.mp4 --into /scratch/kills --kills 30 -- --backend sfm --labels none
    python -m data_tools.synthetic.walkthrough.film --out walk --seconds 12 && \
        python benchmarks/kill_resume.py walk/walkthrough.mp4 --into kills -- --backend sfm --labels walk/labels.csv

Builds INTO/whole without disturbance and INTO/torn with kills, both with --deterministic, and compares every file
byte by byte (not the logs, locks and the report, which hold times). A kill hits the process that
plans, one of its workers, or all at once. Where the chain ended before a kill, some of what is done is taken away.
What is after ``--`` goes to build_roomtours.py. Exit code: 0 equal, 1 not, or no scene.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = (".jsonl", ".log", ".lock", ".holder")


def parse_args() -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what goes to the chain."""
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", help="what build_roomtours.py takes")
    parser.add_argument("--into", type=Path, required=True, help="folder for both data sets; emptied first")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(words[:cut]), words[cut + 1 :]


def start(videos: list[str], out: Path, more: list[str]) -> subprocess.Popen[bytes]:
    """The chain in a session of its own."""
    script = str(ROOT / "data_tools" / "build_roomtours.py")
    argv = [sys.executable, script, *videos, "--out", str(out), "--deterministic", "--keep-clouds"]
    argv += ["--no-report", "--quiet", *more]
    return subprocess.Popen(argv, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def children(pid: int) -> list[int]:
    """Child processes (Linux)."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def hit(process: subprocess.Popen[bytes], draw: random.Random) -> str:
    """Kill something of a run; returns what."""
    what = draw.choice(("planner", "worker", "all"))
    workers = children(process.pid)
    if what == "worker" and workers:
        os.kill(draw.choice(workers), signal.SIGKILL)
        time.sleep(draw.uniform(0, 2))  # the chain sees it and goes on: then the rest goes too
        process.kill()
    elif what == "all":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    return what


def take_away(out: Path, draw: random.Random) -> int:
    """Remove half of the scenes from some stage on, so that there is something to interrupt."""
    names = sorted(folder.name for folder in (out / "_work/clouds").glob("[!.]*"))
    chosen = draw.sample(names, (len(names) + 1) // 2)
    for name in chosen:
        for area in ("train", "_work/rejected", "_work/clouds")[: draw.randint(1, 3)]:
            shutil.rmtree(out / area / name, ignore_errors=True)
    return len(chosen)


def tree(out: Path) -> dict[str, bytes]:
    """All data files."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and not path.name.endswith(SKIPPED))
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def compare(whole: Path, torn: Path) -> int:
    """Print what differs; returns the exit code."""
    left, right = tree(whole), tree(torn)
    differing = sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))
    for name in differing:
        where = "only in torn" if name not in left else "only in whole" if name not in right else "differs"
        print(f"{where}: {name}")
    scenes = sum(name.endswith("/meta.json") and "_work" not in name for name in left)
    print(f"{len(left)} files, {scenes} scenes, {len(differing)} different")
    return 1 if differing or not scenes else 0


def main() -> int:
    """Both runs and the comparison; returns the exit code."""
    args, more = parse_args()
    draw = random.Random(args.seed)
    shutil.rmtree(args.into, ignore_errors=True)
    begun = time.monotonic()
    code = start(args.videos, args.into / "whole", more).wait()
    length = time.monotonic() - begun
    print(f"undisturbed: {length:.1f} s, exit code {code}", flush=True)
    kills = 0
    while kills < args.kills:
        process = start(args.videos, args.into / "torn", more)
        wait = draw.uniform(0.05, 1.1) * length
        try:
            process.wait(wait)
            print(f"ended before the kill; took {take_away(args.into / 'torn', draw)} scenes away", flush=True)
        except subprocess.TimeoutExpired:
            kills += 1
            print(f"kill {kills}: {hit(process, draw)} after {wait:.1f} s", flush=True)
    begun = time.monotonic()
    again = start(args.videos, args.into / "torn", more).wait()
    print(f"resumed: {time.monotonic() - begun:.1f} s, exit code {again}")
    return compare(args.into / "whole", args.into / "torn") or int(code != again)


if __name__ == "__main__":
    sys.exit(main())

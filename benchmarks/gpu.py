"""What a first quarter of an hour with a GPU has to bring home, in one command.

    python benchmarks/gpu.py --minutes 12 --out exp/gpu     every section, in order of worth
    python benchmarks/gpu.py --minutes 5 --only step,ptv3   some
    python benchmarks/gpu.py --dry                          tiny sizes, on a CPU too: does every line run

Each section is a process with its share of the time; what it leaves over goes to those behind it. After each one
``results.json`` and ``results.md`` are written, and ``log.txt`` has what all of them said: whatever fails or is
stopped costs its own section at most. spconv-triton's column needs that package (``pip install spconv-triton``).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
os.environ["LAM3C_ENGINE"] = "embedded"  # before the package is imported

WARMERS = 5  # processes that compile spconv-triton's kernels beside the first section
WARM_WAIT = 45.0  # seconds that what is timed waits for them


@dataclass(frozen=True)
class Section:
    """``function`` of a module measures; ``share`` of the time left among those to come; ``least`` seconds to begin."""

    title: str
    function: str
    share: float
    least: float = 10.0


SECTIONS = {
    "tests": Section("pytest -m gpu", "_gpu_parts:run_tests", 36),
    "step": Section("Base, 12 scenes of full views, bfloat16", "_gpu_step:step", 16),
    "ptv3": Section("PTv3 Base, 200,000 points, against spconv-triton", "_gpu_ptv3:ptv3", 16),
    "losses": Section("losses and neighbours against their plain forms", "_gpu_parts:compare_losses", 9),
    "memory": Section("memory of Base and Large by views and scenes", "_gpu_step:memory", 12),
    "loader": Section("the training loader", "_gpu_parts:loader", 9),
    "learning": Section("does it learn, in small", "_gpu_parts:learning", 14, least=90.0),
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12.0, help="for all sections (default: %(default)s)")
    parser.add_argument("--dry", action="store_true", help="tiny sizes; runs without a GPU")
    parser.add_argument("--only", help=f"sections, by commas, of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument(
        "--out", type=Path, default=Path("exp/gpu"), help="folder of the results (default: %(default)s)"
    )
    parser.add_argument("--commit", help="to name in the results where there is no .git folder")
    for name in ("--section", "--rows", "--seconds", "--warm"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.names = list(SECTIONS) if args.only is None else args.only.split(",")
    unknown = [name for name in args.names if name not in SECTIONS]
    if unknown:
        parser.error(f"--only: there is no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    if not args.minutes > 0:
        parser.error("--minutes must be above 0")
    return args


def header(args: argparse.Namespace) -> dict[str, Any]:
    """What was run where."""
    import torch
    from _harness import commit, machine

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {
        "machine": machine(device),
        "cores": os.cpu_count(),
        "CUDA": torch.version.cuda if device == "cuda" else "no GPU",
        "commit": args.commit or commit(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "minutes": args.minutes,
        "sizes": "tiny (--dry): the figures mean nothing" if args.dry else "real",
    }


def run_section(name: str, allowed: float, args: argparse.Namespace, folder: Path, log: TextIO) -> dict[str, Any]:
    """One section's process; what it found, and how it ended."""
    from _gpu_case import read_rows

    rows = folder / f"{name}.jsonl"
    log.write(f"\n===== {name}: {allowed:.0f} s\n")
    log.flush()
    words = ["--section", name, "--rows", str(rows), "--seconds", f"{allowed:.1f}", *(["--dry"] if args.dry else [])]
    start = time.monotonic()
    with process([sys.executable, __file__, *words], log) as child:
        try:
            code = child.wait(allowed)
            state = "done" if code == 0 else f"ended with exit code {code}; see log.txt"
        except subprocess.TimeoutExpired:
            state = "stopped: its time was up"
    found = read_rows(rows)
    return {
        "name": name,
        "title": SECTIONS[name].title,
        "state": state + (f", {len(found['failures'])} parts failed" if found["failures"] else ""),
        "seconds": time.monotonic() - start,
        "allowed": allowed,
        **found,
    }


@contextlib.contextmanager
def process(command: list[str], log: TextIO, **more: str) -> Iterator[subprocess.Popen]:
    """A child in a session of its own; at the end of the block all of it is gone."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **more}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    child = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield child
    finally:
        for number, grace in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(grace if child.poll() is None else 0)


@contextlib.contextmanager
def warmers(args: argparse.Namespace, log: TextIO) -> Iterator[list[subprocess.Popen]]:
    """The processes that compile for the comparison with spconv-triton, where it can be made."""
    import torch

    wanted = "ptv3" in args.names and not args.dry and torch.cuda.is_available()
    with contextlib.ExitStack() as stack:
        if not wanted or importlib.util.find_spec("spconv_triton") is None:
            yield []
            return
        command, threads = [sys.executable, __file__, "--warm"], {"OMP_NUM_THREADS": "1"}
        yield [stack.enter_context(process([*command, f"{n}/{WARMERS}"], log, **threads)) for n in range(WARMERS)]


def skipped(name: str, reason: str) -> dict[str, Any]:
    """A section that was not begun."""
    return {"name": name, "title": SECTIONS[name].title, "state": f"skipped: {reason}", "seconds": 0.0, "allowed": 0.0}


def write(results: dict[str, Any], out: Path) -> None:
    """Both files, whole or not at all."""
    from _gpu_case import markdown

    from data_tools.stages.files import write_json, write_text

    write_json(out / "results.json", results)
    write_text(out / "results.md", markdown(results))


def run_all(args: argparse.Namespace) -> int:
    """All sections asked for; 1 where one did not end well."""
    end = time.monotonic() + 60 * args.minutes
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"run": header(args), "sections": []}
    print("\n".join(f"{key}: {value}" for key, value in results["run"].items()), flush=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")
        log = stack.enter_context(open(args.out / "log.txt", "w", encoding="utf-8"))
        warming = stack.enter_context(warmers(args, log))
        for place, name in enumerate(args.names):
            section, coming = SECTIONS[name], args.names[place:]
            if name != "tests":  # nothing is timed beside them
                wait_for(warming, min(WARM_WAIT, 0.15 * (end - time.monotonic())))
                warming.clear()
            left = end - time.monotonic()
            allowed = left * section.share / sum(SECTIONS[other].share for other in coming)
            if allowed < section.least and not args.dry:
                found = skipped(name, f"{allowed:.0f} s are left for it, and it takes {section.least:.0f} s at least")
            elif left <= 0:
                found = skipped(name, "no time is left")
            else:
                found = run_section(name, allowed, args, folder, log)
            results["sections"].append(found)
            write(results, args.out)
            print(f"{name}: {found['state']} ({found['seconds']:.0f} of {found['allowed']:.0f} s)", flush=True)
    print(f"\n{(args.out / 'results.md').read_text(encoding='utf-8')}")
    return int(any(section["state"] != "done" for section in results["sections"]))


def wait_for(warming: list[subprocess.Popen], seconds: float) -> None:
    """Let the warmers finish; the others are ended, since they would share the GPU with what is timed."""
    deadline = time.monotonic() + seconds
    for child in warming:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
        print(f"spconv-triton's kernels: process {child.pid} {'done' if child.wait() == 0 else 'not done'}", flush=True)


def run_one(args: argparse.Namespace) -> int:
    """A section, in its own process."""
    import torch
    from _gpu_case import Case

    module, function = SECTIONS[args.section].function.split(":")
    deadline = time.monotonic() + float(args.seconds)
    case = Case("cuda" if torch.cuda.is_available() else "cpu", args.dry, deadline, Path(args.rows))
    getattr(importlib.import_module(f"benchmarks.{module}"), function)(case)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    args = parse(argv)
    if args.warm:
        from benchmarks._gpu_ptv3 import warm

        warm(*map(int, args.warm.split("/")))
        return 0
    return run_one(args) if args.section else run_all(args)


if __name__ == "__main__":
    sys.exit(main())

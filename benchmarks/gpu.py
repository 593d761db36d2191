"""What a first quarter of an hour with a GPU has to bring home, in one command.

    python benchmarks/gpu.py --minutes 12 --out exp/gpu     every section, in order of worth
    python benchmarks/gpu.py --minutes 5 --only step,ptv3   some
    python benchmarks/gpu.py --dry                          tiny sizes, on a CPU too: does every line run

Each section is a process with its share of the time; what it leaves over goes to those behind it. After each one
``results.json`` and ``results.md`` are written, and ``log.txt`` has what all of them said: whatever fails or is
stopped costs its own section at most. spconv-triton's column needs that package (``pip install spconv-triton``), which
compiles its kernels within the section: give it some minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[1]
if not __package__:
    sys.path[0] = str(ROOT)
os.environ["LAM3C_ENGINE"] = "embedded"  # before the package is imported

import torch

from benchmarks._gpu_case import Case, markdown, read_rows
from benchmarks._harness import commit, machine
from data_tools.stages.files import write_json, write_text


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
    for name in ("--section", "--rows", "--seconds"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.names = list(SECTIONS) if args.only is None else args.only.split(",")
    unknown = [name for name in args.names if name not in SECTIONS]
    if unknown:
        parser.error(f"--only: there is no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    if not args.minutes > 0:
        parser.error("--minutes must be above 0")
    return args


def device() -> str:
    """That the sections measure."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def header(args: argparse.Namespace) -> dict[str, Any]:
    """What was run where."""
    return {
        "machine": machine(device()),
        "cores": os.cpu_count(),
        "CUDA": torch.version.cuda if device() == "cuda" else "no GPU",
        "commit": args.commit or commit(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "minutes": args.minutes,
        "sizes": "tiny (--dry): the figures mean nothing" if args.dry else "real",
    }


def run_section(name: str, allowed: float, args: argparse.Namespace, folder: Path, log: TextIO) -> dict[str, Any]:
    """One section, in a process and session of its own of which nothing stays; what it found, and how it ended."""
    rows = folder / f"{name}.jsonl"
    log.write(f"\n===== {name}: {allowed:.0f} s\n")
    log.flush()
    words = ["--section", name, "--rows", str(rows), "--seconds", f"{allowed:.1f}", *(["--dry"] if args.dry else [])]
    start = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, __file__, *words], cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        code = child.wait(allowed)
        state = "done" if code == 0 else f"ended with exit code {code}; see log.txt"
    except subprocess.TimeoutExpired:
        state = "stopped: its time was up"
    finally:
        end_session(child)
    found = read_rows(rows)
    return {
        "name": name,
        "title": SECTIONS[name].title,
        "state": state + (f", {len(found['failures'])} parts failed" if found["failures"] else ""),
        "seconds": time.monotonic() - start,
        "allowed": allowed,
        **found,
    }


def end_session(child: subprocess.Popen) -> None:
    """End a child and all that it started."""
    for number, grace in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace if child.poll() is None else 0)


def skipped(name: str, reason: str) -> dict[str, Any]:
    """A section that was not begun."""
    return {"name": name, "title": SECTIONS[name].title, "state": f"skipped: {reason}", "seconds": 0.0, "allowed": 0.0}


def write(results: dict[str, Any], out: Path) -> None:
    """Both files, whole or not at all."""
    write_json(out / "results.json", results)
    write_text(out / "results.md", markdown(results))


def run_all(args: argparse.Namespace) -> int:
    """All sections asked for; 1 where one did not end well."""
    end = time.monotonic() + 60 * args.minutes
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"run": header(args), "sections": []}
    print("\n".join(f"{key}: {value}" for key, value in results["run"].items()), flush=True)
    with tempfile.TemporaryDirectory() as folder, open(args.out / "log.txt", "w", encoding="utf-8") as log:
        for place, name in enumerate(args.names):
            section, coming = SECTIONS[name], args.names[place:]
            left = end - time.monotonic()
            allowed = left * section.share / sum(SECTIONS[other].share for other in coming)
            if allowed < section.least and not args.dry:
                found = skipped(name, f"{allowed:.0f} s are left for it, and it takes {section.least:.0f} s at least")
            elif left <= 0:
                found = skipped(name, "no time is left")
            else:
                found = run_section(name, allowed, args, Path(folder), log)
            results["sections"].append(found)
            write(results, args.out)
            print(f"{name}: {found['state']} ({found['seconds']:.0f} of {found['allowed']:.0f} s)", flush=True)
    print(f"\n{(args.out / 'results.md').read_text(encoding='utf-8')}")
    return int(any(section["state"] != "done" for section in results["sections"]))


def run_one(args: argparse.Namespace) -> int:
    """A section, in its own process."""
    module, function = SECTIONS[args.section].function.split(":")
    deadline = time.monotonic() + float(args.seconds)
    case = Case(device(), args.dry, deadline, Path(args.rows))
    getattr(importlib.import_module(f"benchmarks.{module}"), function)(case)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    args = parse(argv)
    return run_one(args) if args.section else run_all(args)


if __name__ == "__main__":
    sys.exit(main())

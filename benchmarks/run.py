"""Runs every benchmark that fits this machine and writes what they print to benchmarks/RESULTS.md.

python benchmarks/run.py                      all
python benchmarks/run.py --only ptv3_forward  some; the sections of the others stay as they are
POINTCEPT_ROOT=~/Pointcept python benchmarks/run.py   also against the host's own code
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import torch

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks._harness import ROOT, commit
from data_tools.stages.files import write_text

FOLDER = Path(__file__).resolve().parent

#: script, arguments, what it needs beside torch ("host": Pointcept's code in POINTCEPT_ROOT)
BENCHMARKS: list[tuple[str, list[str], str]] = [
    ("ptv3_forward", ["--points", "20000", "--repeats", "5"], ""),
    ("clustering_loss", ["--sizes", "20000", "100000", "--repeats", "3"], ""),
    ("clustering_loss", ["--sizes", "20000", "--repeats", "3", "--from-embeddings"], ""),
    ("laplacian_loss", ["--sizes", "10000", "20000", "--repeats", "3"], ""),
    ("neighbours", [], ""),
    ("views", [], "host"),
    ("postprocess", ["--sizes", "1000000", "4000000"], ""),
    ("encode", [], ""),
    ("synchronisations", ["--sizes", "300"], ""),
    ("lam3c_step", ["--sizes", "3000", "6000", "--repeats", "3", "--clock", "cpu"], ""),
    ("lam3c_step", ["--sizes", "3000", "--repeats", "3", "--clock", "cpu", "--host"], "host"),
    ("scaling", ["--clock", "cpu"], ""),
]


def machine() -> str:
    """Processor or GPU, system, versions: one line each."""
    lines = [
        f"- {os.cpu_count()} CPU cores, {platform.machine()}, {platform.system()}",
        f"- Python {platform.python_version()}, PyTorch {torch.__version__}",
    ]
    if torch.cuda.is_available():
        lines.append(f"- {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    else:
        lines.append("- no GPU: the rows of a GPU are still open")
    return "\n".join(lines)


def earlier(path: Path) -> dict[str, str]:
    """The sections of a results file by title."""
    if not path.is_file():
        return {}
    parts = path.read_text(encoding="utf-8").split("\n## ")[1:]
    return {part.splitlines()[0]: f"## {part.rstrip()}\n" for part in parts}


def run(name: str, arguments: list[str], timeout: float) -> str:
    """Run one benchmark and return its section; a failure is reported in it."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    shown = f"python benchmarks/{name}.py {' '.join(arguments)}".strip()
    start = f"{datetime.date.today().isoformat()}, commit {commit()}, load before the start {os.getloadavg()[0]:.1f}"
    print(f"==> {shown}", flush=True)
    environment = {"LAM3C_ENGINE": "embedded", **os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        output = done.stdout.rstrip()
        if done.returncode:
            output += f"\nfailed ({done.returncode}): {done.stderr.strip().splitlines()[-1] if done.stderr else ''}"
    except subprocess.TimeoutExpired as error:
        output = f"{(error.stdout or b'').decode(errors='replace').rstrip()}\nstopped after {timeout:.0f} s"
    print(output, flush=True)
    seconds = time.perf_counter() - started
    return f"## {title(name, arguments)}\n\n`{shown}` ({start}; {seconds:.0f} s)\n\n```\n{output}\n```\n"


def title(name: str, arguments: list[str]) -> str:
    """Of a section: a script may run with several sets of arguments."""
    return " ".join([name, *arguments])


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=sorted({name for name, *_ in BENCHMARKS}), help="run just these")
    parser.add_argument(
        "--timeout", type=float, default=1800, help="seconds a benchmark may take (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=FOLDER / "RESULTS.md", help="default: benchmarks/RESULTS.md")
    args = parser.parse_args()
    known = earlier(args.out) if args.only else {}
    sections = []
    for name, arguments, needs in BENCHMARKS:
        head = title(name, arguments)
        if args.only and name not in args.only:
            sections += [known[head]] if head in known else []
        elif needs == "host" and not os.environ.get("POINTCEPT_ROOT"):
            sections.append(f"## {head}\n\nnot run: it compares with the host, and POINTCEPT_ROOT is not set\n")
        else:
            sections.append(run(name, arguments, args.timeout))
    intro = f"# Results\n\nWritten by `python benchmarks/run.py`; ratios are reference time over ours.\n\n{machine()}\n"
    write_text(args.out, "\n".join([intro, *sections]))
    print(f"written: {args.out}")
    return 1 if any("\nfailed (" in section for section in sections) else 0


if __name__ == "__main__":
    sys.exit(main())

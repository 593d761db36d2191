"""Does it learn? Pre-trains without labels on noisy made rooms, then probes on clean ones that were never seen.

Everything lies in the output folder: the rooms, a folder for each job, results.json. What is done is not done again:
after a kill, or with other numbers, the same command goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ["LAM3C_ENGINE"] = "embedded"  # before the package is imported

from data_tools.stages.locks import BusyError, run_lock
from experiments.learning import results
from experiments.learning.jobs import Runner, error_of, result_of
from experiments.learning.plan import Job, digests, make_jobs
from experiments.learning.presets import PRESETS, ROWS, Preset, changed
from lam3c_plugin.errors import ConfigError, Lam3cError, run_main

TIME_IS_UP = 75  # exit code: not all is done, run it again (EX_TEMPFAIL)
EXAMPLES = """examples:
  the tables and pictures of two CPU cores, in an hour:
    python experiments/learning/run.py --preset cpu --tables
  what it would do, and what of it is done:
    python experiments/learning/run.py --preset gpu --list
  two rows, in pieces of ten minutes:
    python experiments/learning/run.py --preset gpu --only clustering full --time-limit 10
  other numbers (those of the preset are in experiments/learning/presets.py):
    python experiments/learning/run.py --preset cpu --out exp/longer \\
        --set pretrain_steps=800 pretrain_options.model.momentum_base=0.95
  does it run at all (its figures mean nothing):
    python experiments/learning/run.py --preset smoke --out exp/smoke

exit code: 0 all done, 1 a job failed, 75 the time limit came first, 128 + n stopped by signal n
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=sorted(PRESETS), required=True, help="numbers for a machine")
    parser.add_argument("--out", type=Path, default=Path("exp/learning"), help="output folder (default: %(default)s)")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes at a time (default: the preset's)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of each (default: the preset's)")
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help=f"rows to run, of {', '.join(ROWS)}")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="numbers other than the preset's")
    parser.add_argument("--time-limit", type=float, metavar="MINUTES", help="stop and save then, to go on another time")
    parser.add_argument("--list", action="store_true", help="say which jobs there are and how they stand, and end")
    parser.add_argument("--tables", action="store_true", help="write tables.md and pictures beside the results as well")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is left to do, write the results and perhaps their tables; return the exit code.

    Raises:
        ConfigError: an option makes no sense, or another process works on the output folder.
    """
    args = parse_args(argv)
    preset = changed(PRESETS[args.preset], args.set)
    jobs = make_jobs(preset, args.only)
    out = args.out.resolve()
    if args.list:
        return show(jobs, out)
    slots = preset.jobs if args.jobs is None else args.jobs
    threads = preset.threads if args.threads is None else args.threads
    if min(slots, threads) < 1 or (args.time_limit is not None and args.time_limit <= 0):
        raise ConfigError("--jobs and --threads are at least 1, --time-limit is above 0")
    try:
        with run_lock(out / ".lock"):
            code = run(args, preset, jobs, out, slots, threads)
            if args.tables:
                from experiments.learning import report

                _say("written: " + ", ".join(map(str, report.write(out / results.FILE))))
    except BusyError as error:
        raise ConfigError(f"{str(error).split(';')[0]}; wait for it, or give another --out") from error
    except OSError as error:
        raise Lam3cError(f"cannot write {error.filename or out}: {error.strerror}; check --out") from error
    return code


def run(args: argparse.Namespace, preset: Preset, jobs: Sequence[Job], out: Path, slots: int, threads: int) -> int:
    """The jobs, then ``results.json``."""
    begun = time.monotonic()
    limit = None if args.time_limit is None else 60 * args.time_limit
    say = _say
    say(f"{len(jobs)} jobs ({_kinds(jobs)}) in {out}, {slots} at a time with {threads} threads each")
    runner = Runner(jobs, out, slots, threads, limit, say)
    try:
        outcome = runner.run()
    finally:
        results.add_run(out, time.monotonic() - begun)
    command = shlex.join(["python", "experiments/learning/run.py", *_words(args)])
    # of the whole preset: --only is a way to get there
    path = results.write(results.collect(preset, make_jobs(preset), out, command, outcome.failed), out)
    say(f"{len(outcome.done)} of {len(jobs)} jobs done, {len(outcome.failed)} failed: {path}")
    if outcome.signal:
        return 128 + outcome.signal
    return 1 if outcome.failed else TIME_IS_UP if outcome.stopped else 0


def show(jobs: Sequence[Job], out: Path) -> int:
    """A line a job: its state and name."""
    expected = digests(jobs)
    states = Counter()
    for job in jobs:
        found = result_of(out, job, expected[job.id])
        error = error_of(out, job, expected[job.id])
        state = "done" if found else "failed" if error else "open"
        states[state] += 1
        more = f"  {found['seconds']:.0f} s" if found else f"  {error}" if error else ""
        print(f"{state:<6}  {job.kind:<8}  {job.id}{more}")
    print(", ".join(f"{count} {state}" for state, count in states.items()))
    return 0


def _kinds(jobs: Sequence[Job]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in Counter(job.kind for job in jobs).items())


def _words(args: argparse.Namespace) -> list[str]:
    """The options that decide the results."""
    words = ["--preset", args.preset]
    return [*words, "--set", *args.set] if args.set else words


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever read along has gone; the work goes on
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(run_main(main))

"""Helpers of the chain's tests: make fake videos, run the command line over the fakes, read what came out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from data_tools.chain import options
from data_tools.chain.folders import all_rows
from data_tools.chain.items import Places
from data_tools.chain.journal import Journal
from tests.data_tools.chain import chain_fakes

ROOT = Path(__file__).resolve().parents[3]
USUAL = ("--labels", "none", "--keep-clouds")
NOT_DATA = (".jsonl", ".log", ".lock", ".holder")


def make_videos(folder: Path, **texts: str) -> Path:
    """A folder of fake videos: name -> text."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.mp4").write_text(text)
    return folder


def environment(**more: str) -> dict[str, str]:
    """Of a process that runs the chain."""
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return {**os.environ, "PYTHONPATH": str(ROOT), **threads, **more}


def command(*argv: object) -> list[str]:
    """The command line over the fakes."""
    return [sys.executable, "-m", "tests.data_tools.chain.chain_fakes", *map(str, argv), *USUAL]


def run_process(*argv: object, **more: str) -> subprocess.CompletedProcess:
    """The command line over the fakes in a process of its own."""
    return subprocess.run(command(*argv), capture_output=True, text=True, env=environment(**more), timeout=120)


def run_here(monkeypatch, *argv: object, keep: bool = True) -> int:
    """The command line over the fakes, stages inside this process (no workers); ``keep``: with ``--keep-clouds``."""
    from data_tools.chain import run

    monkeypatch.setattr(options, "usual_settings", chain_fakes.fake_settings)
    monkeypatch.setattr(run, "build_executor", lambda options, places, functions: InProcess(functions))
    usual = USUAL if keep else USUAL[:-1]
    return chain_fakes.main([*map(str, argv), *usual])


class InProcess:
    """An executor without processes, first come, first served."""

    rooms = 1

    def __init__(self, functions):
        self.functions, self.calls, self.stopped = functions, [], {}

    @property
    def is_busy(self):
        return bool(self.calls)

    @property
    def waiting(self):
        return len(self.calls)

    def submit(self, call):
        self.calls.append(call)

    def wait(self, seconds):
        from data_tools.chain.worker import execute

        return [execute(self.functions, self.calls.pop(0))] if self.calls else []

    def drop_waiting(self, stage=""):
        self.calls = [call for call in self.calls if stage and call.stage != stage]

    def close(self):
        pass


def tree(out: Path) -> dict[str, bytes]:
    """All data files below a folder; empty folders too, since nothing half may be left."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.is_dir():
            found[str(path.relative_to(out))] = b"folder"
        elif not path.name.endswith(NOT_DATA):
            found[str(path.relative_to(out))] = path.read_bytes()
    return found


def calls_made(folder: Path) -> Counter:
    """Counts of stage works by stage, and clear them."""
    names = [path.name.partition("~")[0] for path in folder.iterdir()]
    for path in list(folder.iterdir()):
        path.unlink()
    return Counter(names)


def states(out: Path) -> dict:
    """What records and logs say: (name, stage) -> row."""
    places = Places(out, out / "_work")
    return {(row.name, row.stage): row for row in all_rows(places, Journal(places.log))}

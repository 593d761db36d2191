"""What every benchmark needs: interleaved timing, peak memory of one call, and a table that says what was measured."""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks._process import MIB

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Result:
    """One size: seconds (median) and peak memory beyond what was there before the call, bytes."""

    size: int
    ours: float
    reference: float
    ours_peak: float
    reference_peak: float


def parser(description: str, sizes: list[int]) -> argparse.ArgumentParser:
    """Options all benchmarks share."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add_argument("--sizes", type=int, nargs="+", default=sizes, help="numbers of points")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    options.add_argument("--repeats", type=int, default=5, help="timed runs of each, interleaved; the median counts")
    options.add_argument("--tolerance", type=float, default=1.0, help="how much further results may lie apart")
    options.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves PyTorch's choice")
    return options


def machine(device: str) -> str:
    """One line: processor, threads, versions."""
    if device.startswith("cuda"):
        what = torch.cuda.get_device_name()
    else:
        what = f"{cpu_name()}, {torch.get_num_threads()} threads"
    return f"{what}; Python {platform.python_version()}, PyTorch {torch.__version__}"


def cpu_name() -> str:
    """The processor's."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "CPU"


def commit() -> str:
    """Of the working tree; "+" for one with changes."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return "unknown"
    return done.stdout.strip() or "unknown"


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds(function: Callable[[], object], device: str, clock: str = "wall") -> float:
    """One call; ``clock="cpu"`` counts CPU seconds of all threads, which neighbours on the machine disturb less."""
    read = time.process_time if clock == "cpu" else time.perf_counter
    _synchronise(device)
    begin = read()
    function()
    _synchronise(device)
    return read() - begin


def interleaved(functions: list[Callable[[], object]], device: str, repeats: int, clock: str = "wall") -> list[float]:
    """Median seconds of each, run in turn (a slow spell of the machine meets all).

    No warm-up of its own: every benchmark has called each once before, to compare the numbers.
    """
    times = [[seconds(function, device, clock) for function in functions] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def compare(size: int, ours: Callable[[], object], reference: Callable[[], object], args: argparse.Namespace) -> Result:
    """Time and memory of both at one size; ``args`` are those of `parser`."""
    times = interleaved([ours, reference], args.device, args.repeats)
    return Result(size, *times, *(peak_memory(run, args.device) for run in (ours, reference)))


def peak_memory(function: Callable[[], object], device: str) -> float:
    """Most memory in use during one call beyond what was in use before, bytes.

    CUDA: `max_memory_allocated`. CPU: resident set of the process, sampled every 0.2 ms by a thread, so that very short
    peaks may be missed; small blocks the allocator recycles do not count.
    """
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    _give_back_free_memory()
    with _ResidentSampler() as sampler:
        function()
    return sampler.peak - sampler.before


def _give_back_free_memory() -> None:
    """Ask glibc to return freed pages, so that growth is seen and not served from the heap."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        print("note: no glibc malloc_trim here; CPU peaks are lower bounds")


class _ResidentSampler:
    def __enter__(self) -> _ResidentSampler:
        self.before = self.peak = _resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, _resident())

    def _run(self) -> None:
        while not self._stop.wait(2e-4):
            self.peak = max(self.peak, _resident())


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def report(title: str, reference: str, results: list[Result], device: str) -> None:
    """Print the table and how time and memory grow with the size."""
    print(f"{title}\nreference: {reference}\nmachine: {machine(device)}")
    print(
        f"{'size':>9} {'ours':>10} {'reference':>10} {'ratio':>7} {'ours peak':>11} {'ref. peak':>11} {'ours/ref.':>9}"
    )
    for r in results:
        share = f"{r.ours_peak / r.reference_peak:9.3f}" if r.reference_peak > 0 else "        -"
        print(
            f"{r.size:>9} {r.ours * 1e3:>7.1f} ms {r.reference * 1e3:>7.1f} ms {r.reference / r.ours:>6.2f}x "
            f"{r.ours_peak / MIB:>7.0f} MiB {r.reference_peak / MIB:>7.0f} MiB {share}"
        )
    for small, large in pairwise(results):
        print(
            f"growth {small.size} -> {large.size} ({large.size / small.size:.2f}x points): "
            f"time {large.ours / small.ours:.2f}x, memory {large.ours_peak / max(small.ours_peak, 1):.2f}x"
        )
    print(flush=True)

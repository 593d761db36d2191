"""The local executor: worker processes on this machine, a slot each, GPU slots with a GPU each.

A worker keeps what it loaded (a model) from call to call. One that is killed, or whose GPU context is broken, takes its
call with it and nothing else: it is replaced, and the call is tried once more when nothing else runs, so that it has
the machine's memory to itself. A call that takes too long is ended with its worker.
"""

from __future__ import annotations

import heapq
import itertools
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from data_tools.chain.items import Call, Outcome, StageFunction
from data_tools.chain.trouble import Clock
from data_tools.chain.worker import serve
from data_tools.stages.gpu import GPU_SLOT, is_broken
from data_tools.stages.record import StageRecord

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Executor(Protocol):
    """Runs calls somewhere and says what came of them."""

    @property
    def is_busy(self) -> bool:
        """Whether calls are waiting or running."""
        ...

    @property
    def waiting(self) -> int:
        """How many calls have not begun."""
        ...

    @property
    def rooms(self) -> int:
        """How many scenes may be under way: for a GPU one in work and one that is ready, and one for a CPU worker."""
        ...

    def submit(self, call: Call) -> None:
        """Take a call."""
        ...

    def wait(self, seconds: float) -> list[Outcome]:
        """Outcomes that came in, waiting for the first at most so long."""
        ...

    def drop_waiting(self, stage: str = "") -> None:
        """Give up what has not begun, of one stage or of all."""
        ...

    @property
    def stopped(self) -> Mapping[str, str]:
        """What no worker is left for, and why; those calls are given up."""
        ...

    def close(self) -> None:
        """End all workers, whatever they do."""
        ...


@dataclass
class _Slot:
    """A place for one worker: its kind, environment, process and the call in hand."""

    name: str
    kind: str
    env: dict[str, str]
    process: BaseProcess | None = None
    pipe: Connection | None = None
    call: Call | None = None
    begun: float = 0.0
    alone: bool = False


@dataclass
class LocalExecutor:
    """Worker processes on this machine.

    Args:
        functions: stage name to function; module-level functions, since they are sent to the workers.
        jobs: CPU workers.
        gpu_slots: a GPU number for each GPU worker (a number may come twice).
        threads: of each worker's libraries.
        logs: folder for what workers print, or None to let it through.
        clock: says how long a call may take.
    """

    functions: Mapping[str, StageFunction]
    jobs: int = 1
    gpu_slots: Sequence[str] = ()
    threads: int = 1
    logs: Path | None = None
    clock: Clock = field(default_factory=Clock)
    stopped: dict[str, str] = field(default_factory=dict)
    _slots: list[_Slot] = field(default_factory=list)
    _queues: dict[str, list[tuple[int, int, Call]]] = field(default_factory=dict)
    _alone: list[Call] = field(default_factory=list)
    _retried: set[tuple[str, str]] = field(default_factory=set)
    _count: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        """Lay out the slots; processes start with their first call."""
        threads = {name: str(self.threads) for name in THREADS}
        # GPU workers alone see a GPU: a CPU stage that finds one would take its memory
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if self.gpu_slots else {}
        self._slots = [_Slot(f"cpu{i}", "cpu", threads | hidden) for i in range(max(1, self.jobs))]
        self._slots.append(_Slot("net0", "net", threads | hidden))
        for number, device in enumerate(self.gpu_slots):
            self._slots.append(
                _Slot(f"gpu{number}", "gpu", threads | {"CUDA_VISIBLE_DEVICES": device, GPU_SLOT: device})
            )
        self._queues = {slot.kind: [] for slot in self._slots}

    def _kind(self, call: Call) -> str:
        return call.kind if call.kind in self._queues else "cpu"

    @property
    def is_busy(self) -> bool:
        """Whether calls are waiting or running."""
        return bool(self._alone or self._running() or any(self._queues.values()))

    @property
    def waiting(self) -> int:
        """How many calls have not begun."""
        return len(self._alone) + sum(map(len, self._queues.values()))

    @property
    def rooms(self) -> int:
        """How many scenes may be under way."""
        return 2 * len(self.gpu_slots) + max(1, self.jobs)

    def _running(self) -> list[_Slot]:
        return [slot for slot in self._slots if slot.call is not None]

    def submit(self, call: Call) -> None:
        """Take a call; what is nearest to its end goes first, then first come, first served."""
        heapq.heappush(self._queues[self._kind(call)], (call.priority, next(self._count), call))

    def wait(self, seconds: float) -> list[Outcome]:
        """Start what can start, then take what has come in."""
        self._start()
        ends: dict[Any, _Slot] = {}
        for slot in self._running():
            assert slot.process is not None
            ends[slot.pipe] = ends[slot.process.sentinel] = slot
        if not ends:
            return []
        ready = {id(ends[end]): ends[end] for end in wait(list(ends), seconds)}
        return [*(self._take(slot) for slot in ready.values()), *self._overdue()]

    def _overdue(self) -> list[Outcome]:
        """End the workers whose call takes too long."""
        found = []
        for slot in self._running():
            assert slot.call is not None
            seconds = time.perf_counter() - slot.begun
            if seconds > self.clock.limit(slot.call.stage):
                found.append(too_long(slot.call, seconds))
                self._end(slot)
        return found

    def _end(self, slot: _Slot) -> None:
        """Kill a slot's worker; the next call gets a new one."""
        assert slot.process is not None
        slot.process.kill()
        slot.process.join(5)
        slot.process, slot.call, slot.alone = None, None, False

    def _start(self) -> None:
        if any(slot.alone for slot in self._running()):
            return
        for slot in self._slots:
            queue = self._queues[slot.kind]
            if slot.call is None and queue:
                self._give(slot, heapq.heappop(queue)[2])
        if self._alone and not self._running():
            call = self._alone.pop(0)
            slot = next(slot for slot in self._slots if slot.kind == self._kind(call))
            self._give(slot, call)
            slot.alone = True

    def _give(self, slot: _Slot, call: Call) -> None:
        if slot.process is None or not slot.process.is_alive():
            self._launch(slot)
        slot.call, slot.begun = call, time.perf_counter()
        assert slot.pipe is not None
        with suppress(OSError):  # it died just now: its sentinel says so in the next wait
            slot.pipe.send(call)

    def _launch(self, slot: _Slot) -> None:
        context = get_context("spawn")
        slot.pipe, theirs = context.Pipe()
        log = self.logs / f"worker-{slot.name}.log" if self.logs is not None else None
        slot.process = context.Process(target=serve, args=(theirs, dict(self.functions), log), name=slot.name)
        with _environment(slot.env):
            slot.process.start()
        theirs.close()

    def _take(self, slot: _Slot) -> Outcome:
        call, pipe, process = slot.call, slot.pipe, slot.process
        assert call is not None
        assert pipe is not None
        assert process is not None
        try:
            outcome = pipe.recv() if pipe.poll() else None
        except (EOFError, OSError):
            outcome = None
        seconds = time.perf_counter() - slot.begun
        if outcome is not None:
            self.clock.took(call.stage, seconds)
            slot.call, slot.alone = None, False
            if not has_broken_worker(outcome):
                return outcome
        self._end(slot)
        outcome = outcome or Outcome(call, None, call.folder, seconds)
        outcome.is_last = call.item in self._retried
        if not outcome.is_last:
            self._retried.add(call.item)
            self._alone.append(call)
        return outcome

    def drop_waiting(self, stage: str = "") -> None:
        """Give up what has not begun, of one stage or of all."""
        for kind, queue in self._queues.items():
            self._queues[kind] = [entry for entry in queue if stage and entry[2].stage != stage]
            heapq.heapify(self._queues[kind])
        self._alone = [call for call in self._alone if stage and call.stage != stage]

    def close(self) -> None:
        """End all workers, whatever they do."""
        for slot in self._slots:
            if slot.process is not None:
                self._end(slot)
            if slot.pipe is not None:
                slot.pipe.close()
                slot.pipe = None


def too_long(call: Call, seconds: float) -> Outcome:
    """The outcome of a call that was ended for its time; a download is asked again by the next run."""
    reason = f"{call.name}: took longer than {seconds / 60:.0f} min, its worker was ended; --retry-failed tries again"
    record = StageRecord(call.stage, call.name, "failed", reason, permanent=call.stage != "collect")
    return Outcome(call, record, call.folder, seconds)


def has_broken_worker(outcome: Outcome) -> bool:
    """Whether the worker's GPU context is broken: every later call of it would fail as this one did."""
    record = outcome.record
    return record is not None and record.status == "failed" and is_broken(record.reason)


@contextmanager
def _environment(values: Mapping[str, str]) -> Any:
    """Set variables for a process about to start; its libraries read them when they are loaded."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

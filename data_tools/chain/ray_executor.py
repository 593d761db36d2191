"""The Ray executor: the same calls on a cluster, GPU stages in actors that keep their model, the rest as tasks.

All machines must see OUT and WORK under the same paths (a shared file system). A call whose worker or node is lost is
given to another, once; every try builds a folder of its own, and only the process that started the chain gives a folder
its final name, for the one outcome it accepted. So a call that lives on on a node that was given up changes nothing.
Actors are hired as the cluster grows; where none is left and none comes, their calls are given up and the run ends.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from data_tools.chain.items import Call, Outcome, StageFunction
from data_tools.chain.local import has_broken_worker, too_long
from data_tools.chain.trouble import Clock
from data_tools.chain.worker import execute
from data_tools.stages.gpu import GPU_SLOT
from data_tools.stages.record import StageError

LOOK_SECONDS = 2.0  # between two looks at the cluster's resources
START_SECONDS = 600.0  # for the first worker of a kind: a cluster that scales itself starts machines
LOST_SECONDS = 20.0  # for another one, after the last was lost


class _Holder:
    """The actor: a process that keeps what its calls loaded."""

    def run(self, functions: Mapping[str, StageFunction], call: Call) -> Outcome:
        """One call."""
        return execute(functions, call)

    def ready(self) -> bool:
        """Answers when the actor has its place on a machine."""
        return True


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise StageError('--executor ray needs Ray: pip install "ray>=2.9", or use --executor local') from error
    return ray


class RayExecutor:
    """Runs calls on a Ray cluster.

    Args:
        functions: stage name to function.
        address: of a running cluster ("auto", "ray://host:10001", "host:6379"); empty starts one on this machine.
        jobs: CPUs of the cluster that is started here.
        gpus: most GPU actors; None: one for each GPU of the cluster.
        clock: says how long a call may take.
        patience: seconds to wait for a first worker, and for another one after the last was lost.

    Raises:
        StageError: Ray is not installed.
        ConnectionError: there is no cluster at the address.
    """

    def __init__(
        self,
        functions: Mapping[str, StageFunction],
        address: str = "",
        jobs: int = 1,
        gpus: int | None = None,
        clock: Clock | None = None,
        patience: tuple[float, float] = (START_SECONDS, LOST_SECONDS),
    ) -> None:
        self.ray = ray = _import_ray()
        self._environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}}
        self._is_own = not ray.is_initialized()
        if self._is_own:
            here = {} if address else {"num_cpus": max(1, jobs), "num_gpus": gpus, "include_dashboard": False}
            quiet = {"runtime_env": self._environment, "log_to_driver": False, "logging_level": logging.ERROR}
            try:
                ray.init(address=address or "local", **quiet, **here)
            except ConnectionError:
                raise
            except Exception as error:  # Ray has no class for a cluster that does not come up
                raise StageError(f"Ray cannot be started ({str(error).splitlines()[0]}); see its logs") from error
        self._functions = ray.put(dict(functions))
        self._most_gpus, self.clock, self.patience = gpus, clock or Clock(), patience
        self.stopped: dict[str, str] = {}
        self._queues: dict[str, list[tuple[int, int, Call]]] = {"cpu": [], "gpu": [], "net": []}
        self._running: dict[Any, tuple[Call, Any, float]] = {}  # by the result to come: call, actor, begin
        self._hired: dict[Any, tuple[str, Any]] = {}  # by the answer to come: kind, actor
        self._idle: dict[str, list[Any]] = {"gpu": [], "net": []}
        self._retried: set[tuple[str, str]] = set()
        self._count = itertools.count()
        self._cpus = self._gpus = 0
        self._has_gpus = bool(gpus)  # or had: what GPUs began is not gone on with on CPUs
        self._looked = -LOOK_SECONDS
        self._alive = dict.fromkeys(self._queues, time.monotonic())  # when a kind last had a worker
        self._had: set[str] = set()

    @property
    def is_busy(self) -> bool:
        """Whether calls are waiting or running."""
        return bool(self._running or self.waiting)

    @property
    def waiting(self) -> int:
        """How many calls have not begun."""
        return sum(map(len, self._queues.values()))

    @property
    def rooms(self) -> int:
        """How many scenes may be under way, on the cluster as it is now."""
        return 2 * max(1, self._gpus) + self._cpus

    def submit(self, call: Call) -> None:
        """Take a call; what is nearest to its end goes first. One that no worker is left for is given up."""
        if call.kind not in self.stopped:
            if not self._queues[call.kind] and not self._workers(call.kind):
                self._alive[call.kind] = time.monotonic()
            heapq.heappush(self._queues[call.kind], (call.priority, next(self._count), call))

    def wait(self, seconds: float) -> list[Outcome]:
        """Start what can start, then take what has come in."""
        self._look()
        self._start()
        if not self._running and not self._hired:
            time.sleep(min(seconds, 0.2) if self.waiting else 0.0)
            return []
        references = [*self._running, *self._hired]
        ready, _ = self.ray.wait(references, num_returns=len(references), timeout=min(seconds, 0.2))
        if not ready and seconds > 0.2:
            ready, _ = self.ray.wait(references, num_returns=1, timeout=seconds)
        for reference in [reference for reference in ready if reference in self._hired]:
            self._welcome(reference)
        return [*(self._take(reference) for reference in ready if reference in self._running), *self._overdue()]

    def _workers(self, kind: str) -> int:
        """Actors of a kind that are there; of the CPU tasks, the CPUs."""
        if kind == "cpu":
            return self._cpus
        busy = sum(call.kind == kind for call, actor, _ in self._running.values() if actor is not None)
        return busy + len(self._idle[kind])

    def _wanted(self, kind: str) -> int:
        """Actors of a kind to have: one more than there are GPUs, for a cluster grows when something waits for it."""
        if kind == "net":
            return 1
        if self._has_gpus:
            return self._gpus + 1 if self._most_gpus is None else min(self._gpus + 1, self._most_gpus)
        return max(1, self._cpus // 2) if self._cpus else 0  # their model is what takes long to load

    def _look(self) -> None:
        """Ask the cluster what it has now, hire what it has room for, give up what nobody is left for."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked, resources = now, self.ray.cluster_resources()
        self._cpus, self._gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        self._has_gpus = self._has_gpus or self._gpus > 0
        for kind, queue in self._queues.items():
            if self._workers(kind):
                self._alive[kind] = now
                self._had.add(kind)
            if kind != "cpu" and queue:
                coming = sum(hired == kind for hired, _ in self._hired.values())
                for _ in range(self._wanted(kind) - self._workers(kind) - coming):
                    self._hire(kind)
            is_stuck = any(call.kind == kind for call, _, _ in self._running.values()) and not self._workers(kind)
            if (queue or is_stuck) and now - self._alive[kind] > self.patience[kind in self._had]:
                self._give_up(kind)

    @property
    def _share(self) -> int:
        """CPUs that an actor holds: one, where tasks have another."""
        return min(1, self._cpus // 2)

    def _hire(self, kind: str) -> None:
        """An actor; it is given calls as soon as it has its place."""
        share: dict[str, Any] = {"num_cpus": self._share if kind == "gpu" else 0}
        environment = self._environment
        if kind == "gpu" and self._has_gpus:
            share["num_gpus"] = 1
            environment = {"env_vars": {**environment["env_vars"], GPU_SLOT: "of Ray"}}
        actor = self.ray.remote(max_restarts=0, max_task_retries=0, runtime_env=environment, **share)(_Holder).remote()
        self._hired[actor.ready.remote()] = (kind, actor)

    def _welcome(self, reference: Any) -> None:
        kind, actor = self._hired.pop(reference)
        try:
            self.ray.get(reference)
        except self.ray.exceptions.RayError:
            return  # lost on its way: another is hired at the next look
        self._idle[kind].append(actor)

    def _give_up(self, kind: str) -> None:
        """Nobody is left to do these calls, and nobody comes: the next run has them."""
        what = {"cpu": "tasks on CPUs", "gpu": "the actors of GPU stages", "net": "downloads"}[kind]
        self.stopped[kind] = f"the cluster has had no place for {what} for a while; start it again when it has"
        self._queues[kind].clear()
        for reference in [found for found, (call, _, _) in self._running.items() if call.kind == kind]:
            self._end(reference)
        for reference in [found for found, (hired, _) in self._hired.items() if hired == kind]:
            self.ray.kill(self._hired.pop(reference)[1])

    def _start(self) -> None:
        tasks = sum(actor is None for _, actor, _ in self._running.values())
        free = self._cpus - self._share * self._workers("gpu")
        while self._queues["cpu"] and tasks <= free:  # one waits for a place: that is what makes a cluster grow
            call = heapq.heappop(self._queues["cpu"])[2]
            task = self.ray.remote(num_cpus=1, max_retries=0, runtime_env=self._environment)(execute)
            self._running[task.remote(self._functions, call)] = (call, None, time.perf_counter())
            tasks += 1
        for kind, idle in self._idle.items():
            while self._queues[kind] and idle:
                call, actor = heapq.heappop(self._queues[kind])[2], idle.pop()
                self._running[actor.run.remote(self._functions, call)] = (call, actor, time.perf_counter())

    def _take(self, reference: Any) -> Outcome:
        call, actor, begun = self._running.pop(reference)
        seconds = time.perf_counter() - begun
        try:
            outcome = self.ray.get(reference)
        except self.ray.exceptions.RayError:
            outcome = Outcome(call, None, call.folder, seconds)
        else:
            self.clock.took(call.stage, seconds)
            if not has_broken_worker(outcome):
                if actor is not None:
                    self._idle[call.kind].append(actor)
                return outcome
            if actor is not None:
                self.ray.kill(actor)
        outcome.is_last = call.item in self._retried
        if not outcome.is_last:
            self._retried.add(call.item)
            self.submit(call)
        return outcome

    def _overdue(self) -> list[Outcome]:
        """End what takes too long."""
        found = []
        for reference, (call, _, begun) in list(self._running.items()):
            seconds = time.perf_counter() - begun
            if seconds > self.clock.limit(call.stage):
                found.append(too_long(call, seconds))
                self._end(reference)
        return found

    def _end(self, reference: Any) -> None:
        """End a running call with its worker."""
        _, actor, _ = self._running.pop(reference)
        if actor is None:
            self.ray.cancel(reference, force=True)
        else:
            self.ray.kill(actor)

    def drop_waiting(self, stage: str = "") -> None:
        """Give up what has not begun, of one stage or of all."""
        for kind, queue in self._queues.items():
            self._queues[kind] = [entry for entry in queue if stage and entry[2].stage != stage]
            heapq.heapify(self._queues[kind])

    def close(self) -> None:
        """End all workers, whatever they do; a cluster that was there before stays."""
        for reference in list(self._running):
            self._end(reference)
        for actor in [*itertools.chain(*self._idle.values()), *(actor for _, actor in self._hired.values())]:
            self.ray.kill(actor)
        if self._is_own:
            self.ray.shutdown()

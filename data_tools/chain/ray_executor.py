"""The Ray executor: the same calls on a cluster, GPU stages in actors that keep their model, the rest as tasks.

All machines must see OUT and WORK under the same paths (a shared file system). Ray tries a call again when its worker
or node is lost; every try builds a folder of its own, and only the process that started the chain gives a folder its
final name, for the one outcome it accepted. So a call that lives on on a node that was given up changes nothing.
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
from data_tools.chain.worker import execute
from data_tools.stages.record import StageError

MAX_RETRIES = 1  # by Ray; the chain submits a lost call once more itself


class _Holder:
    """The actor: a process that keeps what its calls loaded."""

    def run(self, functions: Mapping[str, StageFunction], call: Call) -> Outcome:
        """One call."""
        return execute(functions, call)


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
        gpus: GPU actors; None: one for each GPU of the cluster.

    Raises:
        StageError: Ray is not installed.
        ConnectionError: there is no cluster at the address.
    """

    def __init__(
        self, functions: Mapping[str, StageFunction], address: str = "", jobs: int = 1, gpus: int | None = None
    ) -> None:
        self.ray = ray = _import_ray()
        environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}}
        self._is_own = not ray.is_initialized()
        if self._is_own:
            here = {} if address else {"num_cpus": max(1, jobs), "num_gpus": gpus, "include_dashboard": False}
            ray.init(
                address=address or "local",
                runtime_env=environment,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **here,
            )
        resources = ray.cluster_resources()
        cpus, found = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
        self._slots = cpus + 1
        self._functions = ray.put(dict(functions))
        self._task = ray.remote(num_cpus=1, max_retries=MAX_RETRIES, runtime_env=environment)(execute)
        self._gpus = found if gpus is None else min(gpus, found)
        # without GPUs their stages run in actors all the same: the model is what takes long to load
        self._wanted = {"gpu": self._gpus or max(1, cpus // 2), "net": 1}
        self._environment = environment
        self._actors: dict[str, list[Any]] = {"gpu": [], "net": []}
        self._idle: dict[str, list[Any]] = {"gpu": [], "net": []}
        self._queues: dict[str, list[tuple[int, int, Call]]] = {"cpu": [], "gpu": [], "net": []}
        self._running: dict[Any, tuple[Call, Any, float]] = {}
        self._retried: set[tuple[str, str]] = set()
        self._count = itertools.count()

    def _hire(self, kind: str) -> None:
        """Actors of a kind, with the first call that wants one."""
        share = {"num_gpus": 1} if kind == "gpu" and self._gpus else {}
        actor = self.ray.remote(
            num_cpus=0, max_restarts=-1, max_task_retries=MAX_RETRIES, runtime_env=self._environment, **share
        )
        self._actors[kind] = [actor(_Holder).remote() for _ in range(self._wanted[kind])]
        self._idle[kind] = list(self._actors[kind])

    @property
    def is_busy(self) -> bool:
        """Whether calls are waiting or running."""
        return bool(self._running or any(self._queues.values()))

    @property
    def waiting(self) -> int:
        """Calls that have not begun."""
        return sum(map(len, self._queues.values()))

    def submit(self, call: Call) -> None:
        """Take a call; what is nearest to its end goes first."""
        if call.kind in self._actors and not self._actors[call.kind]:
            self._hire(call.kind)
        heapq.heappush(self._queues[call.kind], (call.priority, next(self._count), call))

    def _start(self) -> None:
        tasks = sum(actor is None for _, actor, _ in self._running.values())
        while self._queues["cpu"] and tasks < self._slots:
            call = heapq.heappop(self._queues["cpu"])[2]
            self._running[self._task.remote(self._functions, call)] = (call, None, time.perf_counter())
            tasks += 1
        for kind, idle in self._idle.items():
            while self._queues[kind] and idle:
                call, actor = heapq.heappop(self._queues[kind])[2], idle.pop()
                self._running[actor.run.remote(self._functions, call)] = (call, actor, time.perf_counter())

    def wait(self, seconds: float) -> list[Outcome]:
        """Start what can start, then take what has come in."""
        self._start()
        if not self._running:
            return []
        ready, _ = self.ray.wait(list(self._running), num_returns=len(self._running), timeout=min(seconds, 0.2))
        if not ready and seconds > 0.2:
            ready, _ = self.ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [self._take(reference) for reference in ready]

    def _take(self, reference: Any) -> Outcome:
        call, actor, begun = self._running.pop(reference)
        if actor is not None:
            self._idle[call.kind].append(actor)
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayError:
            is_last = call.item in self._retried
            if not is_last:
                self._retried.add(call.item)
                self.submit(call)
            return Outcome(call, None, call.folder, time.perf_counter() - begun, is_last=is_last)

    def drop_waiting(self) -> int:
        """Give up what has not begun; returns how many are running."""
        for queue in self._queues.values():
            queue.clear()
        return len(self._running)

    def close(self) -> None:
        """End all workers, whatever they do; a cluster that was there before stays."""
        for reference, (_, actor, _) in self._running.items():
            if actor is None:
                self.ray.cancel(reference, force=True)
        if self._is_own:
            self.ray.shutdown()

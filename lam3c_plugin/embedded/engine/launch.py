"""Start the ranks of a run: here, by spawning processes on this machine, or under torchrun."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from multiprocessing import connection
from multiprocessing.process import parent_process
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lam3c_plugin.embedded import comm
from lam3c_plugin.embedded.engine.signals import StopSignals
from lam3c_plugin.errors import ConfigError, Interrupted, Lam3cError

TIMEOUT = timedelta(minutes=60)
_GRACE = 20.0  # seconds that ranks have to end by themselves once one of them failed


def under_torchrun() -> bool:
    """True in a process that torchrun started."""
    return all(key in os.environ for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"))


def launch(
    main: Callable[[Any], None],
    cfg: Any,
    num_gpus: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
) -> None:
    """Run ``main(cfg)`` on every rank.

    Args:
        main: importable by name (ranks are new processes).
        cfg: picklable; ``device`` decides between NCCL on GPUs and gloo on the CPU.
        num_gpus: ranks on this machine (processes, on the CPU).
        num_machines: machines of the run.
        machine_rank: this machine's number, from 0.
        dist_url: address of the first machine; ``"auto"`` finds a free port on a single one.

    Raises:
        Lam3cError: what a rank raised first, or what makes the launch impossible.
    """
    if under_torchrun():
        local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        first, world = int(os.environ["RANK"]) - local_rank, int(os.environ["WORLD_SIZE"])
        _with_group(main, cfg, "env://", world, local_size, first, local_rank)
        return
    _check(cfg, num_gpus, num_machines, machine_rank, dist_url)
    if num_gpus * num_machines == 1:
        main(cfg)
        return
    if dist_url == "auto":
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    world, first = num_gpus * num_machines, num_gpus * machine_rank
    _spawn(partial(_with_group, main, cfg, dist_url, world, num_gpus, first), num_gpus)


def _check(cfg: Any, num_gpus: int, num_machines: int, machine_rank: int, dist_url: str) -> None:
    if num_gpus < 1 or num_machines < 1:
        raise ConfigError(f"--num-gpus {num_gpus} and --num-machines {num_machines} must be at least 1")
    if not 0 <= machine_rank < num_machines:
        raise ConfigError(f"--machine-rank {machine_rank} must be one of 0 … {num_machines - 1}")
    if num_machines > 1 and dist_url == "auto":
        raise ConfigError("several machines need --dist-url tcp://<first machine>:<port>")
    seen = torch.cuda.device_count() if cfg.get("device", "auto") != "cpu" else 0
    if 0 < seen < num_gpus:
        raise ConfigError(f"--num-gpus {num_gpus}, but this machine has {seen}; device='cpu' starts CPU processes")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _with_group(
    main: Callable[[Any], None], cfg: Any, url: str, world: int, local_size: int, first: int, local_rank: int
) -> None:
    """Join the process group of ``world`` ranks, those of this machine numbered from ``first``; run, leave."""
    on_gpu = cfg.get("device", "auto") != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    comm.set_local_rank(local_rank, local_size)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", url, timeout=TIMEOUT, world_size=world, rank=first + local_rank
    )
    if hasattr(cfg, "import_custom_modules"):
        cfg.import_custom_modules()
    comm.synchronize()
    main(cfg)
    comm.synchronize()  # gloo of torch 2.5 can hang in destroy when another rank has left already
    dist.destroy_process_group()  # not after an error: the other ranks may wait in a collective for ever


def _spawn(run: Callable[[int], None], count: int) -> None:
    """Start this machine's ranks, pass stop signals on to them, and raise what the first failing one raised."""
    context = mp.get_context("spawn")
    reports = context.SimpleQueue()
    with StopSignals(announce=False) as stop:
        ranks = [context.Process(target=_rank_main, args=(run, local, reports)) for local in range(count)]
        for rank in ranks:
            rank.start()
        _watch(ranks, stop)
    if not reports.empty():
        kind, message, code = reports.get()
        if kind is Interrupted:
            raise Interrupted(message, 128 + stop.received if stop.received else code)
        raise kind(message) if issubclass(kind, Lam3cError) else RuntimeError(f"a rank failed:\n{message}")
    if stop.received:
        raise Interrupted("before training began; nothing to save", 128 + stop.received)
    failed = [rank.exitcode for rank in ranks if rank.exitcode]
    if failed:
        raise Lam3cError(f"a rank died with exit code {failed[0]}" + (" (out of memory?)" if failed[0] == -9 else ""))


def _watch(ranks: list[Any], stop: StopSignals) -> None:
    """Wait for all ranks; forward a stop signal once; after a failure give the others a while, then end them."""
    forwarded, deadline = False, None
    while alive := [rank for rank in ranks if rank.is_alive()]:
        connection.wait([rank.sentinel for rank in alive], timeout=0.2)
        if stop.received and not forwarded:
            forwarded = True
            for rank in alive:
                os.kill(rank.pid, stop.received)
        if deadline is None and any(rank.exitcode for rank in ranks):
            deadline = time.monotonic() + (600.0 if stop.received else _GRACE)
        if deadline is not None and time.monotonic() > deadline:
            for rank in alive:
                rank.kill()
    for rank in ranks:
        rank.join()


def _rank_main(run: Callable[[int], None], local_rank: int, reports: Any) -> None:
    """A spawned rank: everything it raises goes to the launcher, which shows the first."""
    _stop_with_parent()
    try:
        run(local_rank)
    except Lam3cError as error:
        if os.environ.get("LAM3C_DEBUG", "") not in ("", "0"):
            traceback.print_exc()
        reports.put((type(error), str(error), error.exit_code))
        _exit_soon(error.exit_code)
    except BaseException:
        reports.put((RuntimeError, traceback.format_exc(), 1))
        _exit_soon(1)


def _exit_soon(code: int) -> None:
    """Exit in good order, but not wait for ever for a collective that the other ranks will not join."""
    timer = threading.Timer(5.0, os._exit, (code,))
    timer.daemon = True
    timer.start()
    sys.exit(code)


def _stop_with_parent() -> None:
    """A rank whose launcher was killed saves and ends, too."""
    parent = parent_process()
    if parent is None:
        return

    def wait() -> None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()

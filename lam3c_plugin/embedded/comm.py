"""Who am I among the ranks: thin helpers over ``torch.distributed`` that also answer without a process group."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist

_local: dict[str, int] = {}


def initialised() -> bool:
    """True inside a process group."""
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of ranks; 1 without a process group."""
    return dist.get_world_size() if initialised() else 1


def get_rank() -> int:
    """This process' rank; 0 without a process group."""
    return dist.get_rank() if initialised() else 0


def set_local_rank(rank: int, size: int) -> None:
    """Tell which of the ``size`` processes of this machine this one is (called by the launcher)."""
    _local.update(rank=rank, size=size)


def get_local_rank() -> int:
    """This process' number on its machine; 0 without a process group."""
    return _local.get("rank", int(os.environ.get("LOCAL_RANK", 0))) if initialised() else 0


def get_local_size() -> int:
    """Number of ranks on this machine; 1 without a process group."""
    return _local.get("size", int(os.environ.get("LOCAL_WORLD_SIZE", 1))) if initialised() else 1


def is_main_process() -> bool:
    """True on rank 0."""
    return get_rank() == 0


def synchronize() -> None:
    """Wait until every rank is here."""
    if get_world_size() == 1:
        return
    if dist.get_backend() == "nccl":
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()


def all_gather(data: Any) -> list[Any]:
    """The picklable ``data`` of every rank, in rank order."""
    world_size = get_world_size()
    if world_size == 1:
        return [data]
    gathered: list[Any] = [None] * world_size
    dist.all_gather_object(gathered, data)
    return gathered

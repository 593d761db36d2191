"""Run a function on two gloo ranks and hand back what each returned."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def _worker(rank: int, size: int, folder: str, function: Callable, args: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    result = function(rank, *args)
    Path(folder, f"result{rank}").write_bytes(pickle.dumps(result))
    dist.barrier()  # gloo of torch 2.5 can hang in destroy when the other rank has left already
    dist.destroy_process_group()


def run_ranks(function: Callable, *args: Any, folder: Path, size: int = 2) -> list[Any]:
    """``[function(0, *args), function(1, *args)]``, each on its own rank; ``function`` lives at the top of a module."""
    mp.spawn(_worker, (size, str(folder), function, args), nprocs=size)
    return [pickle.loads(Path(folder, f"result{rank}").read_bytes()) for rank in range(size)]

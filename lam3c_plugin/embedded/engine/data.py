"""Loading batches whose content depends on (seed, epoch, sample) only: not on workers, ranks or interruptions."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from lam3c_plugin.embedded import comm
from lam3c_plugin.embedded.logger import get_root_logger
from lam3c_plugin.errors import ConfigError, DataError, Lam3cError
from lam3c_plugin.ops.rng import derive_seed, seeded

_COLLATE = 1  # the purpose of a seed, beside the samples' own
_AHEAD = 2  # batches that PyTorch lets each worker have ready
SHARED = "/dev/shm"  # where they wait


class EpochBatchSampler:
    """Batches of (epoch, sample index) keys in an order given by (seed, epoch).

    All ranks cut their share out of the same global batch, so that two ranks with half the batch each see what one
    rank with the whole batch sees. The epoch travels with the index: persistent workers need no other message.

    Args:
        size: samples in the dataset.
        batch_size: samples of a batch over all ranks.
        rank: which share is this process'.
        world_size: number of shares.
        seed: of the run.
        drop_last: leave out a last, smaller batch; otherwise it is filled up to a multiple of the ranks.
    """

    def __init__(self, size: int, batch_size: int, rank: int, world_size: int, seed: int, drop_last: bool) -> None:
        self.size, self.batch_size, self.rank, self.world_size = size, batch_size, rank, world_size
        self.seed, self.drop_last = seed, drop_last
        self.epoch, self.start = 0, 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch, and the batch of it to begin with (for a resume in mid-epoch)."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        full, rest = divmod(self.size, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch
        generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
        order = torch.randperm(self.size, generator=generator).tolist()
        for number in range(self.start, len(self)):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            share = -(-len(batch) // self.world_size)
            picks = range(self.rank * share, (self.rank + 1) * share)
            yield [(epoch, batch[pick % len(batch)]) for pick in picks]


class _Samples(list):
    """Samples of a batch with the seed for collating them."""

    seed: int = 0


class SeededDataset(Dataset):
    """A dataset whose samples are drawn under a seed of their own; the generators of the process stay untouched.

    Attributes it does not have are the wrapped dataset's.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "dataset":  # asked by pickle before there is anything to pass on
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> Any:
        if not isinstance(key, tuple):
            return self.dataset[key]
        epoch, index = key
        with seeded(derive_seed(self.seed, epoch, index)):
            return self.dataset[index]

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> _Samples:
        samples = _Samples(self[key] for key in keys)
        samples.seed = derive_seed(self.seed, *keys[0], _COLLATE)
        return samples


def _collate(samples: _Samples, collate_fn: Callable[[list[Any]], Any]) -> Any:
    """Collate under the batch's seed: mixing samples (``mix_prob``) draws random numbers, too."""
    with seeded(samples.seed):
        return collate_fn(list(samples))


def defer_signals(worker_id: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM reach workers as well: they go on serving until the trainer ends them.

    A worker that has had a SIGTERM gives up after half a minute, or at the next one.
    """
    del worker_id

    def give_up_later(number: int, frame: Any) -> None:
        del frame
        signal.signal(number, signal.SIG_DFL)
        signal.alarm(30)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, give_up_later)


def shut_down(loader: DataLoader) -> None:
    """End a loader's persistent workers now, and not when the interpreter gets round to it."""
    stop = getattr(getattr(loader, "_iterator", None), "_shutdown_workers", None)
    if stop is not None:
        stop()


def build_loader(
    dataset: Any,
    *,
    batch_size: int,
    rank: int,
    world_size: int,
    seed: int,
    num_workers: int,
    collate_fn: Callable[[list[Any]], Any],
    pin_memory: bool,
) -> DataLoader:
    """The training loader; ``loader.batch_sampler.set_epoch`` chooses epoch and first batch.

    The last, smaller batch of an epoch is dropped when there is a full one (as the host does).

    Raises:
        DataError: the dataset is empty.
    """
    size = len(dataset)
    if size == 0:
        raise DataError(f"the training dataset ({type(dataset).__name__}) has no samples; check data.train")
    if size < batch_size and rank == 0:
        get_root_logger().warning(f"batch_size={batch_size} is more than the {size} samples: every batch has {size}")
    samples = SeededDataset(dataset, seed)
    check_shared_memory(samples, min(batch_size, size) // world_size, num_workers)
    sampler = EpochBatchSampler(size, batch_size, rank, world_size, seed, drop_last=size > batch_size)
    return DataLoader(
        samples,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=partial(_collate, collate_fn=collate_fn),
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        # a spawned rank would spawn its workers too, seconds and a copy of the data each
        multiprocessing_context="fork" if num_workers > 0 and sys.platform == "linux" else None,
        worker_init_fn=defer_signals,
        # The loader draws a number for its workers; from a generator of its own it leaves the model's alone.
        generator=torch.Generator().manual_seed(derive_seed(seed)),
    )


def check_shared_memory(samples: SeededDataset, batch: int, workers: int) -> None:
    """Say before the first step when the workers' batches do not fit into /dev/shm; full, it ends a run in mid-epoch.

    A sample is drawn to see its size (under its own seed, so nothing else changes) where 1 GiB a worker is not free.

    Args:
        samples: of this rank.
        batch: samples of this rank in a batch.
        workers: of this rank.

    Raises:
        ConfigError: one batch from every worker does not fit; where only ``_AHEAD`` from each do not, it is a warning.
    """
    ranks = comm.get_local_size()
    if not workers or not os.path.isdir(SHARED):
        return
    free = shutil.disk_usage(SHARED).free
    if free >= ranks * workers * 2**30:
        return
    need = ranks * workers * _AHEAD * max(1, batch) * _tensor_bytes(samples[0, 0])
    if free >= need:
        return
    line = (
        f"{SHARED} has {free / 1e9:.1f} GB free, {ranks * workers} workers need some {need / 1e9:.1f} GB: give a "
        f"container --shm-size={need / 1e9 * 1.2:.0f}g, or take fewer workers (num_worker)"
    )
    if free * _AHEAD < need:
        raise ConfigError(line)
    if comm.is_main_process():
        get_root_logger().warning(line)


def _tensor_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.nbytes
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return sum(map(_tensor_bytes, parts))


def batches(loader: DataLoader) -> Iterator[Any]:
    """The loader's batches; a project error from a worker comes as the one line it was there."""
    try:
        yield from loader
    except Lam3cError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        raise type(error)(lines[-1].split(": ", 1)[-1]) from None


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Give the batch with its tensors on ``device``."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }

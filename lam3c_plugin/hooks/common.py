"""What several hooks need: the bare model, the optimiser step, states of the random number generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def bare_model(trainer: Any) -> Any:
    """The trainer's model without its DistributedDataParallel wrapper."""
    return getattr(trainer.model, "module", trainer.model)


def steps_done(trainer: Any) -> int:
    """Optimiser steps done since the run began; gradient accumulation does not advance it, a resume continues it."""
    return int(trainer.scheduler.last_epoch)


def total_steps(trainer: Any) -> int:
    """Optimiser steps of the whole run."""
    return int(trainer.cfg.scheduler.total_steps)


def rng_state() -> dict[str, Any]:
    """States of Python's, NumPy's, torch's and this GPU's generators; ``torch.load`` reads them back by default.

    Cheap enough for every step: some kilobytes, and no GPU synchronisation (CUDA keeps seed and offset on the host).
    """
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put the generators back to what `rng_state` saw, for instance to replay a dumped batch."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def fixed_rng(seed: int = 0) -> Iterator[None]:
    """Seed every generator inside the block and leave no trace outside of it."""
    state = rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        yield
    finally:
        set_rng_state(state)

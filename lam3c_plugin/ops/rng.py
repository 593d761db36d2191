"""Random numbers of a run: seeds by what they are for, and the states a checkpoint keeps."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def derive_seed(*parts: int) -> int:
    """A seed in [0, 2**32) for a purpose, e.g. (run seed, epoch, sample index); neighbours are unrelated."""
    return int(np.random.SeedSequence([int(part) & 0xFFFFFFFFFFFFFFFF for part in parts]).generate_state(1)[0])


def random_seed() -> int:
    """A fresh seed from the operating system, for runs that name none."""
    return int.from_bytes(os.urandom(4), "big") >> 1


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int, gpu: bool = False) -> Iterator[None]:
    """Run a block with the CPU generators seeded, with ``gpu`` also this GPU's, and leave all as they were."""
    state = get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    (torch.manual_seed if gpu else torch.default_generator.manual_seed)(seed)
    try:
        yield
    finally:
        set_rng_state(state)


def get_rng_state() -> dict[str, Any]:
    """This process' generators as tensors and numbers only, so that a checkpoint loads with ``weights_only=True``.

    Cheap enough for every step: some kilobytes, and no GPU synchronisation (CUDA keeps seed and offset on the host).
    """
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": (version, torch.tensor(words, dtype=torch.int64), gauss),
        "numpy": (
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() and torch.cuda.is_initialized() else None,
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put the generators where `get_rng_state` found them."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if state.get("cuda") is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())

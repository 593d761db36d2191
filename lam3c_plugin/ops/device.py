"""Host and device: what a batch's sizes cost a GPU to read back, and how to read them once.

A GPU works through a queue. Whatever needs a number of it on the host (a size, a flag, ``nonzero``), and every copy
from ordinary host memory, waits until the queue is empty, and the GPU then waits for the host. These helpers keep
what the host knows beside the tensor, send without waiting, and find rows whose number is known already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

AMP_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}  # what a config's ``amp_dtype`` may say
_HOST = "_lam3c_on_host"
_pretended = False


@contextmanager
def pretend_gpu() -> Iterator[None]:
    """Inside the block CPU tensors take the way of a GPU's: for counting synchronisations, and for tests."""
    global _pretended
    before, _pretended = _pretended, True
    try:
        yield
    finally:
        _pretended = before


def reads_wait(tensor: Tensor) -> bool:
    """Whether reading a value of ``tensor`` makes the host wait: not on a CPU."""
    return _pretended or tensor.device.type != "cpu"


def to_device(
    values: Sequence[int] | Sequence[Sequence[int]], device: torch.device | str, dtype: torch.dtype = torch.int64
) -> Tensor:
    """A tensor of host numbers on ``device``; a GPU gets them from pinned memory, without a wait."""
    tensor = torch.tensor(values, dtype=dtype)
    if torch.device(device).type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def remember(tensor: Tensor, values: Sequence[int]) -> Tensor:
    """Note that ``tensor`` (n,) holds ``values``, for `host_values`; return the tensor. A change in place forgets."""
    if not tensor.is_inference():  # those keep no version, so a change could not be seen
        setattr(tensor, _HOST, (tensor._version, tuple(values)))
    return tensor


def host_values(tensor: Tensor) -> list[int]:
    """The numbers of ``tensor`` (n,), as ``tolist()``; read back only the first time."""
    known = getattr(tensor, _HOST, None)
    if known is not None and known[0] == tensor._version:
        return list(known[1])
    values = tensor.tolist()
    remember(tensor, values)
    return values


def offset_on_device(ends: Sequence[int], device: torch.device | str) -> Tensor:
    """Running sums (B,) known on the host as an int64 tensor that remembers them."""
    return remember(to_device(ends, device), ends)


def true_rows(mask: Tensor, count: int) -> Tensor:
    """``mask.nonzero().squeeze(1)`` of a mask (N,) with ``count`` rows that are True; no read-back."""
    if not reads_wait(mask):
        return mask.nonzero().squeeze(1)
    return torch.searchsorted(mask.cumsum(0), torch.arange(1, count + 1, device=mask.device))

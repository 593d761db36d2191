"""Counts the places of a computation where the host would wait for a GPU, on a machine without one.

On a CPU nothing waits, but the operators are the same: reading a number, ``nonzero``, a choice by mask, a copy of host
numbers to the device without pinned memory. Two modes of PyTorch see every one of them, and the stack says who called.
What only the stack can tell stays out: copies whose direction the device alone decides (``tensor.to(device)``).
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parent.parent

#: operators that read a size or a value back, whatever their arguments
READS = {
    "_local_scalar_dense",
    "nonzero",
    "_unique",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "masked_select",
    "bincount",
    "equal",
}
#: lines whose tensors live on the host on every machine
ON_HOST = ("torch.randperm(len(names)).tolist()", 'torch.linspace(0, last, sum(depths), device="cpu")')


class Waits:
    """Context: ``count`` maps (place, what) to how often; ``place`` is ``file:line function: source``.

    Args:
        roots: folders whose lines are named; the innermost line of one of them is the place.
    """

    def __init__(self, *roots: Path | str) -> None:
        self.roots = tuple(str(Path(root).resolve()) for root in (ROOT, *roots))
        self.count: Counter[tuple[str, str]] = Counter()
        self._modes = (_Functions(self), _Operators(self))

    def __enter__(self) -> Waits:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    @property
    def total(self) -> int:
        """All waits."""
        return sum(self.count.values())

    def by_file(self) -> Counter[str]:
        """Waits of each file."""
        files: Counter[str] = Counter()
        for (place, _), number in self.count.items():
            files[place.partition(":")[0]] += number
        return files

    def note(self, what: str) -> None:
        """One more, called from the innermost line of the roots."""
        for frame in reversed(traceback.extract_stack()[:-2]):
            root = next((root for root in self.roots if frame.filename.startswith(root)), None)
            if root is None or frame.filename == __file__ or "site-packages" in frame.filename:
                continue  # an environment may lie inside the repository
            if any(line in (frame.line or "") for line in ON_HOST):
                return
            name = Path(frame.filename).relative_to(root).as_posix()
            self.count[f"{name}:{frame.lineno} {frame.name}: {frame.line}", what] += 1
            return
        self.count["elsewhere", what] += 1


class _Functions(TorchFunctionMode):
    """What no operator shows: lists and arrays made of tensors, and tensors made of lists."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits
        self._fetched: Tensor | None = None  # a CPU's ``cpu()`` gives the same tensor, so ``cpu().numpy()`` counts once

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.tolist, Tensor.numpy, Tensor.cpu):
            if args[0] is not self._fetched:
                self.waits.note(f"{func.__name__}()")
            self._fetched = args[0] if func is Tensor.cpu else None
        elif func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor):
            if kwargs.get("device") is not None:
                self.waits.note("host numbers to the device")
        elif func is Tensor.new_tensor and not isinstance(args[1], Tensor):
            self.waits.note("host numbers to the device")
        elif func in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, list) for part in index):
                self.waits.note("index by a list")
        return func(*args, **kwargs)


class _Operators(TorchDispatchMode):
    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in READS:
            self.waits.note("value read" if name == "_local_scalar_dense" else name)
        elif name in ("index", "index_put", "index_put_", "_unsafe_index"):
            if any(isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8) for part in args[1]):
                self.waits.note("index by a mask")
        elif name == "repeat_interleave" and kwargs.get("output_size") is None:
            self.waits.note("repeat_interleave without output_size")
        return func(*args, **kwargs)

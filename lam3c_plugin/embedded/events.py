"""Scalars of the running epoch, by name, and the writer that sends them to TensorBoard."""

from __future__ import annotations

import os
from typing import Any


class AverageMeter:
    """Last value (``val``) and running average (``avg``) of a scalar."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.val, self.avg, self.total, self.count = 0.0, 0.0, 0.0, 0

    def update(self, val: float, n: int = 1) -> None:
        """Add a value that stands for ``n`` samples."""
        self.val = val
        self.total += val * n
        self.count += n
        self.avg = self.total / self.count


class EventStorage:
    """The scalars that model and hooks leave for each other during an epoch."""

    def __init__(self) -> None:
        self._history: dict[str, AverageMeter] = {}

    def put_scalar(self, name: str, value: float, n: int = 1, smoothing_hint: bool = True) -> None:
        """Add a value to the history of ``name``; ``smoothing_hint`` is accepted for the host's sake."""
        del smoothing_hint
        self._history.setdefault(name, AverageMeter()).update(float(value), n)

    def history(self, name: str) -> AverageMeter:
        """The history of ``name``; KeyError if nothing was put there."""
        if name not in self._history:
            raise KeyError(f"no scalar {name!r} was stored; there are {sorted(self._history)}")
        return self._history[name]

    def histories(self) -> dict[str, AverageMeter]:
        """All histories by name."""
        return self._history

    def reset_histories(self) -> None:
        """Start the averages anew (at an epoch's end)."""
        for meter in self._history.values():
            meter.reset()

    def __enter__(self) -> EventStorage:
        return self

    def __exit__(self, *exc: Any) -> None:
        return None


class EventWriter:
    """TensorBoard's writer, whose file begins with the first step: a start that fails leaves none.

    It has the methods of ``SummaryWriter``. What is added before `open` is kept and written then.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        from torch.utils.tensorboard import SummaryWriter  # late: it takes a second to import

        self._make, self._folder = SummaryWriter, str(folder)
        self._writer: Any = None
        self._kept: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def open(self) -> None:
        """Make the file, if it is not there yet."""
        if self._writer is not None:
            return
        self._writer = self._make(self._folder)
        for name, args, kwargs in self._kept:
            getattr(self._writer, name)(*args, **kwargs)
        self._kept.clear()

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._writer is not None:
            self._writer.close()

    def flush(self) -> None:
        """Write out what was added, if there is a file."""
        if self._writer is not None:
            self._writer.flush()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._writer is not None:
            return getattr(self._writer, name)
        return lambda *args, **kwargs: self._kept.append((name, args, kwargs))

"""What an online probe may be told, and how much of a run's time it may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

from lam3c_plugin.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class ProbeSettings:
    """Settings of `lam3c_plugin.hooks.online_probe.hook.OnlineProbe`.

    Args:
        data_root: folder of labelled scenes, with ``train`` and ``val`` (or scenes alone: a fifth of them validates);
            ``None``: no labels.
        labels: label file in a scene folder without ``.npy``; ``None``: ``segment``, or ``segment20`` where that is
            missing.
        ignore: labels that do not count, beside those below 0.
        interval: a probe is due every so many optimiser steps; ``None``: not by steps.
        every_epochs: a probe is due after every so many epochs; 0: not by epochs. Neither: the hook is off.
        part: "teacher" or "student", of a model that has both.
        max_share: part of the run's time that may go into probes, in (0, 1]; 1: no limit.
        train_scenes: at most so many scenes to learn from, the same for a seed.
        val_scenes: at most so many to be scored on, or, without labels, to be looked at.
        max_points: cells of a scene that are kept, those nearest to its middle.
        train_points: labelled cells of a scene that the probes learn from.
        val_points: those that they are scored on.
        grid_size: metres; ``None``: the training transform's.
        neighbours: that vote.
        decay: of the linear probe's weights.
        seed: of every draw.

    Raises:
        ConfigError: a value makes no sense.
    """

    data_root: str | None = None
    labels: str | None = None
    ignore: Sequence[int] = ()
    interval: int | None = None
    every_epochs: int = 1
    part: str = "teacher"
    max_share: float = 0.02
    train_scenes: int = 16
    val_scenes: int = 8
    max_points: int = 60_000
    train_points: int = 1024
    val_points: int = 2048
    grid_size: float | None = None
    neighbours: int = 20
    decay: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("train_scenes", "val_scenes", "max_points", "train_points", "val_points", "neighbours")
        for name in (*counts, *(["interval"] if self.interval is not None else [])):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"OnlineProbe: {name}={value!r} must be a whole number of at least 1")
        if self.every_epochs < 0:
            raise ConfigError(f"OnlineProbe: every_epochs={self.every_epochs!r} must be at least 0")
        if not 0 < self.max_share <= 1:
            raise ConfigError(f"OnlineProbe: max_share={self.max_share!r} must be in (0, 1], 0.02 for 2 % of the time")
        if self.part not in ("teacher", "student"):
            raise ConfigError(f"OnlineProbe: part={self.part!r} must be teacher or student")
        if self.grid_size is not None and not self.grid_size > 0:
            raise ConfigError(f"OnlineProbe: grid_size={self.grid_size!r} must be metres above 0, or None")

    @property
    def is_on(self) -> bool:
        """Whether a probe is ever due."""
        return bool(self.interval or self.every_epochs)

    def changed(self, changes: Mapping[str, Any]) -> ProbeSettings:
        """These settings with others in their place.

        Raises:
            ConfigError: there is no such setting, or its value makes no sense.
        """
        known = [item.name for item in fields(self)]
        if not isinstance(changes, Mapping):
            raise ConfigError(f"probe={changes!r} must be a dict of OnlineProbe's settings: dict(data_root=..., ...)")
        for name in changes:
            if name not in known:
                raise ConfigError(f"OnlineProbe has no setting {name!r}{did_you_mean(str(name), known)}")
        return replace(self, **changes)


class TimeBudget:
    """Says whether there is time for a probe: probes and their preparation together stay under a share of the run.

    Args:
        max_share: of the seconds since `start`.
        clock: seconds.
    """

    def __init__(self, max_share: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self.max_share, self._clock = max_share, clock
        self.spent = 0.0
        self.cost: float | None = None  # seconds the next probe will take; None: unknown
        self.start()

    def start(self) -> None:
        """The run begins."""
        self._since = self._clock()

    @property
    def elapsed(self) -> float:
        """Seconds of the run so far, probes included."""
        return self._clock() - self._since

    @property
    def share(self) -> float:
        """What probes have taken of the run so far."""
        return self.spent / max(self.elapsed, 1e-9)

    @contextmanager
    def spending(self) -> Iterator[list[float]]:
        """Count the block's seconds, and leave them in the list, also when the block fails."""
        since, seconds = self._clock(), [0.0]
        try:
            yield seconds
        finally:
            seconds[0] = self._clock() - since
            self.spent += seconds[0]

    def wait(self) -> float:
        """Seconds until the next probe fits in; 0: it does now."""
        if self.max_share >= 1:
            return 0.0
        cost = self.cost or 0.0
        return max(0.0, (self.spent + cost) / self.max_share - cost - self.elapsed)

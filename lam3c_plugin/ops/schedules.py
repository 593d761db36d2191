"""Values that change over a run, as pure functions of the optimiser step."""

from __future__ import annotations

import math
from dataclasses import dataclass


def half_cosine(first: float, last: float, progress: float) -> float:
    """Half a cosine from ``first`` at ``progress`` 0 to exactly ``last`` at 1."""
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class WarmupCosine:
    """Linear from ``start`` to ``base`` over ``warmup_ratio`` of the run, then cosine from ``base`` to ``final``.

    The first step has ``start`` and the last one ``final`` exactly (with ``warmup_ratio=1`` the last one has ``base``).
    It holds no state: a resumed run continues where it stopped because the optimiser step says so, and gradient
    accumulation does not advance it.
    """

    start: float
    base: float
    final: float
    warmup_ratio: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.warmup_ratio <= 1.0:
            raise ValueError(f"warmup_ratio must lie in [0, 1], got {self.warmup_ratio}")

    def at(self, step: int, total_steps: int) -> float:
        """Value at optimiser step ``step`` (0-based) of ``total_steps``."""
        last = max(total_steps, 1) - 1
        step = min(max(step, 0), last)
        warmup = int(total_steps * self.warmup_ratio)
        if step < warmup:
            return self.start + (self.base - self.start) * step / max(warmup - 1, 1)
        if last <= warmup:
            return self.final
        return half_cosine(self.base, self.final, (step - warmup) / (last - warmup))

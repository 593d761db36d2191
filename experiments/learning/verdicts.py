"""Paired differences over seeds, and the words that the preregistration allows for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

DRAWS = 10_000
BETTER, NOT_SHOWN, WORSE = "better", "not shown", "worse"
Figures = Mapping[int, float]  # by seed


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % percentile bootstrap interval over the seeds."""

    value: float
    low: float
    high: float

    def verdict(self, zero: float = 0.0) -> str:
        """The word for it, by where the interval lies of ``zero``."""
        if self.low > zero:
            return BETTER
        return WORSE if self.high < zero else NOT_SHOWN

    def __str__(self) -> str:
        """``+1.2 [+0.3, +2.0]``."""
        return f"{self.value:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


@dataclass(frozen=True)
class Difference:
    """One row's figures less another's, by the seeds that both have.

    Attributes:
        by_seed: the differences.
        interval: of their mean.
        above: how many are above 0.
        below: how many are below 0.
        p: two-sided sign test, ties left out.
    """

    by_seed: dict[int, float]
    interval: Interval
    above: int
    below: int
    p: float

    @classmethod
    def of(cls, left: Figures, right: Figures) -> Difference | None:
        """``left`` - ``right``; None with fewer than two common seeds."""
        seeds = sorted(set(left) & set(right))
        if len(seeds) < 2:
            return None
        apart = np.array([left[seed] - right[seed] for seed in seeds])
        above, below = int((apart > 0).sum()), int((apart < 0).sum())
        by_seed = dict(zip(seeds, apart.tolist(), strict=True))
        return cls(
            by_seed, bootstrap(len(seeds), lambda rows: apart[rows].mean(-1)), above, below, sign_test(above, below)
        )


def bootstrap(count: int, statistic: Callable[[np.ndarray], np.ndarray]) -> Interval:
    """A statistic and its interval.

    Args:
        count: of the things drawn from.
        statistic: of rows (draws, count) of indices, gives (draws,).
    """
    rows = np.random.default_rng(0).integers(count, size=(DRAWS, count))
    value = float(statistic(np.arange(count)[None])[0])
    low, high = np.nanpercentile(statistic(rows), (2.5, 97.5))
    return Interval(value, float(low), float(high))


def sign_test(above: int, below: int) -> float:
    """Two-sided p of so many signs of either kind, if both were equally likely."""
    count = above + below
    tail = sum(math.comb(count, i) for i in range(min(above, below) + 1)) / 2**count
    return min(1.0, 2 * tail)


def spread_ratio(left: Figures, right: Figures) -> Interval | None:
    """Standard deviation of ``left`` over that of ``right``, over the common seeds; None with fewer than three."""
    seeds = sorted(set(left) & set(right))
    if len(seeds) < 3:
        return None
    both = np.array([[figures[seed] for seed in seeds] for figures in (left, right)])

    def ratio(rows: np.ndarray) -> np.ndarray:
        a, b = both[0][rows].std(-1, ddof=1), both[1][rows].std(-1, ddof=1)
        return np.divide(a, b, out=np.full_like(a, np.nan), where=b > 0)

    return bootstrap(len(seeds), ratio)

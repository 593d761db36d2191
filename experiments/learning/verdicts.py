"""The claims, and what the numbers say to each. No figure here is written by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

from experiments.learning.scores import Results, Score, row_title

YES, NO, NOT_RUN = "yes", "no", "not run"
UNDECIDED = "undecided"  # of "not below": below, but within twice the spread
MARGIN = 10.0  # points of mIoU that pre-training has to add to random features

#: row, the row that it is not to be below, claim; left out where one of them was not run
COMPARISONS = (
    ("laplacian", "clustering", "The Laplacian term alone: not below clustering only"),
    ("consistency", "clustering", "The consistency term alone: not below clustering only"),
    ("full", "released", "The exact distances: full LAM3C not below that with the released distance mistakes"),
)


@dataclass(frozen=True)
class Verdict:
    """A claim, the answer to it, and the figures it rests on."""

    claim: str
    answer: str
    figures: str


@dataclass(frozen=True)
class Gain:
    """How far ``left`` is above ``right``, in points.

    ``spread`` is that of the difference of two independent rows, the root of the sum of their squares: it is at least
    as large as either, so "beyond twice the spread" asks more than with either alone. NaN where a row has one seed.
    """

    left: Score
    right: Score

    @property
    def mean(self) -> float:
        """Difference of the means."""
        return self.left.mean - self.right.mean

    @property
    def spread(self) -> float:
        """Spread of the difference."""
        return math.hypot(self.left.spread, self.right.spread)

    @property
    def is_within(self) -> bool:
        """Whether the difference, of either sign, is no more than twice its spread; not where there is no spread."""
        return abs(self.mean) <= 2 * self.spread

    @property
    def seeds_above(self) -> str:
        """How many seeds of both have ``left`` above: ``2 of 3``."""
        both = sorted(set(self.left.by_seed) & set(self.right.by_seed))
        return f"{sum(self.left.by_seed[s] > self.right.by_seed[s] for s in both)} of {len(both)}"

    def __str__(self) -> str:
        """Both scores, the difference and what it is measured against."""
        text = f"{self.left} against {self.right}: {self.mean:+.1f}"
        if math.isnan(self.spread):
            return f"{text} (a single seed has no spread)"
        return f"{text}, twice the spread is {2 * self.spread:.1f}, above in {self.seeds_above} seeds"


def verdicts(results: Results) -> list[Verdict]:
    """A verdict for every claim."""
    found = [_above_random(results), _few_labels(results), _full_against_clustering(results), _more_rooms(results)]
    rows = results.rows()
    for row, other, claim in COMPARISONS:
        if {row, other} <= set(rows):
            found.append(_not_below(results, row, other, claim))
    return found


def _missing(claim: str, *parts: tuple[str, Score | None]) -> Verdict | None:
    lacking = [name for name, value in parts if value is None]
    return Verdict(claim, NOT_RUN, f"no score of {' and '.join(lacking)}") if lacking else None


def _above_random(results: Results) -> Verdict:
    claim = f"Linear probe: full LAM3C at least {MARGIN:.0f} mIoU above random features, beyond twice the spread"
    full, random = results.probe("full"), results.probe("random")
    if full is None or random is None:
        return _missing(claim, (row_title("full"), full), (row_title("random"), random))
    gain = Gain(full, random)
    return _beyond_spread(claim, gain, gain.mean >= MARGIN)


def _few_labels(results: Results) -> Verdict:
    claim = "Fine-tuning with 10 % of the labels: full LAM3C above training from scratch, beyond twice the spread"
    full, scratch = results.finetune("full", 0.1), results.finetune("scratch", 0.1)
    if full is None or scratch is None:
        return _missing(claim, (row_title("full"), full), (row_title("scratch"), scratch))
    gain = Gain(full, scratch)
    return _beyond_spread(claim, gain, gain.mean > 0)


def _beyond_spread(claim: str, gain: Gain, holds: bool) -> Verdict:
    """The verdict on a gain that has to ``hold`` and to be beyond twice the spread."""
    if math.isnan(gain.spread) and holds:
        return Verdict(claim, NOT_RUN, str(gain))  # the means alone would say yes: no answer without a spread
    return Verdict(claim, YES if holds and gain.mean > 2 * gain.spread else NO, str(gain))


def _full_against_clustering(results: Results) -> Verdict:
    claim = "With the noise nearest to pi3's: full LAM3C not below clustering only"
    return _not_below(results, "full", "clustering", claim, noise="pi3")


def _not_below(results: Results, row: str, other: str, claim: str, noise: str | None = None) -> Verdict:
    """Whether the linear probe of ``row`` is not below that of ``other``."""
    score, against = results.probe(row, noise=noise), results.probe(other, noise=noise)
    if score is None or against is None:
        return _missing(claim, (row_title(row), score), (row_title(other), against))
    gain = Gain(score, against)
    return Verdict(claim, _answer(gain), f"{gain}{_within(gain)}")


def _answer(gain: Gain) -> str:
    """The answer to "not below"."""
    if gain.mean >= 0:
        return YES
    return UNDECIDED if gain.is_within else NO


def _within(gain: Gain) -> str:
    """Say when a difference, of either sign, shows nothing."""
    return "; within twice the spread, so no difference is shown" if gain.is_within else ""


def _more_rooms(results: Results) -> Verdict:
    claim = "More rooms are not worse than fewer (linear probe of full LAM3C, the same steps)"
    split, curves = results.curves("rooms")
    curve = curves.get("full")
    if not curve:
        return Verdict(claim, NOT_RUN, "no curve over the number of rooms")
    fewest, most = min(curve), max(curve)
    gain = Gain(curve[most], curve[fewest])
    points = ", ".join(f"{rooms} rooms {value}" for rooms, value in curve.items())
    seeds = max(len(point.by_seed) for point in curve.values())
    counted = "one seed, so without a spread" if seeds == 1 else f"{seeds} seeds"
    figures = f"{points} ({split} rooms, {counted}); most against fewest {gain.mean:+.1f}{_within(gain)}"
    return Verdict(claim, _answer(gain), figures)

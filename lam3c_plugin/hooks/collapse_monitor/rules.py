"""When a monitor's values mean trouble, and what to say then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

_START = 3  # records whose mean is "the start"
_RANK_CURE = (
    "Try a lower learning rate, a lower Laplacian weight (it pulls neighbours together), or momentum nearer to 1"
)


@dataclass
class CollapseRules:
    """Thresholds on the values of the collapse monitor (``hook.CollapseMonitor``); 0 turns a rule off.

    Args:
        warn_interval: steps before the same warning is spoken again.
        grace_ratio: for this share of the run only the rules on edges and non-finite values speak: features of random
            weights have a high rank that training takes away at first.
        grace_steps: and for at least so many steps.
        min_coverage: least share of prototypes that are some student point's nearest over the window.
        min_rank_share: least effective rank, as a share of its start (mean of the first records after the grace).
        min_rank: least effective rank; features on a line through 0 have 1.
        min_feature_spread: least part of the features that is not their common mean.
        min_marginal_entropy: least entropy of the mean target over log K.
        max_target_entropy: most entropy of a single target over log K (1: the teacher prefers nothing).
        min_edge_share: least share of points with an edge in the Laplacian graph.
    """

    warn_interval: int = 1000
    grace_ratio: float = 0.05
    grace_steps: int = 100
    min_coverage: float = 0.1
    min_rank_share: float = 0.25
    min_rank: float = 1.5
    min_feature_spread: float = 0.02
    min_marginal_entropy: float = 0.5
    max_target_entropy: float = 0.995
    min_edge_share: float = 0.05
    _spoken: dict[str, int] = field(default_factory=dict, repr=False)

    def check(
        self, record: dict[str, Any], history: Sequence[dict[str, Any]], total_steps: int, window_is_full: bool
    ) -> dict[str, str]:
        """Rule -> warning for every rule that ``record`` breaks; the text is empty while the rule is rate-limited."""
        found = self._structural(record)
        grace = max(self.grace_ratio * total_steps, self.grace_steps)
        if record["step"] > grace:
            past = [item for item in history if item["step"] > grace]
            found.update(self._collapse(record, past, window_is_full))
        for rule in found:
            last = self._spoken.get(rule)
            if last is not None and record["step"] - last < self.warn_interval:
                found[rule] = ""
            else:
                self._spoken[rule] = record["step"]
        return found

    def _structural(self, record: dict[str, Any]) -> dict[str, str]:
        found = {}
        broken = [key for key, value in record.items() if value is None and "/" not in key]
        if broken:
            found["non_finite"] = (
                f"the features or targets hold values that are not finite ({', '.join(broken)}). Look at the batch "
                "with NonFiniteGuard, lower the learning rate, or use bfloat16 instead of float16"
            )
        edges = record.get("edge_share")
        if edges is not None and edges < self.min_edge_share:
            found["edges"] = (
                f"only {edges:.1%} of the points have an edge in the Laplacian graph, so that term does next to "
                "nothing. Are the coordinates metres? Raise max_distance of the Laplacian loss, lower "
                "grid_size, or raise up_cast_level"
            )
        return found

    def _collapse(
        self, record: dict[str, Any], history: Sequence[dict[str, Any]], window_is_full: bool
    ) -> dict[str, str]:
        found = {}
        coverage = record.get("coverage")
        if coverage is not None and window_is_full and coverage < self.min_coverage:
            found["coverage"] = (
                f"collapsing: only {coverage:.1%} of the prototypes are nearest to any student point. Try a lower "
                "learning rate or a longer warm-up, more points a batch, or fewer prototypes"
            )
        start = [item["effective_rank"] for item in history if item.get("effective_rank") is not None][:_START]
        rank = record.get("effective_rank")
        if rank is not None and rank < self.min_rank:
            found["effective_rank"] = f"collapsing: the effective rank of the features is {rank:.1f}. {_RANK_CURE}"
        elif rank is not None and len(start) == _START and rank < self.min_rank_share * mean(start):
            fall = f"fell from {mean(start):.1f} to {rank:.1f}"
            found["effective_rank"] = f"collapsing: the effective rank of the features {fall}. {_RANK_CURE}"
        spread = record.get("feature_spread")
        if spread is not None and spread < self.min_feature_spread:
            found["feature_spread"] = (
                f"collapsing: all features are nearly one vector ({spread:.2%} of their length differs). Try a lower "
                "learning rate and lower regulariser weights, and check that the views differ"
            )
        marginal = record.get("marginal_entropy")
        if marginal is not None and marginal < self.min_marginal_entropy:
            found["marginal_entropy"] = (
                f"collapsing: the targets pile up on few prototypes (entropy {marginal:.2f} of 1). Sinkhorn did not "
                "balance them: raise num_iters or the teacher temperature"
            )
        target = record.get("target_entropy")
        if 0 < self.max_target_entropy <= 1 and target is not None and target > self.max_target_entropy:
            found["target_entropy"] = (
                f"collapsing: the targets are all but uniform (entropy {target:.3f} of 1), the teacher tells points "
                "apart no more. Lower the teacher temperature or the learning rate"
            )
        return found

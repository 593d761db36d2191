"""The collapse monitor's curves out of a results file, and what its rules say to them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lam3c_plugin.hooks.collapse_monitor.rules import CollapseRules

#: measures in the order of their panels, and their titles
MEASURES = {
    "loss": "loss",
    "effective_rank": "effective rank of the features",
    "feature_spread": "features beside their common mean",
    "target_entropy": "target entropy / log K",
    "marginal_entropy": "marginal entropy / log K",
    "coverage": "prototypes in use (window)",
}
_WINDOW = 20  # measurements that coverage looks back on, as in CollapseMonitor


@dataclass(frozen=True)
class Curves:
    """Measures of one pre-training by optimiser step; NaN where one was not finite or not taken.

    Args:
        steps: optimiser steps, 1-based, ascending.
        values: measure -> as many values as steps.
        total_steps: of the run; the monitor's grace is a share of it.
    """

    steps: list[int]
    values: dict[str, list[float]]
    total_steps: int

    @classmethod
    def of(cls, run: Mapping[str, Any]) -> Curves:
        """Of an entry of ``pretrain``."""
        values = {
            key: [math.nan if value is None else float(value) for value in column]
            for key, column in run["monitor"].items()
            if key != "step"
        }
        return cls(run["monitor"]["step"], values, run["steps"])

    @property
    def grace(self) -> float:
        """Steps in which the monitor's rules on collapse keep quiet."""
        rules = CollapseRules()
        return max(rules.grace_ratio * self.total_steps, rules.grace_steps)

    @cached_property
    def warnings(self) -> dict[str, int]:
        """Rule -> step at which the monitor first warns of it, with the rules' own thresholds."""
        rules, history, found = CollapseRules(), [], {}
        for row, step in enumerate(self.steps):
            known = {key: column[row] for key, column in self.values.items() if not math.isnan(column[row])}
            record = {"step": step, **known}
            for rule in rules.check(record, history, self.total_steps, row + 1 >= _WINDOW):
                found.setdefault(rule, step)
            history.append(record)
        return found

    def ends(self, key: str) -> tuple[float, float] | None:
        """Means of the first and of the last tenth (at least one value); None without the measure."""
        known = [value for value in self.values.get(key, []) if not math.isnan(value)]
        if not known:
            return None
        width = max(len(known) // 10, 1)
        return sum(known[:width]) / width, sum(known[-width:]) / width

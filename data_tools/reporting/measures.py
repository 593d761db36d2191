"""Figures of a scene, wherever a stage wrote them; counts for the funnel and the table of reasons."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

from data_tools.reporting.model import STAGES, STATUSES, ReasonRow, Report, Step

MOST_EXAMPLES = 5
QUALITY_KEYS = ("quality", "quality_score", "score")


def number(value: object) -> float | None:
    """A finite number, or None for anything else (also for bools)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def _levels(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """A stage's facts, and those of the clean-up that a packaged scene carries along."""
    inner = [facts.get(key) for key in ("postprocess", "extra")]
    return [facts, *(value for value in inner if isinstance(value, dict))]


def score_of(facts: dict[str, Any]) -> float | None:
    """The quality score among a stage's facts, or None."""
    for level in _levels(facts):
        for key in QUALITY_KEYS:
            value = level.get(key)
            found = number(value.get("score")) if isinstance(value, dict) else number(value)
            if found is not None:
                return found
    return None


def quality_parts(facts: dict[str, Any]) -> dict[str, float]:
    """All numbers of the quality, by name, the score first; empty where there are none."""
    for level in _levels(facts):
        for key in QUALITY_KEYS:
            if isinstance(level.get(key), dict):
                parts = {name: number(part) for name, part in flat(level[key]).items()}
                known = {name: part for name, part in parts.items() if part is not None}
                return dict(sorted(known.items(), key=lambda item: (item[0] != "score", item[0])))
    return {}


def flat(value: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested objects as one, names joined by dots."""
    found: dict[str, Any] = {}
    for name, part in value.items():
        if isinstance(part, dict):
            found.update(flat(part, f"{before}{name}."))
        else:
            found[f"{before}{name}"] = part
    return found


def points_of(facts: dict[str, Any]) -> int:
    """Points of the cloud, 0 where not told."""
    value = facts.get("num_points", facts.get("points"))
    found = number(value.get("output") if isinstance(value, dict) else value)
    return int(found or 0)


def extent_of(facts: dict[str, Any]) -> tuple[float, ...]:
    """Metres along x, y, z; empty where not told."""
    for key in ("extent", "size"):
        value = facts.get(key)
        if isinstance(value, (list, tuple)) and len(value) == 3 and all(number(v) is not None for v in value):
            return tuple(float(v) for v in value)
    return ()


def said_of(facts: dict[str, Any]) -> str:
    """How far the lengths are to be believed, as the scale says it; empty where not told."""
    scale = facts.get("scale")
    return str(scale.get("said") or "") if isinstance(scale, dict) else ""


def spacing_of(facts: dict[str, Any]) -> float:
    """Median distance to the nearest other point in metres; 0 where not told."""
    for level in _levels(facts):
        value = level.get("spacing")
        found = number(value.get("after") if isinstance(value, dict) else value)
        if found is not None and found > 0:
            return found
    return 0.0


def label_of(facts: dict[str, Any]) -> str:
    """Kind of room; empty where not told."""
    for key in ("label", "room"):
        if isinstance(facts.get(key), str):
            return str(facts[key])
    inner = facts.get("generator")
    return str(inner.get("kind") or "") if isinstance(inner, dict) else ""


def funnel(report: Report) -> list[Step]:
    """Items of every stage by state; an item waits where the stage before is done and this one says nothing."""
    steps: list[Step] = []
    before: set[str] | None = None
    for stage in STAGES:
        states = report.states[stage]
        counts = Counter(state.status for state in states.values())
        if stage == "reconstruct":  # videos become scenes here
            before = {row.name for row in report.scenes if row.video or row.split == ""} or None
            before = None if not report.states["segment"] else before
        if before is not None:
            counts["waiting"] += len(before - states.keys())
        if states or (before and steps):
            steps.append(Step(stage, {status: counts[status] for status in STATUSES}))
            before = {name for name, state in states.items() if state.status == "done"}
    return steps


def generic_reason(reason: str, item: str) -> str:
    """A reason without names, paths and numbers, so that equal reasons of many items are counted as one."""
    reason = re.sub(rf"(?<!\w){re.escape(item)}(?!\w)", "…", reason) if item else reason
    reason = re.sub(r"(?:[A-Za-z]:)?[^\s:;,'\"()]*[/\\][^\s:;,'\"()]*", "…", reason)
    reason = re.sub(r"(?<![<>=]=)(?<!\d)\d+(?:[.,]\d+)*(?:e[+-]?\d+)?", "N", reason)
    return re.sub(r"(?:…[.\w]*[:,]?\s*)+", "… ", reason).strip(" …:") or "no reason given"


def reasons(report: Report) -> list[ReasonRow]:
    """What was left out and why: stages in their order, frequent reasons first."""
    rows: dict[tuple[str, str, str], ReasonRow] = {}
    for stage in STAGES:
        for item, state in sorted(report.states[stage].items()):
            if state.status not in ("rejected", "failed"):
                continue
            text = generic_reason(state.reason, item)
            row = rows.setdefault((stage, state.status, text), ReasonRow(stage, state.status, text))
            row.count += 1
            if len(row.examples) < MOST_EXAMPLES:
                row.examples.append((item, state.reason))
    return sorted(rows.values(), key=lambda row: (STAGES.index(row.stage), -row.count, row.reason))

"""Figures of a scene as the stages write them; counts for the funnel and the table of reasons."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

from data_tools.reporting.model import STAGES, STATUSES, ReasonRow, Report, SceneRow, Step

MOST_EXAMPLES = 5


def number(value: object) -> float | None:
    """A finite number, or None for anything else (also for bools)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def quality_parts(facts: dict[str, Any]) -> dict[str, float]:
    """All numbers of the quality, by name, the score first; empty where there are none."""
    quality = facts.get("quality")
    parts = {name: number(part) for name, part in quality.items()} if isinstance(quality, dict) else {}
    known = {name: part for name, part in parts.items() if part is not None}
    return dict(sorted(known.items(), key=lambda item: (item[0] != "score", item[0])))


def flat(value: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested objects as one, names joined by dots."""
    found: dict[str, Any] = {}
    for name, part in value.items():
        if isinstance(part, dict):
            found.update(flat(part, f"{before}{name}."))
        else:
            found[f"{before}{name}"] = part
    return found


def take_facts(row: SceneRow, facts: dict[str, Any]) -> None:
    """Put the figures that a stage's record or a scene's meta.json tells into a row; what it does not tell stays."""
    score = quality_parts(facts).get("score")
    row.score = row.score if score is None else score
    row.points = int(number(facts.get("num_points", facts.get("points"))) or row.points)
    extent = facts.get("extent", facts.get("size"))
    if isinstance(extent, list) and len(extent) == 3 and all(number(value) is not None for value in extent):
        row.extent = tuple(map(float, extent))
    scale, spacing, generator = (facts.get(name) for name in ("scale", "spacing", "generator"))
    row.said = str(scale.get("said") or row.said) if isinstance(scale, dict) else row.said
    row.spacing = number(spacing.get("after") if isinstance(spacing, dict) else spacing) or row.spacing
    kind = generator.get("kind") if isinstance(generator, dict) else None
    row.label = row.label or str(facts.get("label") or kind or "")
    row.video = row.video or str(facts.get("video") or "")


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

"""Distributions as inline SVG, with ScanNet's typical values beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_tools.postprocessing.scale import SCANNET_MEAN_FLOOR, SCANNET_SIGMA
from data_tools.reporting.model import SceneRow
from data_tools.reporting.pages import text

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 420, 170, 8, 34, 10
BINS = 28


@dataclass(frozen=True)
class Typical:
    """A log-normal that stands for ScanNet's scans: median, and sigma of the logarithm."""

    median: float
    sigma: float


# Approximations from public statements, made without the data, which is behind an agreement. Floor: the ScanNet paper
# (arXiv 1702.04405) sums up 34,453 m^2 over 1,513 scans. Surface: 78,595 m^2 in the same table, 52 m^2 a scan; meshes
# have about 150,000 vertices a scan, hence about 2 cm between neighbours. Height: indoor scans seldom show more than
# the walls up to 2-3 m. The spreads are estimates of ours.
SCANNET = {
    "floor": Typical(float(SCANNET_MEAN_FLOOR * np.exp(-(SCANNET_SIGMA**2) / 2)), SCANNET_SIGMA),
    "points": Typical(130_000, 0.55),
    "spacing": Typical(0.019, 0.12),
    "height": Typical(2.5, 0.2),
    "length": Typical(5.6, 0.35),
}


@dataclass(frozen=True)
class Chart:
    """A distribution to draw: values, how the axis is called and spaced, ScanNet's beside it."""

    title: str
    values: Sequence[float]
    unit: str = ""
    is_log: bool = False
    typical: Typical | None = None


def charts_of(scenes: Sequence[SceneRow]) -> list[Chart]:
    """The charts of a report: only those that have values."""
    sized = [row.extent for row in scenes if len(row.extent) == 3 and min(row.extent) > 0]
    points = [row.points for row in scenes if row.points > 0]
    spacing = [1000 * row.spacing for row in scenes if row.spacing > 0]
    scores = [row.score for row in scenes if row.score is not None]
    near = SCANNET["spacing"]
    charts = [
        Chart("Points of a scene", points, "", True, SCANNET["points"]),
        Chart("Floor plan, width × depth", [x * y for x, y, _ in sized], "m²", True, SCANNET["floor"]),
        Chart("Longer side", [max(x, y) for x, y, _ in sized], "m", True, SCANNET["length"]),
        Chart("Height", [z for _, _, z in sized], "m", False, SCANNET["height"]),
        Chart("Spacing of points", spacing, "mm", False, Typical(1000 * near.median, near.sigma)),
        Chart("Quality score", scores),
    ]
    return [chart for chart in charts if len(chart.values)]


def short(value: float) -> str:
    """A number with few digits: 1.2k, 350k, 2.5M."""
    for limit, sign in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{sign}"
    return f"{value:.3g}"


def _edges(chart: Chart) -> np.ndarray:
    """Ends of the axis in the axis' own measure (logarithms where it is logarithmic)."""
    values = np.asarray(chart.values, dtype=np.float64)
    values = np.log(values) if chart.is_log else values
    low, high = np.percentile(values, [0.5, 99.5])
    if chart.typical is not None:
        ends = np.log(chart.typical.median) + 2.2 * chart.typical.sigma * np.array([-1, 1])
        ends = ends if chart.is_log else np.exp(ends)
        low, high = min(low, ends[0]), max(high, ends[1])
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1)


def _curve(chart: Chart, middles: np.ndarray) -> np.ndarray:
    assert chart.typical is not None
    logs = middles if chart.is_log else np.log(np.maximum(middles, 1e-9))
    density = np.exp(-((logs - np.log(chart.typical.median)) ** 2) / (2 * chart.typical.sigma**2))
    return density if chart.is_log else density / np.maximum(middles, 1e-9)


def _ticks(edges: np.ndarray, is_log: bool) -> list[tuple[float, str]]:
    if is_log:
        low, high = np.exp(edges[0]), np.exp(edges[-1])
        powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        steps = (1, 2, 5) if high / low < 300 else (1,)
        marks = [step * power for power in powers for step in steps if low <= step * power <= high]
        return [(float(np.log(mark)), short(mark)) for mark in marks]
    step = 10.0 ** np.floor(np.log10((edges[-1] - edges[0]) / 3))
    step *= next(factor for factor in (5, 2, 1) if (edges[-1] - edges[0]) / (step * factor) >= 3 or factor == 1)
    marks = np.arange(np.ceil(edges[0] / step), np.floor(edges[-1] / step) + 1) * step
    return [(float(mark), short(float(mark))) for mark in marks]


def draw_chart(chart: Chart) -> str:
    """A figure: our histogram as bars with its median, ScanNet's distribution as a dashed line of the same area."""
    edges = _edges(chart)
    values = np.asarray(chart.values, dtype=np.float64)
    counts, _ = np.histogram(np.clip(np.log(values) if chart.is_log else values, edges[0], edges[-1]), edges)
    shares = counts / counts.sum()
    middles = (edges[1:] + edges[:-1]) / 2
    other = None
    if chart.typical is not None:
        curve = _curve(chart, middles)
        other = curve / curve.sum()
    top = max(shares.max(), 0 if other is None else other.max())
    span, floor = WIDTH - 2 * LEFT, HEIGHT - BOTTOM

    def x(value: float) -> float:
        return LEFT + span * (value - edges[0]) / (edges[-1] - edges[0])

    def y(share: float) -> float:
        return floor - (floor - TOP) * share / top

    parts = []
    for left, right, share, count in zip(edges[:-1], edges[1:], shares, counts, strict=True):
        if count:
            shape = f'x="{x(left) + 0.5:.1f}" y="{y(share):.1f}" width="{x(right) - x(left) - 1:.1f}"'
            parts.append(
                f'<rect class="bin" {shape} height="{floor - y(share):.1f}"><title>{count} scenes</title></rect>'
            )
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - LEFT}" y1="{floor}" y2="{floor}"/>')
    if other is not None:
        path = " ".join(f"{x(m):.1f},{y(s):.1f}" for m, s in zip(middles, other, strict=True))
        parts.append(f'<polyline class="other" points="{path}"/>')
    median = float(np.median(values))
    place = x(float(np.clip(np.log(median) if chart.is_log else median, edges[0], edges[-1])))
    parts.append(f'<line class="middle" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{floor}"/>')
    for mark, name in _ticks(edges, chart.is_log):
        parts.append(f'<text x="{x(mark):.1f}" y="{floor + 15}" text-anchor="middle">{name}</text>')
    unit = f" {chart.unit}" if chart.unit else ""
    note = f"median {short(median)}{unit}"
    if chart.typical is not None:
        note += f" · ScanNet about {short(chart.typical.median)}{unit}"
    return (
        f'<figure><figcaption><b>{text(chart.title)}</b> <span class="soft">{text(note)}</span></figcaption>\n'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(chart.title)}: {text(note)}">'
        f"{''.join(parts)}</svg></figure>"
    )

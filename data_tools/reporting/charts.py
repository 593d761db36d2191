"""Distributions, with ScanNet's typical values beside them, as Matplotlib draws them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import erf

import numpy as np

from data_tools.postprocessing.scale import SCANNET_MEAN_FLOOR, SCANNET_SIGMA
from data_tools.reporting.model import SceneRow
from data_tools.reporting.pages import text
from data_tools.reporting.pictures import data_address

BINS = 28
OURS, THEIRS, GREY = "#3b82c4", "#e0762f", "#808a94"  # seen on a light page and on a dark one


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
    """The charts of a report: only those that have different values; one scene has no distribution."""
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
    return [chart for chart in charts if len(set(chart.values)) > 1]


def short(value: float) -> str:
    """A number with few digits: 1.2k, 350k, 2.5M."""
    for limit, sign in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{sign}"
    return f"{value:.3g}"


def _edges(chart: Chart) -> np.ndarray:
    """Ends of the bars."""
    low, high = np.percentile(chart.values, [0.5, 99.5])
    if chart.typical is not None:
        ends = chart.typical.median * np.exp(2.2 * chart.typical.sigma * np.array([-1, 1]))
        low, high = min(low, ends[0]), max(high, ends[1])
    if high - low < 1e-9 * max(abs(high), 1):
        low, high = (low / 1.6, high * 1.6) if chart.is_log else (low - 0.5, high + 0.5)
    return np.geomspace(low, high, BINS + 1) if chart.is_log else np.linspace(low, high, BINS + 1)


def expected_shares(typical: Typical, edges: np.ndarray) -> np.ndarray:
    """The share of a log-normal that each bar would have: (B,) for the ends (B + 1,), in sum 1."""
    logs = (np.log(np.maximum(edges, 1e-9)) - np.log(typical.median)) / (typical.sigma * np.sqrt(2))
    shares = np.diff([erf(value) for value in logs])
    return shares / shares.sum()


def draw_chart(chart: Chart) -> str:
    """A figure: our histogram as bars with its median, ScanNet's distribution as a dashed line of the same area."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    edges, values = _edges(chart), np.asarray(chart.values, dtype=np.float64)
    median = float(np.median(values))
    figure = Figure(figsize=(4.2, 1.7), layout="constrained")
    axis = figure.add_subplot()
    shares = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values)
    axis.bar(edges[:-1], shares, 0.92 * np.diff(edges), align="edge", color=OURS)
    if chart.typical is not None:
        middles = np.sqrt(edges[1:] * edges[:-1]) if chart.is_log else (edges[1:] + edges[:-1]) / 2
        axis.plot(middles, expected_shares(chart.typical, edges), "--", color=THEIRS)
    axis.axvline(median, color=GREY)
    if chart.is_log:
        axis.set_xscale("log")
        axis.xaxis.set_minor_locator(NullLocator())
    steps = (1, 2, 5) if edges[-1] < 300 * edges[0] else (1,)
    axis.xaxis.set_major_locator(LogLocator(subs=steps) if chart.is_log else MaxNLocator(5))
    axis.xaxis.set_major_formatter(lambda value, _: short(value))
    axis.tick_params(colors=GREY, labelsize=8)
    axis.yaxis.set_visible(False)
    axis.spines[["left", "right", "top"]].set_visible(False)
    axis.spines["bottom"].set_color(GREY)
    axis.set_xlim(edges[0], edges[-1])
    picture = io.BytesIO()
    with rc_context({"svg.hashsalt": chart.title, "svg.fonttype": "none"}):  # the same data gives the same bytes
        figure.savefig(picture, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    unit = f" {chart.unit}" if chart.unit else ""
    note = f"median {short(median)}{unit}"
    if chart.typical is not None:
        note += f" · ScanNet about {short(chart.typical.median)}{unit}"
    title, note, address = text(chart.title), text(note), data_address(picture.getvalue(), "image/svg+xml")
    caption = f'<figcaption><b>{title}</b> <span class="soft">{note}</span></figcaption>'
    return f'<figure>{caption}\n<img src="{address}" alt="{title}: {note}"></figure>'

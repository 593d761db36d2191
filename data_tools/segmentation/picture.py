"""The timeline picture of a video: frames, label probabilities, changes of shot, scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_tools.segmentation.cuts import Cut, CutSignals
from data_tools.segmentation.scan import Thumbs
from data_tools.segmentation.scenes import Segmentation
from data_tools.segmentation.settings import NO_ROOM
from data_tools.stages.record import StageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRIP = 14  # thumbnails along the top
GREY = {"outdoor": "#9aa5ad", "other": "#d3d7da", "": "#4c78a8"}
COLORS = (
    "#4c78a8",
    "#f58518",
    "#54a24b",
    "#e45756",
    "#72b7b2",
    "#b279a2",
    "#eeca3b",
    "#9d755d",
    "#ff9da6",
    "#59c3e2",
    "#8c6bb1",
    "#7f9f3f",
)
KIND_STYLE = {"hole": "-", "cut": "-", "dissolve": "--", "fade": ":"}


def draw_timeline(
    path: Path,
    title: str,
    duration: float,
    times: NDArray,
    shares: NDArray | None,
    names: Sequence[str],
    cuts: Sequence[Cut],
    signals: CutSignals,
    result: Segmentation,
    thumbs: Thumbs,
) -> None:
    """Write the picture.

    Args:
        path: the .png.
        title: first line.
        duration: seconds of the video.
        times: (S,) seconds.
        shares: (S, C) smoothed probabilities of the names; None without labels.
        names: C of them.
        cuts: shot changes.
        signals: what those were found in (drawn where there are no labels).
        result: scenes and what is dropped.
        thumbs: pictures along the video.

    Raises:
        StageError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise StageError("the timeline picture needs matplotlib: pip install matplotlib", False) from error
    colors = label_colors(names)
    figure = Figure(figsize=(14, 5.2), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    strip, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(1.25, 3, 0.9))
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    _draw_strip(strip, duration, thumbs)
    if shares is None:
        _draw_differences(middle, signals)
    else:
        _draw_shares(middle, times, shares, names, colors)
    for cut in cuts:
        for axes in (middle, bottom):
            axes.axvline((cut.start + cut.end) / 2, color="black", lw=1.1, ls=KIND_STYLE[cut.kind])
            if cut.end > cut.start:
                axes.axvspan(cut.start, cut.end, color="black", alpha=0.25, lw=0)
    for time in result.boundaries:
        middle.axvline(time, color="white", lw=1.2, ls="--")
    _draw_scenes(bottom, duration, result, colors)
    figure.savefig(path, metadata={"Software": None})


def label_colors(names: Sequence[str]) -> dict[str, str]:
    """A colour for every label; grey for those that are no rooms."""
    rooms = [name for name in names if name not in NO_ROOM]
    return {**GREY, **{name: COLORS[i % len(COLORS)] for i, name in enumerate(rooms)}}


def _draw_strip(axes: Axes, duration: float, thumbs: Thumbs) -> None:
    """Thumbnails in a row, each cut to its slot and centred on the time it shows."""
    height, width = thumbs.images[0].shape[:2]
    inches = axes.figure.get_size_inches()
    aspect = (inches[0] * 0.84 / STRIP) / (inches[1] * 0.2)  # of a slot
    keep_w, keep_h = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - keep_w) // 2, (height - keep_h) // 2
    slot = duration / STRIP
    for i in range(STRIP):
        image = thumbs.nearest((i + 0.5) * slot)
        image = image[top : top + keep_h, left : left + keep_w]
        axes.imshow(image, extent=((i + 0.02) * slot, (i + 0.98) * slot, 0, 1), aspect="auto")
    axes.set_xlim(0, duration)
    axes.set_ylim(0, 1)
    axes.axis("off")


def _draw_shares(axes: Axes, times: NDArray, shares: NDArray, names: Sequence[str], colors: dict[str, str]) -> None:
    seen = [i for i in np.argsort([name in NO_ROOM for name in names], kind="stable") if shares[:, i].max() > 0.1]
    rest = 1 - shares[:, seen].sum(1)
    rows = [shares[:, i] for i in seen] + ([rest] if rest.max() > 0.02 else [])
    labels = [names[i] for i in seen] + ["the rest"]
    tints = [colors[names[i]] for i in seen] + ["#f2f2f2"]
    axes.stackplot(times, *rows, labels=labels[: len(rows)], colors=tints[: len(rows)], lw=0)
    axes.set_ylim(0, 1)
    axes.set_ylabel("probability")
    axes.legend(loc="center left", bbox_to_anchor=(1.005, 0.5), frameon=False, fontsize=9)


def _draw_differences(axes: Axes, signals: CutSignals) -> None:
    axes.plot(signals.times, signals.step, color=GREY[""], lw=0.8)
    axes.set_ylim(0, max(0.05, *signals.step))
    axes.set_ylabel("change of brightness")
    axes.text(0.01, 0.93, "no labels: scenes are shots", transform=axes.transAxes, va="top", color="#555555")


def _draw_scenes(axes: Axes, duration: float, result: Segmentation, colors: dict[str, str]) -> None:
    for span in result.dropped:
        axes.axvspan(span.start, span.end, facecolor="#eceff1", edgecolor="#b0bec5", hatch="////", lw=0)
    for number, span in enumerate(result.scenes, start=1):
        for start, end in span.intervals:
            axes.axvspan(start, end, color=colors.get(span.label, GREY[""]), lw=0)
        text = f"{number:03d}\n{span.label or 'shot'}"
        if span.length > 0.045 * duration:
            probability = "" if span.probability is None else f"\np {span.probability:.2f}"
            axes.text((span.start + span.end) / 2, 0.5, text + probability, ha="center", va="center", fontsize=8)
        axes.axvline(span.start, color="white", lw=1)
    axes.set_yticks([])
    axes.set_ylabel("scenes")
    axes.set_xlabel("seconds (hatched: dropped; solid line: cut, dashed: dissolve, dotted: fade)")
    axes.set_xlim(0, duration)

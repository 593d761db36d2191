"""Pictures of the learning proof: curves with error bars, the monitor of two runs, features of unseen rooms.

Every function writes one PNG and returns None, or leaves it out and returns the reason in a few words.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from experiments.learning.monitor import MEASURES, Curves
from experiments.learning.presets import GRID_SIZE, SEEDS
from experiments.learning.scores import Results, Score, row_title

COLORS = {
    "random": "tab:gray",
    "clustering": "tab:blue",
    "laplacian": "tab:green",
    "consistency": "tab:purple",
    "full": "tab:red",
    "released": "tab:brown",
    "collapsing": "tab:orange",
}
AXIS_TITLES = {
    "step": "optimiser steps of pre-training",
    "rooms": "rooms to pre-train on",
    "noise": "noise of the rooms",
}
KINDS = {"linear": "linear probe", "knn": "kNN probe"}
ROOMS_SHOWN = 2
_SIZE = (480, 360)  # pixels of one view of a room


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, metadata={"Software": None})  # the same bytes for the same numbers


# ---- curves ------------------------------------------------------------------------------------------------------


def draw_curve(results: Results, axis: str, path: Path) -> str | None:
    """The probes' mIoU against ``axis`` (one of ``scores.AXES``), with the spread over seeds as bars."""
    kinds = [kind for kind in KINDS if results.curves(axis, kind)[1]]
    if not kinds:
        return "the results hold no two points of it"
    figure = _figure(5.2 * len(kinds), 3.9)
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    for panel, kind in zip(panels, kinds, strict=True):
        split, curves = results.curves(axis, kind)
        for row, curve in curves.items():
            _plot_curve(panel, axis, row, curve)
        random = results.probe("random", kind, split)
        if random is not None:
            _plot_level(panel, random)
        panel.set_title(f"{KINDS[kind]}, {split} rooms")
        panel.set_xlabel(AXIS_TITLES[axis])
        panel.set_ylabel("mIoU, %")
        _set_ticks(panel, axis, [value for curve in curves.values() for value in curve])
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    _save(figure, path)
    return None


def _plot_curve(panel: Axes, axis: str, row: str, curve: dict[Any, Score]) -> None:
    from data_tools.synthetic.rooms.noise import NOISE_LEVELS

    levels = list(NOISE_LEVELS)
    places = [levels.index(value) if axis == "noise" else value for value in curve]
    means = [point.mean for point in curve.values()]
    spreads = np.nan_to_num([point.spread for point in curve.values()])  # one seed: no bar
    panel.errorbar(places, means, yerr=spreads, color=COLORS.get(row), marker="o", capsize=3, label=row_title(row))


def _plot_level(panel: Axes, score: Score) -> None:
    """Random features know no steps, rooms or noise: a line across, with its spread as a band."""
    spread = np.nan_to_num(score.spread)
    panel.axhline(score.mean, color=COLORS["random"], ls="--", label=row_title("random"))
    panel.axhspan(score.mean - spread, score.mean + spread, color=COLORS["random"], alpha=0.2, lw=0)


def _set_ticks(panel: Axes, axis: str, values: Sequence[Any]) -> None:
    from data_tools.synthetic.rooms.noise import NOISE_LEVELS

    if axis == "noise":
        shown = [level for level in NOISE_LEVELS if level in values]
        panel.set_xticks([list(NOISE_LEVELS).index(level) for level in shown], shown)
    elif axis == "rooms" and min(values) > 0:
        panel.set_xscale("log")
        panel.set_xticks(sorted(set(values)))
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.xaxis.set_minor_formatter(NullFormatter())
    else:
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))


# ---- the monitor -------------------------------------------------------------------------------------------------


def draw_monitor(results: Results, path: Path) -> str | None:
    """Loss and the collapse monitor's measures of a healthy and a collapsing pre-training in the same panels.

    A dotted line marks the first warning of the monitor's rules.
    """
    found = dict(zip(("full", "collapsing"), results.monitored(), strict=True))
    lacking = [row for row, run in found.items() if run is None]
    if lacking:
        return f"no curves of the row {' and '.join(lacking)}"
    runs = {row: Curves.of(run) for row, run in found.items() if run}
    shown = [key for key in MEASURES if all(key in run.values for run in runs.values())]
    if not shown:
        return "the two runs share no measure of the monitor"
    columns = min(len(shown), 3)
    lines = -(-len(shown) // columns)
    figure = _figure(4.4 * columns, 3.1 * lines)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, key in zip(panels, shown, strict=False):
        for row, run in runs.items():
            panel.plot(run.steps, run.values[key], color=COLORS[row], label=_monitor_title(row), lw=1.6)
            if key in run.warnings:  # a rule has the name of the measure it looks at
                panel.axvline(run.warnings[key], color=COLORS[row], ls=":", lw=1.4)
        panel.set_title(MEASURES[key], fontsize=10)
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    panels[0].legend(fontsize=8)
    _save(figure, path)
    return None


def _monitor_title(row: str) -> str:
    return "healthy (full LAM3C)" if row == "full" else row_title(row)


# ---- features ----------------------------------------------------------------------------------------------------


def draw_features(results: Results, path: Path) -> str | None:
    """Unseen rooms: colours, labels, and the first three principal components of random and pre-trained features."""
    checkpoint = _checkpoint(results)
    rooms = find_rooms(results)
    if checkpoint is None or not rooms:
        lacking = [] if checkpoint else ["a checkpoint of full LAM3C"]
        lacking += [] if rooms else ["rooms of the test split"]
        return f"{' and '.join(lacking)} not found beside the results file"
    encoders = _encoders(checkpoint, student=results.settings.get("probe_part", "student") == "student")
    titles = ("colour", "labels", *(f"{name} (PCA)" for name in encoders))
    figure = _figure(3.4 * len(titles), 2.75 * len(rooms) + 0.9)
    panels = figure.subplots(len(rooms), len(titles), squeeze=False)
    occurring: set[int] = set()
    for line, room in zip(panels, rooms, strict=True):
        pictures, labels = _room_pictures(results, room, encoders)
        occurring |= labels
        for panel, picture in zip(line, pictures, strict=True):
            panel.imshow(picture)
            panel.set_axis_off()
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(title, fontsize=11)
    _add_legend(figure, results.classes, sorted(occurring))
    _save(figure, path)
    return None


def _checkpoint(results: Results) -> Path | None:
    """Of full LAM3C at the main setting, the first seed that is there."""
    main = results.main
    for run in sorted(results.pretrain, key=lambda entry: entry["seed"]):
        if main is None or run["row"] != "full" or not run.get("checkpoint"):
            continue
        if (run["rooms"], run["noise"], run["steps"]) != (main.rooms, main.noise, main.steps):
            continue
        if (results.root / run["checkpoint"]).is_file():
            return results.root / run["checkpoint"]
    return None


def find_rooms(results: Results, count: int = ROOMS_SHOWN) -> list[Path]:
    """The first labelled rooms of the test split in ``data`` beside the results file; their seed is in their name."""
    seed = results.settings.get("generator_seeds", SEEDS)["test"]
    found = results.root.glob(f"data/**/synthetic_{seed:05d}_*/segment.npy")
    return sorted({path.parent.name: path.parent for path in found}.values(), key=lambda folder: folder.name)[:count]


def _encoders(checkpoint: Path, student: bool) -> dict[str, Any]:
    """Title -> encoder: the same network with random and with pre-trained weights."""
    import torch

    from lam3c_plugin.encode import Encoder, load
    from lam3c_plugin.encode.models import build_encoder, find_weights

    config = find_weights(checkpoint).backbone_config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        random = Encoder(build_encoder(config or {}))
    return {"random features": random, "pre-trained features": load(str(checkpoint), student=student)}


def _room_pictures(results: Results, room: Path, encoders: dict[str, Any]) -> tuple[list[np.ndarray], set[int]]:
    """Views of a room in its colours, its labels and each encoder's components; and the classes in it."""
    from data_tools.drawing.points import render_points
    from lam3c_plugin.analysis.classes import label_colors
    from lam3c_plugin.analysis.components import pca_colors

    coord, color, normal, segment = (np.load(room / f"{name}.npy") for name in ("coord", "color", "normal", "segment"))
    segment = segment.reshape(-1)
    colors = [color, label_colors(segment, results.classes)]
    for encoder in encoders.values():
        feat = encoder.encode(coord, color, normal, level=2, grid_size=GRID_SIZE, color_range=255)
        colors.append(pca_colors(feat))
    return [render_points(coord, item, size=_SIZE) for item in colors], {int(i) for i in np.unique(segment) if i >= 0}


def _add_legend(figure: Figure, classes: Sequence[str], occurring: Sequence[int]) -> None:
    from matplotlib.patches import Patch

    from lam3c_plugin.analysis.classes import palette

    table = palette(classes) / 255.0
    patches = [Patch(color=table[i], label=classes[i]) for i in occurring]
    figure.legend(handles=patches, loc="outside lower center", ncols=12, fontsize=8, frameon=False)

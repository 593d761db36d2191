"""The page's two pictures: paired differences with intervals, and the stability map."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from data_tools.stages.files import replacing
from experiments.learning.plan import MAP_RATES, MAP_REST
from experiments.learning.results import (
    FAILED,
    MEASURES,
    NOISES,
    PAIRS,
    Jobs,
    describe,
    difference,
    map_lengths,
    map_runs,
)

COLOURS = {"pi3": "tab:blue", "worse": "tab:orange", "clustering": "tab:gray", "full": "tab:green"}
REGULARISERS = ("H1", "H4", "H5a", "H5b")  # differences of some points; H2 and H3 are of ten and more
METADATA = {"Software": None}  # the file does not name matplotlib's version


def draw_differences(jobs: Jobs, path: Path) -> None:
    """Every measure a column: above what the regularisers add, below full against raw inputs and random weights."""
    pairs = (REGULARISERS, tuple(pair for pair in PAIRS if pair not in REGULARISERS))
    size = {"figsize": (15, 5.2), "height_ratios": [2, 1.2]}
    figure, axes = plt.subplots(2, len(MEASURES), sharey="row", sharex="row", layout="constrained", **size)
    for row, chosen in zip(axes, pairs, strict=True):
        for axis, (measure, name) in zip(row, MEASURES.items(), strict=True):
            for place, noise in enumerate(NOISES):
                _dots(axis, jobs, noise, chosen, measure, 0.15 - 0.3 * place)
            axis.axvline(0, color="black", linewidth=0.8)
            axis.grid(axis="x", alpha=0.3)
            axis.tick_params(left=False)
            if chosen is REGULARISERS:
                axis.set_title(name, fontsize=11)
        row[0].set_yticks(range(len(chosen)), [f"{pair}: {describe(pair)}" for pair in chosen])
        row[0].set_ylim(len(chosen) - 0.5, -0.5)
    handles = [axes[0][0].errorbar([], [], fmt="o", color=COLOURS[noise], label=noise) for noise in NOISES]
    figure.legend(handles=handles, loc="outside lower right", ncols=2, frameon=False)
    figure.supxlabel("paired difference in percent: mean, 95 % interval, and every seed", fontsize=11)
    _save(figure, path)


def _dots(axis: Axes, jobs: Jobs, noise: str, pairs: tuple[str, ...], measure: str, shift: float) -> None:
    for y, pair in enumerate(pairs):
        found = difference(jobs, noise, pair, measure)
        if found is None:
            continue
        values = list(found.by_seed.values())
        axis.plot(values, [y - shift] * len(values), "|", color=COLOURS[noise], alpha=0.5, markersize=7)
        mean, low, high = found.interval.value, found.interval.low, found.interval.high
        axis.errorbar(mean, y - shift, xerr=[[mean - low], [high - mean]], fmt="o", color=COLOURS[noise], capsize=3)


def draw_map(jobs: Jobs, path: Path) -> None:
    """Of the longest map, each cell's runs, above the random weights of their seed; failed ones are hollow."""
    runs = map_runs(jobs, map_lengths(jobs)[0])
    figure, axes = plt.subplots(1, len(MAP_REST), figsize=(13, 3.8), sharey=True, layout="constrained")
    for axis, rest in zip(axes, MAP_REST, strict=True):
        for row, shift in (("clustering", -0.08), ("full", 0.08)):
            for failed, style in ((False, "full"), (True, "none")):
                chosen = [(key, run) for key, run in runs.items() if key[:3] == rest and row in run["scores"]]
                chosen = [(key, run) for key, run in chosen if run["failed"][row] == failed]
                places = [MAP_RATES.index(key[3]) + shift for key, _ in chosen]
                above = [run["scores"][row] - run["scores"]["random"] for _, run in chosen]
                label = f"{row}, failed" if failed else row
                axis.plot(places, above, "o", color=COLOURS[row], fillstyle=style, label=label)
        axis.axhline(FAILED, color="tab:red", linestyle="--", linewidth=1)
        axis.set_xticks(range(len(MAP_RATES)), [f"{rate:g}" for rate in MAP_RATES])
        axis.set_xlim(-0.5, len(MAP_RATES) - 0.5)
        axis.set_title(f"{rest[0]}, {rest[1]} prototypes, momentum {rest[2]:g}", fontsize=10)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("mIoU above random weights")
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower right", ncols=4, frameon=False)
    figure.supxlabel("learning rate", fontsize=11)
    _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    with replacing(path) as partial:
        figure.savefig(partial, dpi=110, format="png", metadata=METADATA)
    plt.close(figure)

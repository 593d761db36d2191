"""Joins results files into the committed one, and fills its figures into the pages and the pictures.

Without files only pages and pictures are written. A job that is there already with other figures is refused.

  python experiments/learning/report.py exp/learning/results.json exp/worse/results.json
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np

from data_tools.stages.files import write_json, write_text
from experiments.learning.plan import EXPLORED, MAP_RATES, MAP_REST, MAP_ROWS, ROWS
from experiments.learning.results import (
    MEASURES,
    NAMES,
    NOISES,
    PAIRS,
    RESULTS,
    Jobs,
    describe,
    difference,
    figures_of,
    join,
    map_lengths,
    map_runs,
    read,
)
from experiments.learning.verdicts import NOT_SHOWN, Difference, Interval, spread_ratio
from lam3c_plugin.errors import DataError, run_main

WHY = Path(__file__).with_name("why.json")
PAGE, README, IMAGES = ROOT / "docs/learning.md", ROOT / "README.md", ROOT / "docs/images"
LEAST = 10.0  # mIoU that H2 asks for; the others ask for more than 0
LAST_WEIGHT = 0.003  # lambda at the paper's last step


def main(argv: Sequence[str] | None = None) -> int:
    """Join, write, print the answers; return the exit code.

    Raises:
        DataError: files that do not fit together.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="results.json of run.py, to be added")
    args = parser.parse_args(argv)
    results = read(RESULTS) if RESULTS.is_file() else {}
    for path in args.files:
        results = join(results, read(path), str(path))
    if not results:
        raise DataError(f"{RESULTS}: not there yet; give the results files of run.py")
    write_json(RESULTS, results)
    why = read(WHY)
    texts = parts(results["jobs"], why)
    write_text(PAGE, fill(PAGE.read_text(encoding="utf-8"), texts))
    headline = {"headline": first_answers(results["jobs"])}
    write_text(README, fill(README.read_text(encoding="utf-8"), headline))
    from experiments.learning import figures  # matplotlib, which the page's test does without

    figures.draw_differences(results["jobs"], IMAGES / "learning.png")
    figures.draw_map(results["jobs"], IMAGES / "learning_map.png")
    print(answers(results["jobs"]))
    return 0


# ---- the page's parts ----------------------------------------------------------------------------------------------


def fill(page: str, texts: Mapping[str, str]) -> str:
    """The page with every part between its markers.

    Raises:
        DataError: a part that the page has no markers for, or markers without a part.
    """
    pattern = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
    named = [match[1] for match in pattern.findall(page)]
    if sorted(named) != sorted(texts):
        raise DataError(f"the page has the marked parts {', '.join(named)}, not {', '.join(texts)}")
    return pattern.sub(lambda match: f"{match[1]}{texts[match[2]]}\n{match[3]}", page)


def parts(jobs: Jobs, why: Mapping[str, Any]) -> dict[str, str]:
    """Every marked part of the page."""
    return {
        "answers": answers(jobs),
        "runs": runs_table(jobs),
        "scores": scores_table(jobs),
        "differences": differences_table(jobs),
        "others": others_table(jobs),
        "spread": spread_table(jobs),
        "map": map_part(jobs),
        "explored": explored_table(jobs),
        "why": why_table(why),
    }


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; "nothing yet" without lines."""
    if not lines:
        return "Nothing yet."
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in rows)


def answers(jobs: Jobs) -> str:
    """The headline: H1, H2, H4 and H5 at `pi3`, each with its word."""
    found = {pair: difference(jobs, "pi3", pair, "linear") for pair in PAIRS}
    if None in found.values():
        return "Nothing yet."
    h1, h2, worse = found["H1"], found["H2"], difference(jobs, "worse", "H1", "linear")
    there = f" At the noise `worse`: {worse.interval}, {worse.interval.verdict()}." if worse is not None else ""
    lines = [
        f"- Full LAM3C less raw inputs: **{h2.interval}** mIoU over {len(h2.by_seed)} seeds; "
        f"at least {LEAST:.0f}: {'yes' if holds(h2) else '**no**'} (H2). "
        f"Less random weights: {found['H3'].interval}, {found['H3'].interval.verdict()} (H3).",
        f"- Full LAM3C less clustering alone: **{h1.interval}**, {h1.interval.verdict()} (H1).{there}",
    ]
    rest = [
        f"{describe(pair)} {found[pair].interval}, {found[pair].interval.verdict()}" for pair in ("H4", "H5a", "H5b")
    ]
    lines.append(f"- Each term (H4, H5): {'; '.join(rest)}.")
    for pair, what in (("H2", "raw inputs"), ("H3", "random weights")):
        words: dict[str, list[str]] = {}
        for measure, name in MEASURES.items():
            if measure != "linear":
                words.setdefault(difference(jobs, "pi3", pair, measure).interval.verdict(), []).append(name)
        told = "; ".join(f"{word} in {', '.join(names)}" for word, names in words.items())
        lines.append(f"- Full LAM3C against {what} in the other measures (H6): {told}.")
    return "\n".join(lines)


def first_answers(jobs: Jobs) -> str:
    """What README quotes: H1 to H5, and whether the lead over raw inputs holds on noisy rooms."""
    noisy = difference(jobs, "pi3", "H2", "linear_noisy")
    if noisy is None:
        return answers(jobs)
    told = f"- On noisy rooms, with the probe of clean ones, full less raw inputs: {noisy.interval}, "
    return "\n".join([*answers(jobs).splitlines()[:3], f"{told}{noisy.interval.verdict()}."])


def runs_table(jobs: Jobs) -> str:
    """Which jobs were run where."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for key, job in jobs.items():
        kind, noise = key.split("-")[:2]
        what = "map" if kind.startswith("map") else f"{kind}, `{noise}`"
        seed = key.split("-")[-1]
        groups.setdefault((what, str(job["steps"]), job["machine"], job["commit"]), []).append(seed)
    lines = []
    for (what, steps, machine, commit), seeds in groups.items():
        lines.append([what, ", ".join(sorted(set(seeds), key=int)), str(len(seeds)), steps, machine, commit])
    lines.sort(key=lambda line: (not line[0].startswith("table"), line))
    return grid(("what", "seeds", "jobs", "steps", "machine", "commit"), lines)


def scores_table(jobs: Jobs) -> str:
    """Mean and standard deviation over the seeds, every noise, row and measure."""
    lines = []
    for noise, row in product(NOISES, ROWS):
        values = [np.array(list(figures_of(jobs, noise, row, measure).values())) for measure in MEASURES]
        if len(values[0]) > 1:
            scores = [f"{value.mean():.1f} ± {value.std(ddof=1):.1f}" for value in values]
            lines.append([f"`{noise}`", NAMES[row], *scores])
    return grid(("noise", "row", *MEASURES.values()), lines)


def differences_table(jobs: Jobs) -> str:
    """H1 to H5 in the linear probe on clean rooms."""
    lines = []
    for noise, pair in product(NOISES, PAIRS):
        found = difference(jobs, noise, pair, "linear")
        if found is not None:
            word = found.interval.verdict()
            if pair == "H2":
                word += f"; at least {LEAST:.0f}: {'yes' if holds(found) else 'no'}"
            signs = f"{found.above} : {found.below}"
            lines.append([f"`{noise}`", pair, describe(pair), str(found.interval), signs, f"{found.p:.2g}", word])
    return grid(("noise", "", "difference", "mean [95 % interval]", "above : below", "sign test p", "verdict"), lines)


def holds(found: Difference) -> bool:
    """Whether a difference lies wholly at or above what H2 asks for."""
    return found.interval.low >= LEAST


def others_table(jobs: Jobs) -> str:
    """H6: the same differences in all other measures, with the verdict where it is not "not shown"."""
    lines = []
    for noise in NOISES:
        for measure, name in MEASURES.items():
            found = {pair: difference(jobs, noise, pair, measure) for pair in PAIRS}
            if measure != "linear" and None not in found.values():
                lines.append([f"`{noise}`", name, *(_cell(one.interval) for one in found.values())])
    return grid(("noise", "measure", *(f"{pair}: {describe(pair)}" for pair in PAIRS)), lines)


def _cell(interval: Interval) -> str:
    return str(interval) if interval.verdict() == NOT_SHOWN else f"{interval} **{interval.verdict()}**"


def spread_table(jobs: Jobs) -> str:
    """H8: the spread of clustering over that of full."""
    lines = []
    for noise in NOISES:
        left, right = (figures_of(jobs, noise, row, "linear") for row in ("clustering", "full"))
        ratio = spread_ratio(left, right)
        if ratio is not None:
            text = f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
            lines.append([f"`{noise}`", str(len(left)), text, ratio.verdict(1.0)])
    return grid(("noise", "seeds", "spread of clustering / spread of full", "verdict"), lines)


def map_part(jobs: Jobs) -> str:
    """The longest map's table, and H7 of every map."""
    lengths = map_lengths(jobs)
    told = [f"- {steps} steps: {failures(map_runs(jobs, steps))}" for steps in lengths]
    return "\n".join([map_table(map_runs(jobs, lengths[0])), "", *told]) if lengths else "Nothing yet."


def map_table(runs: Mapping[tuple[str, int, float, float, int], dict[str, Any]]) -> str:
    """The cells of a map: mIoU of clustering and full, and how many runs failed."""
    lines = []
    for noise, prototypes, momentum in MAP_REST:
        cells = []
        for rate in MAP_RATES:
            chosen = [run for key, run in runs.items() if key[:4] == (noise, prototypes, momentum, rate)]
            texts = []
            for row in MAP_ROWS:
                values = [run["scores"][row] for run in chosen if row in run["scores"]]
                failed = sum(run["failed"][row] for run in chosen)
                texts.append(f"{np.mean(values):.1f}" + (f" ({failed} failed)" if failed else "") if values else "none")
            cells.append(" / ".join(texts))
        lines.append([f"`{noise}`, {prototypes}, {momentum:g}", *cells])
    return grid(("noise, prototypes, momentum", *(f"rate {rate:g}" for rate in MAP_RATES)), lines)


def failures(runs: Mapping[tuple[str, int, float, float, int], dict[str, Any]]) -> str:
    """H7 of a map."""
    failed = [{i: 100.0 * run["failed"][row] for i, run in enumerate(runs.values())} for row in MAP_ROWS]
    found = Difference.of(*failed)
    if found is None:
        return "fewer than two runs."
    shares = [f"{sum(value > 0 for value in row.values())} of {len(row)}" for row in failed]
    above = [run["scores"].get(row, 0.0) - run["scores"]["random"] for run in runs.values() for row in MAP_ROWS]
    return (
        f"clustering fails {shares[0]} times, full {shares[1]}; difference {found.interval} percent, "
        f"{found.interval.verdict()} (H7). The lowest run is {min(above):.1f} mIoU above its random weights."
    )


def explored_table(jobs: Jobs) -> str:
    """Other readings of the Laplacian term less clustering alone, all measures."""
    lines = []
    for noise, row in product(NOISES, EXPLORED):
        cells = []
        for measure in MEASURES:
            figures = (figures_of(jobs, noise, name, measure, "explored") for name in (row, "clustering"))
            if found := Difference.of(*figures):
                cells.append(_cell(found.interval))
        if cells:
            lines.append([f"`{noise}`", row, *cells])
    return grid(("noise", "reading", *MEASURES.values()), lines)


def why_table(why: Mapping[str, Any]) -> str:
    """Sizes and shares by case and step."""
    lines = []
    for case, steps in sorted(why.items(), reverse=True):
        for step, found in steps.items():
            low, middle, high = found["apart"]
            share, cosine, last = found["share"], found["cosine"], LAST_WEIGHT / found["weight"]
            lines.append(
                [
                    f"tiny, step {step}" if case == "tiny" else "Base, random weights",
                    f"{found['norm']:.0f}",
                    f"{middle:.1f} ({low:.1f} to {high:.1f})",
                    f"{100 * found['beyond']:.1f} %",
                    f"{100 * share['laplacian']:.1f} % at {found['weight']:.2g}",
                    f"{100 * last * share['laplacian']:.0f} %",
                    f"{cosine['laplacian']:+.2f}",
                    f"{100 * share['consistency']:.0f} %, {cosine['consistency']:+.2f}",
                ]
            )
    head = ("where", "‖z‖", "‖z_i − z_j‖ (10 to 90 %)", "edges beyond 0.5", "Laplacian at λ", "at λ = 0.003", "cosine")
    return grid((*head, "consistency, cosine"), lines)


if __name__ == "__main__":
    sys.exit(run_main(main))

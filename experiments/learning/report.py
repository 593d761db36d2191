"""Writes docs/learning.md and its pictures from a results file: every figure and every verdict comes out of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_tools.stages.files import write_text
from experiments.learning import data_section, terms_section
from experiments.learning.collapse import COLLAPSING, WHY
from experiments.learning.markdown import cell, flat, in_words, minutes, table
from experiments.learning.monitor import MEASURES, Curves
from experiments.learning.scores import AXES, Results, row_title
from experiments.learning.verdicts import NO, NOT_RUN, UNDECIDED, YES, Verdict, verdicts

CLASS_ROWS = ("random", "clustering", "full")
CURVE_NOTE = (
    "Bars are the standard deviation over the seeds; a point without a bar has one seed. A curve has only the seeds\n"
    "of all its points, so that at the table's setting it can differ from the table."
)
#: what was tried where a claim does not show; written by people, taken over as it is, left out where there is none
TRIED = Path(__file__).with_name("tried.md")
SIGNS = {"target_entropy", "effective_rank", "feature_spread"}  # rules that this collapse breaks
AXIS_NAMES = {"step": "steps", "rooms": "number of rooms", "noise": "noise"}


def write(results: Path, docs: Path, images: Path | None) -> list[Path]:
    """Write the page and its pictures.

    Args:
        results: the results file; checkpoints and rooms are looked for beside it.
        docs: the page, or the folder that gets ``learning.md``.
        images: folder of the pictures; None: a page without pictures.

    Returns:
        The files written, the page first.

    Raises:
        DataError: the results file cannot be used.
    """
    found = Results(results)
    page = docs if docs.suffix == ".md" else docs / "learning.md"
    shown, written = _pictures(found, page, images)
    text = "\n\n".join(
        part.strip()
        for part in (
            _head(found),
            _verdicts(verdicts(found)),
            _tried(found),
            _protocol(found),
            data_section.section(found),
            _scores(found),
            _classes(found),
            _curves(found, shown),
            terms_section.section(found),
            _features(shown),
            _collapse(found, shown),
            _again(found),
        )
        if part
    )
    write_text(page, text + "\n")
    return [page, *written]


# ---- pictures ----------------------------------------------------------------------------------------------------


def _pictures(results: Results, page: Path, images: Path | None) -> tuple[dict[str, str], list[Path]]:
    """Picture -> its Markdown, or the reason why it is left out; and the files written."""
    names = [*AXES, "features", "monitor"]
    if images is None:
        return {name: "_No picture: none was asked for._" for name in names}, []
    from experiments.learning import figures

    shown, written = {}, []
    for name in names:
        path = images / f"{name}.png"
        if name == "features":
            reason = figures.draw_features(results, path)
        elif name == "monitor":
            healthy, collapsing = monitored(results)
            lacking = [row for row, run in (("full", healthy), ("collapsing", collapsing)) if run is None]
            reason = f"no curves of the row {' and '.join(lacking)}" if lacking else None
            reason = reason or figures.draw_monitor(healthy or {}, collapsing or {}, path)
        else:
            reason = figures.draw_curve(results, name, path)
        if reason is None:
            link = Path(os.path.relpath(path, page.parent)).as_posix()
            shown[name] = f"![{AXIS_NAMES.get(name, name)}]({link})"
            written.append(path)
        else:
            shown[name] = f"_No picture: {reason}._"
            path.unlink(missing_ok=True)  # of an earlier results file
    return shown, written


def monitored(results: Results) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """A pre-training of full LAM3C and the collapsing one, with monitor's curves; of equal steps where there is one."""

    def runs(row: str) -> list[dict[str, Any]]:
        found = [run for run in results.pretrain if run["row"] == row and (run.get("monitor") or {}).get("step")]
        return sorted(found, key=lambda run: run["seed"])

    collapsing = next(iter(runs("collapsing")), None)
    like = (collapsing or {}).get("steps"), (collapsing or {}).get("rooms")
    healthy = max(runs("full"), key=lambda r: ((r["steps"], r["rooms"]) == like, r["steps"] == like[0]), default=None)
    return healthy, collapsing


# ---- sections ----------------------------------------------------------------------------------------------------


def _is_plain(results: Results) -> bool:
    """Whether a preset ran as it is."""
    return "--set" not in results.data.get("command", "").split()


def _tried(results: Results) -> str:
    """What people wrote about the way to the presets' numbers."""
    if not (TRIED.is_file() and _is_plain(results)):
        return ""
    return f"## What was tried\n\n{TRIED.read_text(encoding='utf-8')}"


def _head(results: Results) -> str:
    preset = results.data.get("preset", "?")
    command = results.data.get("command") or f"python experiments/learning/run.py --preset {preset}"
    varied = (
        "" if _is_plain(results) else f"\n\nA variation of the preset `{preset}`: see [the preset's page](learning.md)."
    )
    return f"""# Does it learn? A proof in minutes

<!-- written by experiments/learning/report.py from a results file: change that, not this page -->

Nobody reruns the paper's tables on a desk. This is the method in miniature: pre-train without labels on rooms as noisy
as clouds made from video, then probe on clean, labelled rooms that were never seen. One command does all of it:

```sh
{command}
```{varied}

The numbers tell whether the method learns in this project's hands. They are made of made rooms and small networks: do
not compare them with the paper's.{_of_no_meaning(preset)}"""


def _of_no_meaning(preset: str) -> str:
    if preset != "smoke":
        return ""
    return "\n\n**The preset `smoke` only shows that every part runs: its figures mean nothing.**"


def _verdicts(found: Sequence[Verdict]) -> str:
    count = Counter(verdict.answer for verdict in found)
    answers = ", ".join(f"{count[answer]} {answer}" for answer in (YES, UNDECIDED, NO, NOT_RUN) if count[answer])
    total = f"{len(found)} claims: {answers}."
    rows = [(verdict.claim, f"**{verdict.answer}**", verdict.figures) for verdict in found]
    plainly = [f"- Does not show here: {verdict.claim}." for verdict in found if verdict.answer in (NO, UNDECIDED)]
    text = f"""## Verdicts

{total} The answers are computed from the scores on the test rooms.
Figures are mIoU in percent, mean ± spread over the seeds (standard deviation, ddof 1). The spread of a difference is
the root of the sum of both squares. *Undecided*: lower, but by no more than twice that spread.

{table(("claim", "holds?", "figures"), rows)}"""
    return "\n\n".join([text, *(["\n".join(plainly)] if plainly else [])])


def _protocol(results: Results) -> str:
    main, shares = results.main, results.shares() or results.settings.get("shares", [])
    tuned = in_words(f"{100 * share:g}" for share in shares)
    trained = "No pre-training is in the results file."
    if main is not None:
        seeds = sorted({run["seed"] for run in results.pretrain if run["row"] != "collapsing"})
        trained = (
            f"Every row is pre-trained for {main.steps:,} steps on {main.rooms:,} rooms of the noise\n"
            f"   `{main.noise}`, with batches of the same size and the same schedule; seeds: {len(seeds)}."
        )
    return f"""## What is asked, and how

1. **Pre-training**, without labels. {trained}
2. **Linear probe**: a multinomial logistic regression on the frozen encoder's features of all levels. Its
   regularisation is chosen on the validation rooms. **kNN probe**: votes of the nearest by cosine.
3. **Fine-tuning** of the encoder and of a linear layer on all its levels with {tuned} % of the labelled rooms; from
   pre-trained weights the layer starts as the linear probe of those rooms (LP-FT, arXiv 2202.10054).
   The smaller sets lie in the larger ones; every row and seed gets the same rooms and steps.{_scratch(results)}
4. All settings were chosen on the validation rooms. The test rooms are scored once a run.

mIoU is the mean over the classes that occur in the split.
{_decays(results)}"""


def _scratch(results: Results) -> str:
    """What training from scratch does differently."""
    options = flat({key: str(value) for key, value in results.settings.get("scratch_options", {}).items()})
    if not options:
        return ""
    shown = ", ".join(f"`{key}={value}`" for key, value in options)
    return f"\n   Training from scratch has its own learning rates: {shown}."


def _decays(results: Results) -> str:
    """What was chosen on the validation rooms for the linear probe."""
    chosen: dict[str, set[float]] = {}
    for entry in results.data.get("probe", []):
        if entry["probe"] == "linear" and entry["split"] == "test" and entry.get("decay") is not None:
            chosen.setdefault(entry["row"], set()).add(entry["decay"])
    parts = [
        f"{row_title(row)} {' / '.join(f'{value:g}' for value in sorted(chosen[row]))}"
        for row in results.rows()
        if row in chosen
    ]
    return f"Regularisation chosen on validation: {', '.join(parts)}." if parts else ""


def _scores(results: Results) -> str:
    rows = results.rows()
    if not rows:
        return "## Results\n\n_The results file holds no scores._"
    shares = results.shares()
    header = ("row", "linear probe", "kNN probe", *(f"fine-tuned, {100 * share:g} % of the labels" for share in shares))
    body = []
    for row in rows:
        tuned = [cell(results.finetune(row, share)) for share in shares]
        body.append((row_title(row), cell(results.probe(row)), cell(results.probe(row, "knn")), *tuned))
    lines = f"## Results\n\nmIoU on the test rooms in percent, {_seed_counts(results)}.\n\n{table(header, body)}"
    views = [row for row in rows if row.startswith("full-")]
    if views:
        lines += (
            "\n\n*View* is the view that the consistency term compares with ([method](method.md)); here it is `cross`."
        )
    return lines


def _seed_counts(results: Results) -> str:
    counts = {
        len(score.by_seed)
        for row in results.rows()
        for score in (results.probe(row), *(results.finetune(row, share) for share in results.shares()))
        if score is not None
    }
    if not counts:
        return "no row scored"
    if max(counts) == 1:
        return "one seed, so without a spread"
    shown = str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return f"mean ± standard deviation (ddof 1) over {shown} seeds; – where a row was not run"


def _classes(results: Results) -> str:
    columns = {row: iou for row in CLASS_ROWS if (iou := results.class_iou(row))}
    if not columns:
        return "### By class\n\n_No IoU by class: no linear probe of the rows was scored on the test rooms._"
    body = [
        (name, *("–" if value is None else f"{value:.1f}" for value in values))
        for name, *values in zip(results.classes, *columns.values(), strict=True)
    ]
    return f"""### By class

IoU of the linear probe on the test rooms in percent, mean over the seeds; – where the class does not occur.

{table(("class", *map(row_title, columns)), body)}"""


def _curves(results: Results, shown: dict[str, str]) -> str:
    parts = ["## Curves", CURVE_NOTE]
    for axis in AXES:
        parts += [f"### Against the {AXIS_NAMES[axis]}", shown[axis]]
        split, curves = results.curves(axis)
        if not curves:
            continue
        values = list(dict.fromkeys(value for curve in curves.values() for value in curve))
        if axis != "noise":
            values.sort()
        body = [(row_title(row), *(cell(curve.get(value)) for value in values)) for row, curve in curves.items()]
        parts.append(f"Linear probe, {split} rooms:")
        parts.append(table((AXIS_NAMES[axis], *map(str, values)), body))
    return "\n\n".join(parts)


def _features(shown: dict[str, str]) -> str:
    return f"""## The same rooms before and after

Rooms of the test split, seen neither in pre-training nor by the probe. Colours are the first three principal components
of the features of level 2, each network's own: equal colours in one picture mean like features.

{shown["features"]}"""


def _collapse(results: Results, shown: dict[str, str]) -> str:
    options = " ".join(f"{key}={value}" for key, value in COLLAPSING.items())
    parts = [
        "## What a collapse looks like",
        f"Full LAM3C, and the same with one number made wrong:\n\n```sh\n--options {options}\n```\n\n{WHY}",
        shown["monitor"],
    ]
    stops = results.settings.get("curve_steps")
    if stops:
        paused = in_words(map(str, stops))
        parts.append(
            f"A run pauses for the checkpoints of the curve over steps (steps {paused}): the window over which\n"
            "prototypes in use are counted then starts anew, which shows as a dip."
        )
    curves = [Curves.of(run) for run in monitored(results) if run is not None]
    if len(curves) == 2:
        parts += [_ends_table(*curves), _warned("healthy", curves[0]), _warned("collapsing", curves[1])]
        parts.append(f"It keeps quiet for the first {curves[1].grace:.0f} steps. {_collapsed(curves[1])}")
    return "\n\n".join(parts)


def _ends_table(healthy: Curves, collapsing: Curves) -> str:
    body = []
    for key, title in MEASURES.items():
        ends = [healthy.ends(key), collapsing.ends(key)]
        if None not in ends:
            body.append((title, *(f"{value:.3g}" for pair in ends for value in pair or ())))
    header = ("mean of a tenth of the run", "healthy, first", "last", "collapsing, first", "last")
    return table(header, body)


def _collapsed(curves: Curves) -> str:
    """Whether the run that was made to collapse did."""
    rank = curves.ends("effective_rank")
    figures = f": its effective rank went from {rank[0]:.1f} to {rank[1]:.1f}" if rank else ""
    if curves.total_steps <= curves.grace:
        return f"The run of {curves.total_steps} steps ends within them{figures}."
    if set(curves.warnings) & SIGNS:
        return f"The run did collapse{figures}."
    return f"The run did **not** collapse in its {curves.total_steps} steps{figures}. The picture shows no collapse."


def _warned(name: str, curve: Curves) -> str:
    """What the monitor's rules say to a run, from its curves."""
    if not curve.warnings:
        return f"The monitor says nothing about the {name} run."
    parts = [f"`{rule}` from step {step}" for rule, step in sorted(curve.warnings.items(), key=lambda item: item[1])]
    return f"The monitor warns of the {name} run: {', '.join(parts)}."


def _again(results: Results) -> str:
    data = results.data
    machine = "\n".join(f"- {key}: {value}" for key, value in flat(data.get("machine", {})))
    versions = ", ".join(f"{key} {value}" for key, value in flat(data.get("versions", {})))
    failed = [f"- `{job['id']}`: {' '.join(str(job['error']).split())}" for job in data.get("failed", [])]
    settings = [(f"`{key}`", value) for key, value in flat(results.settings)]
    lines = [
        "## Run it again",
        f"""```sh
{data.get("command", "python experiments/learning/run.py")}
```""",
        f"""A killed run goes on with the same command. Jobs that are done are not done again.

- wall time {minutes(data.get("wall_seconds"))}, CPU time {minutes(data.get("cpu_seconds"))}
- commit {data.get("commit") or "unknown"}
- {versions}
{machine}""",
        _by_hand(results),
        "### Jobs that failed\n\n" + "\n".join(failed) if failed else "",
        _open(data.get("open", [])),
        f"### Settings\n\nOf the preset `{data.get('preset', '?')}`.\n\n{table(('setting', 'value'), settings)}",
    ]
    return "\n\n".join(line for line in lines if line)


def _open(jobs: Sequence[str]) -> str:
    """Jobs that were not run when the results were written."""
    return f"Not run yet when this was written: {len(jobs)} jobs ({', '.join(jobs)})." if jobs else ""


def _by_hand(results: Results) -> str:
    """The engine's command of a pre-training of full LAM3C."""
    commands = [run["command"] for run in results.pretrain if run["row"] == "full" and run.get("command")]
    if not commands:
        return ""
    return f"Its parts are calls of the engine. The first pre-training of full LAM3C:\n\n```sh\n{commands[0]}\n```"

"""The tables and pictures of a results file, written beside it: all numbers that a page about it needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_tools.stages.files import write_text
from experiments.learning.monitor import MEASURES, Curves
from experiments.learning.scores import AXES, Results, Score, row_title
from experiments.learning.terms import REGULARISERS
from experiments.learning.verdicts import verdicts

CLASS_ROWS = ("random", "clustering", "full")
Table = tuple[str, Sequence[str], Iterable[Sequence[Any]]]  # title, header, rows


def write(results: Path) -> list[Path]:
    """Write ``tables.md`` and the pictures into the results' folder.

    A picture that an earlier results file gave and this one does not is removed.

    Args:
        results: the results file; checkpoints and rooms are looked for beside it.

    Returns:
        The files written, the tables first.

    Raises:
        DataError: the results file cannot be used.
    """
    found = Results(results)
    pictures, left_out = _draw(found)
    tables = [_verdicts(found), _scores(found), _classes(found), *_curves(found), _terms(found), *_monitor(found)]
    parts = [f"## {title}\n\n{table(header, rows)}" for title, header, rows in filter(None, tables)]
    notes = [f"- no {name}.png: {reason}" for name, reason in left_out.items()]
    notes += [f"- `{job['id']}` failed: {' '.join(str(job['error']).split())}" for job in found.data.get("failed", [])]
    notes += [f"- `{job}` has not run" for job in found.data.get("open", [])]
    parts += ["## Left out\n\n" + "\n".join(notes)] if notes else []
    head = f"`{found.data['command']}` at commit {found.data['commit'] or 'unknown'}; mIoU and IoU in percent"
    path = results.with_name("tables.md")
    write_text(path, "\n\n".join([head, *parts]) + "\n")
    return [path, *pictures]


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; bars in a cell are escaped, line breaks become blanks."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[" ".join(str(item).split()).replace("|", "\\|") for item in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _draw(results: Results) -> tuple[list[Path], dict[str, str]]:
    """The pictures written, and name -> reason of those left out."""
    from experiments.learning import figures

    written, left_out = [], {}
    for name in (*AXES, "features", "monitor"):
        path = results.root / f"{name}.png"
        if name in AXES:
            reason = figures.draw_curve(results, name, path)
        else:
            reason = {"features": figures.draw_features, "monitor": figures.draw_monitor}[name](results, path)
        if reason is None:
            written.append(path)
        else:
            left_out[name] = reason
            path.unlink(missing_ok=True)
    return written, left_out


# ---- tables ------------------------------------------------------------------------------------------------------


def _cell(score: Score | None) -> str:
    return "–" if score is None else str(score)


def _verdicts(results: Results) -> Table:
    rows = [(verdict.claim, verdict.answer, verdict.figures) for verdict in verdicts(results)]
    return "Verdicts", ("claim", "holds?", "figures"), rows


def _scores(results: Results) -> Table:
    shares = results.shares()
    header = ("row", "linear probe", "kNN probe", *(f"fine-tuned, {100 * share:g} % of the labels" for share in shares))
    rows = []
    for row in results.rows():
        tuned = [_cell(results.finetune(row, share)) for share in shares]
        rows.append((row_title(row), _cell(results.probe(row)), _cell(results.probe(row, "knn")), *tuned))
    return "mIoU on the test rooms", header, rows


def _classes(results: Results) -> Table | None:
    columns = {row: iou for row in CLASS_ROWS if (iou := results.class_iou(row))}
    if not columns:
        return None
    rows = [
        (name, *("–" if value is None else f"{value:.1f}" for value in values))
        for name, *values in zip(results.classes, *columns.values(), strict=True)
    ]
    return "IoU of the linear probe by class", ("class", *map(row_title, columns)), rows


def _curves(results: Results) -> list[Table]:
    tables = []
    for axis in AXES:
        split, curves = results.curves(axis)
        values = list(dict.fromkeys(value for curve in curves.values() for value in curve))
        if axis != "noise":
            values.sort()
        rows = [(row_title(row), *(_cell(curve.get(value)) for value in values)) for row, curve in curves.items()]
        if rows:
            tables.append((f"Linear probe against the {axis}, {split} rooms", (axis, *map(str, values)), rows))
    return tables


def _terms(results: Results) -> Table | None:
    """Length of the regularisers' gradients over that of the clustering's, and the cosine between both."""
    runs = results.data.get("terms", [])
    if not runs:
        return None
    steps = runs[0]["steps"]
    rows = []
    for name in REGULARISERS:
        found = [item["terms"][name] for item in steps if name in item["terms"]]
        if len(found) == len(steps):
            rows.append((name, *(f"{term['share']:.3f}, {term['cosine']:+.2f}" for term in found)))
    header = ("term", *(f"step {item['step']}" for item in steps))
    return f"Gradients beside the clustering's (share, cosine), seed {runs[0]['seed']}", header, rows


def _monitor(results: Results) -> list[Table]:
    """Measures of the first and last tenth of a healthy and a collapsing run, and what the monitor warns of."""
    tables = []
    for run in filter(None, results.monitored()):
        curves = Curves.of(run)
        rows = []
        for key, title in MEASURES.items():
            ends = curves.ends(key)
            if ends is not None:
                rows.append((title, f"{ends[0]:.3g}", f"{ends[1]:.3g}", curves.warnings.get(key, "–")))
        title = f"Monitor of {run['id']}, quiet for the first {curves.grace:.0f} of {curves.total_steps} steps"
        tables.append((title, ("mean of a tenth of the run", "first", "last", "warns from step"), rows))
    return tables

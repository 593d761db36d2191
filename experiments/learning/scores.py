"""Numbers of a results file as the tables need them: means and spreads over seeds, curves, IoU by class.

mIoU and IoU are shares in 0..1 in the file and points (0..100) here.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from data_tools.synthetic.rooms.noise import NOISE_LEVELS
from lam3c_plugin.errors import DataError

VERSION = 1
ROWS = {
    "random": "random features",
    "scratch": "supervised from scratch",
    "clustering": "clustering only",
    "laplacian": "clustering + Laplacian",
    "consistency": "clustering + consistency",
    "full": "full LAM3C",
    "released": "full, released distance mistakes",
    "collapsing": "made to collapse",
}
AXES = ("step", "rooms", "noise")
FINAL = "final"  # of a pre-training: its last step


@dataclass(frozen=True)
class Score:
    """A figure in points by seed."""

    by_seed: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return fmean(self.by_seed.values())

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds (ddof 1); NaN for one seed."""
        return stdev(self.by_seed.values()) if len(self.by_seed) > 1 else math.nan

    def __str__(self) -> str:
        """``43.1 ± 0.8``; without a spread where there is one seed."""
        return f"{self.mean:.1f}" if math.isnan(self.spread) else f"{self.mean:.1f} ± {self.spread:.1f}"


@dataclass(frozen=True)
class Setting:
    """What a row is pre-trained with, beside its recipe and its seed."""

    rooms: int
    noise: str
    steps: int


def row_title(row: str) -> str:
    """The row's name for people; a variant of the consistency view is named after the view."""
    if row not in ROWS and row.startswith("full-"):
        return f"full LAM3C, consistency on the {row.removeprefix('full-')} view"
    return ROWS.get(row, row)


class Results:
    """A results file; ``root`` is the folder it lies in, where checkpoints and rooms may lie as well.

    Raises:
        DataError: the file cannot be read, or is none of this version.
    """

    def __init__(self, path: Path) -> None:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path}: cannot be read ({error}); run `python experiments/learning/run.py` first"
            ) from error
        found = data.get("version") if isinstance(data, dict) else None
        if found != VERSION:
            raise DataError(f"{path}: version {found!r}, these tables need {VERSION}; make the file again")
        self.root = path.parent
        self.data: dict[str, Any] = data
        self.pretrain: list[dict[str, Any]] = [run for run in data.get("pretrain", []) if run["row"] != "random"]
        self.settings: dict[str, Any] = data.get("settings", {})
        self.classes: list[str] = data.get("classes", [])
        self._steps = {run["id"]: run["steps"] for run in self.pretrain}
        self.main = self._main_setting()

    def _main_setting(self) -> Setting | None:
        """The setting that most runs (row and seed) share: the table's. The others are points of curves."""
        runs = {(run["row"], run["seed"], run["rooms"], run["noise"], run["steps"]) for run in self.pretrain}
        count = Counter(Setting(*run[2:]) for run in runs if run[0] != "collapsing")
        if not count:
            return None
        return max(count, key=lambda setting: (count[setting], setting.noise == "pi3", setting.rooms, setting.steps))

    def monitored(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """A pre-training of full LAM3C and the collapsing one that have curves, of equal steps where there are such."""

        def runs(row: str) -> list[dict[str, Any]]:
            found = [run for run in self.pretrain if run["row"] == row and run["monitor"]["step"]]
            return sorted(found, key=lambda run: run["seed"])

        collapsing = next(iter(runs("collapsing")), None)
        like = (collapsing or {}).get("steps"), (collapsing or {}).get("rooms")
        healthy = max(
            runs("full"), key=lambda r: ((r["steps"], r["rooms"]) == like, r["steps"] == like[0]), default=None
        )
        return healthy, collapsing

    # ---- rows ----------------------------------------------------------------------------------------------------

    def rows(self) -> list[str]:
        """Rows that were scored, in the order of `ROWS`, others after ``full``."""
        found = {entry["row"] for kind in ("probe", "finetune") for entry in self.data.get(kind, [])}
        order = list(ROWS)

        def rank(row: str) -> tuple[float, str]:
            return (order.index(row) if row in ROWS else order.index("full") + 0.5, row)

        return sorted(found - {"collapsing"}, key=rank)

    def probe(
        self,
        row: str,
        kind: str = "linear",
        split: str = "test",
        *,
        rooms: int | None = None,
        noise: str | None = None,
        step: int | str = FINAL,
    ) -> Score | None:
        """Score of a row's frozen features, at the main setting but for what is named; None: not run."""
        wanted = {"rooms": rooms, "noise": noise}
        return score(entry for entry in self._probes(row, kind, split) if self._fits(entry, wanted, step))

    def finetune(self, row: str, share: float, split: str = "test") -> Score | None:
        """Score of a row after fine-tuning with a share of the labelled rooms; None: not run."""
        return score(
            entry
            for entry in self.data.get("finetune", [])
            if entry["row"] == row and entry["split"] == split and math.isclose(entry["share"], share)
        )

    def shares(self) -> list[float]:
        """Shares of labels that were fine-tuned on."""
        return sorted({entry["share"] for entry in self.data.get("finetune", [])})

    def class_iou(self, row: str, split: str = "test") -> list[float | None]:
        """Mean over seeds of the linear probe's IoU of every class in points; None where the class never occurs."""
        entries = [e for e in self._probes(row, "linear", split) if self._fits(e, {}, FINAL)]
        columns = zip(*(entry["iou"] for entry in entries), strict=True)
        return [fmean(known) * 100 if (known := [v for v in column if _known(v)]) else None for column in columns]

    def _probes(self, row: str, kind: str, split: str) -> list[dict[str, Any]]:
        return [
            entry
            for entry in self.data.get("probe", [])
            if entry["row"] == row
            and entry["probe"] == kind
            and entry["split"] == split
            and math.isclose(entry.get("share", 1.0), 1.0)
        ]

    def _fits(self, entry: Mapping[str, Any], wanted: Mapping[str, Any], step: int | str) -> bool:
        """Whether a probe is of the main setting but for ``wanted``; random features have no setting."""
        if entry["source"] not in self._steps:
            return True
        last = self._steps[entry["source"]]
        if self.main is None or last != self.main.steps or entry["step"] != (last if step == FINAL else step):
            return False
        return all(
            entry[key] == (getattr(self.main, key) if wanted.get(key) is None else wanted[key])
            for key in ("rooms", "noise")
        )

    # ---- curves --------------------------------------------------------------------------------------------------

    def curve(self, axis: str, row: str, kind: str, split: str) -> dict[Any, Score]:
        """Scores by step, rooms or noise, the rest as in the main setting; fewer than two points are no curve.

        ``axis`` is one of `AXES`. Noise levels come in their order, numbers ascending. Only seeds that all points
        have count, where there are such: the table's setting may have more seeds than its neighbours on the curve.
        """
        entries = [entry for entry in self._probes(row, kind, split) if entry["source"] in self._steps]
        values = {entry[axis] for entry in entries}
        levels = list(NOISE_LEVELS)
        order = sorted(values, key=levels.index) if axis == "noise" else sorted(values)
        points = {value: self.probe(row, kind, split, **{axis: value}) for value in order}
        found = {value: point for value, point in points.items() if point is not None}
        if len(found) < 2:
            return {}
        shared = set.intersection(*(set(point.by_seed) for point in found.values()))
        if not shared:
            return found
        return {value: Score({seed: p.by_seed[seed] for seed in sorted(shared)}) for value, p in found.items()}

    def curves(self, axis: str, kind: str = "linear") -> tuple[str, dict[str, dict[Any, Score]]]:
        """The split with the longest curves (test where both are alike), and the curve of every row that has one."""
        found = {
            split: {row: c for row in self.rows() if (c := self.curve(axis, row, kind, split))}
            for split in ("test", "val")
        }
        split = max(found, key=lambda name: sum(map(len, found[name].values())))  # the first of equals: test
        return split, found[split]


def score(entries: Iterable[Mapping[str, Any]]) -> Score | None:
    """mIoU in points by seed, several of a seed averaged; None without any."""
    values: dict[int, list[float]] = defaultdict(list)
    for entry in entries:
        if _known(entry["m_iou"]):
            values[entry["seed"]].append(100 * entry["m_iou"])
    return Score({seed: fmean(values[seed]) for seed in sorted(values)}) if values else None


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)

"""The jobs that a preset of the learning proof comes to: rooms, pre-trainings, probes, fine-tunings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data_tools.stages.scene_folder import settings_hash
from experiments.learning.engine import FINETUNE, PRETRAIN, recipe
from experiments.learning.presets import PRETRAIN_ROWS, RANDOM, SCRATCH, SEEDS, SPLITS, Preset
from lam3c_plugin.errors import ConfigError, did_you_mean

TERM_BATCHES = 4  # of a checkpoint, for what the terms pull at


@dataclass(frozen=True)
class Pretrain:
    """A pre-training, or with row "random" its weights before the first step."""

    row: str
    seed: int
    rooms: int
    noise: str
    steps: int
    curve: str = ""  # what sets it apart from the table's runs, as part of the name

    @property
    def id(self) -> str:
        """Name of its job."""
        return "-".join([self.row, *([self.curve] if self.curve else []), str(self.seed)])


@dataclass(frozen=True)
class Job:
    """Work with a folder of its own.

    Attributes:
        id: name of the folder.
        kind: one of ``worker.WORK``.
        row: that it belongs to; "" for data.
        spec: everything its result depends on, plain JSON.
        needs: jobs that have to be done before.
        effort: steps, or rooms; the time left is told from it.
        alone: takes all processes by itself.
    """

    id: str
    kind: str
    row: str
    spec: dict[str, Any]
    needs: tuple[str, ...] = ()
    effort: float = 1.0
    alone: bool = False


def digests(jobs: Sequence[Job]) -> dict[str, str]:
    """What a job's result depends on, those of its needs included, as a short text by id."""
    found: dict[str, str] = {}
    sets: dict[str, str] = {}  # rooms are made one by one: those of a set stay as they are when there are more
    for job in jobs:
        needs = [sets.get(need, found[need]) for need in job.needs]
        found[job.id] = settings_hash({"kind": job.kind, "spec": job.spec, "needs": needs})
        if job.kind == "data":
            sets[job.id] = settings_hash({key: value for key, value in job.spec.items() if key != "rooms"})
    return found


def make_jobs(preset: Preset, only: Sequence[str] = ()) -> list[Job]:
    """All jobs in the order in which they are best started; each comes after those it needs.

    Args:
        preset: the numbers.
        only: rows to run; none: all of the preset.

    Raises:
        ConfigError: a row that the preset does not run.
    """
    ran = {*preset.rows, *preset.finetune_rows}
    for row in only:
        if row not in ran:
            raise ConfigError(f"--only {row}: the preset {preset.name} does not run it{did_you_mean(row, ran)}")
    runs = [run for run in _pretrainings(preset) if not only or run.row in only]
    jobs: list[Job] = []
    for run in runs:
        jobs.append(_random(preset, run) if run.row == RANDOM else _pretraining(preset, run))
        if run.row != "collapsing":
            jobs += _probings(preset, run)
        if run.row == "full" and run.seed == preset.seeds[0] and not run.curve:
            jobs.append(_terms(preset, run))
        if run.row in preset.finetune_rows and not run.curve:
            jobs += _finetunings(preset, run.row, run.seed, run.id)
    if SCRATCH in preset.finetune_rows and (not only or SCRATCH in only):
        for seed in preset.seeds:
            weights = Pretrain(RANDOM, seed, preset.rooms, preset.noise, preset.pretrain_steps)
            if all(job.id != weights.id for job in jobs):
                jobs.append(_random(preset, weights))
            jobs += _finetunings(preset, SCRATCH, seed, weights.id)
    data = {job.id: job for job in _data_jobs(preset, runs)}
    # of the curves last: when time is short, the table is whole
    jobs.sort(key=lambda job: (job.spec.get("curve", "") != "", job.spec.get("row") == "collapsing", job.spec["seed"]))
    used = {need for job in jobs for need in job.needs}
    return [*(job for job in data.values() if job.id in used), *jobs]


def _pretrainings(preset: Preset) -> list[Pretrain]:
    base = dict(rooms=preset.rooms, noise=preset.noise, steps=preset.pretrain_steps)
    rows = [row for row in preset.rows if row != SCRATCH]
    runs = [
        Pretrain(row, seed, **base)
        for seed in preset.seeds
        for row in rows
        if row != "collapsing" or seed == preset.seeds[0]
    ]
    for row in preset.curve_rows:
        for seed in preset.curve_seeds:
            runs += [
                Pretrain(row, seed, **{**base, "rooms": rooms}, curve=f"rooms{rooms}")
                for rooms in preset.curve_rooms
                if rooms != preset.rooms
            ]
            runs += [
                Pretrain(row, seed, **{**base, "noise": noise}, curve=noise)
                for noise in preset.curve_noise
                if noise != preset.noise
            ]
    return runs


def _data_jobs(preset: Preset, runs: Sequence[Pretrain]) -> list[Job]:
    most = {noise: max(run.rooms for run in runs if run.noise == noise) for noise in sorted({r.noise for r in runs})}
    sets = {f"data-pretrain-{noise}": ("pretrain", noise, rooms) for noise, rooms in most.items()}
    numbers = dict(zip(SPLITS, (preset.train_rooms, preset.val_rooms, preset.test_rooms), strict=True))
    sets |= {f"data-{split}": (split, "clean", number) for split, number in numbers.items()}
    return [
        Job(
            name,
            "data",
            "",
            {"set": part, "noise": noise, "rooms": rooms, "points": preset.room_points, "seed": SEEDS[part]},
            effort=rooms,
            alone=True,
        )
        for name, (part, noise, rooms) in sets.items()
    ]


def _recipe(preset: Preset, run: Pretrain) -> dict[str, Any]:
    """A pre-training's config and the options over it; the row decides last."""
    row = {} if run.row == RANDOM else PRETRAIN_ROWS[run.row](preset.pretrain_options)
    return {"recipe": recipe(PRETRAIN), "options": {**preset.pretrain_options, **row}}


def _random(preset: Preset, run: Pretrain) -> Job:
    spec = {"row": run.row, "seed": run.seed, **_recipe(preset, run)}
    return Job(run.id, "random", run.row, spec)


def _pretraining(preset: Preset, run: Pretrain) -> Job:
    spec = {**asdict(run), **_recipe(preset, run), "save_steps": preset.save_steps}
    spec["stops"] = list(_stops(preset, run))
    return Job(run.id, "pretrain", run.row, spec, (f"data-pretrain-{run.noise}",), effort=run.steps)


def _terms(preset: Preset, run: Pretrain) -> Job:
    job = _pretraining(preset, run)
    spec = {**job.spec, "source": run.id, "batches": TERM_BATCHES}
    return Job(f"terms-{run.id}", "terms", run.row, spec, (run.id, *job.needs), effort=len(spec["stops"]) + 1)


def _stops(preset: Preset, run: Pretrain) -> tuple[int, ...]:
    """Steps at which a checkpoint is kept for the curve over steps."""
    return preset.curve_steps if run.row in preset.curve_rows and not run.curve and run.row != RANDOM else ()


def _probings(preset: Preset, run: Pretrain) -> list[Job]:
    labelled = tuple(f"data-{split}" for split in SPLITS)
    effort = preset.train_rooms + preset.val_rooms + preset.test_rooms
    names = ("probe_part", "probe_points", "eval_points", "probe_decays", "probe_steps", "bank", "neighbours")
    settings = {name: getattr(preset, name) for name in names}
    rooms = {"train_rooms": preset.train_rooms, "val_rooms": preset.val_rooms, "test_rooms": preset.test_rooms}
    last = 0 if run.row == RANDOM else run.steps
    jobs = []
    for step in (*_stops(preset, run), last):
        spec = {**asdict(run), **settings, **rooms, "source": run.id, "step": step, "last": step == last}
        if run.row == RANDOM:
            spec |= {"rooms": 0, "noise": ""}
        if step != last:
            spec["curve"] = "steps"
        jobs.append(Job(f"probe-{run.id}-{step}", "probe", run.row, spec, (run.id, *labelled), effort=effort))
    return jobs


def _finetunings(preset: Preset, row: str, seed: int, source: str) -> list[Job]:
    labelled = tuple(f"data-{split}" for split in SPLITS)
    options = {**preset.finetune_options, **(preset.scratch_options if row == SCRATCH else {})}
    jobs = []
    for share in preset.shares:
        spec = {
            "row": row,
            "seed": seed,
            "source": source,
            "share": share,
            "steps": preset.finetune_steps,
            "recipe": recipe(FINETUNE),
            "options": options,
            "part": preset.probe_part,
            "head_first": row != SCRATCH,
            "head_points": preset.head_points,
            "head_decay": preset.finetune_decay,
            "head_steps": preset.probe_steps,
            "train_rooms": preset.train_rooms,
            "val_rooms": preset.val_rooms,
            "test_rooms": preset.test_rooms,
        }
        name = f"finetune-{row}-{seed}-{100 * share:g}"
        jobs.append(Job(name, "finetune", row, spec, (source, *labelled), effort=preset.finetune_steps))
    return jobs

"""Presets of the learning proof: every number of it, and the rows it compares.

A number of a preset may be changed on the command line (``--set pretrain_steps=600``). Options of configs are those of
``python -m lam3c_plugin.embedded.train --options``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from lam3c_plugin.embedded.config import parse_value
from lam3c_plugin.errors import ConfigError, did_you_mean

Options = dict[str, Any]

GRID_SIZE = 0.04  # metres; the tiny recipes' grid
# generator seeds; room i of a set draws from (seed, i), so that no two sets share a room
# (4000 was the test set of the first protocol; when that was changed, the test rooms were made anew)
SEEDS = {"pretrain": 1000, "train": 2000, "val": 3000, "test": 5000}
SPLITS = ("train", "val", "test")
NO_LAPLACIAN: Options = {"model.laplacian_weight_start": 0.0, "model.laplacian_weight_base": 0.0}
NO_CONSISTENCY: Options = {"model.consistency_weight": 0.0}
#: full LAM3C with one number that makes it collapse, to show what the monitor says: the teacher's temperature is twice
#: the student's 0.1, so that its targets are flatter than the predictions and are met best by telling nothing apart
COLLAPSING: Options = {"model.teacher_temp_start": 0.2, "model.teacher_temp_base": 0.2}
#: distances of the tiny recipe, metres
MAX_DISTANCE, MATCH_RADIUS = "model.laplacian_loss.max_distance", "model.match_max_r"
TINY_DISTANCES = {MAX_DISTANCE: 0.16, MATCH_RADIUS: 0.32}


def _released(common: Mapping[str, Any]) -> Options:
    """The release takes its search's distances for squares: both limits work as their squares."""
    return {key: round(float(common.get(key, value)) ** 2, 6) for key, value in TINY_DISTANCES.items()}


#: pre-training rows: options over those that all share (which the function gets)
PRETRAIN_ROWS: dict[str, Callable[[Mapping[str, Any]], Options]] = {
    "clustering": lambda common: {**NO_LAPLACIAN, **NO_CONSISTENCY},
    "laplacian": lambda common: dict(NO_CONSISTENCY),
    "consistency": lambda common: dict(NO_LAPLACIAN),
    "full": lambda common: {},
    "full-perturbed": lambda common: {"model.consistency_view": "perturbed"},
    "released": _released,
    "collapsing": lambda common: dict(COLLAPSING),
}
#: probed without pre-training; fine-tuned from random weights
RANDOM, SCRATCH = "random", "scratch"
ROWS = (RANDOM, SCRATCH, *PRETRAIN_ROWS)


def rates(head: float, blocks: float) -> Options:
    """Learning rates of a fine-tuning: of the linear layer and what is no block, and of the blocks."""
    return {"optimizer.lr": head, "param_dicts.0.lr": blocks, "scheduler.max_lr": [head, blocks]}


@dataclass(frozen=True)
class Preset:
    """Every number of the proof.

    Attributes:
        rows: of the table, out of `ROWS`; "collapsing" is pre-trained once, for the monitor's picture.
        seeds: each sets weights, order, views and the points that train the probe.
        rooms: of the pre-training set.
        room_points: at most so many points a room of it.
        noise: of its points.
        pretrain_steps: optimiser steps of every pre-training.
        pretrain_options: of the config, common to all rows.
        save_steps: a checkpoint every so many steps, to go on from after a kill.
        curve_steps: the full runs are probed at these steps as well.
        curve_rooms: further pre-trainings with that many rooms.
        curve_noise: further pre-trainings on that noise.
        curve_rows: of those further pre-trainings.
        curve_seeds: of those further pre-trainings.
        train_rooms: clean, labelled; never seen in pre-training.
        val_rooms: as ``train_rooms``.
        test_rooms: as ``train_rooms``.
        probe_part: whose encoder of a pre-training is probed and fine-tuned: "student" or "teacher".
        probe_points: of a training room, for the probes.
        eval_points: of a validation or test room.
        probe_decays: the linear probe's weight decays, of which validation chooses.
        probe_steps: of L-BFGS.
        bank: points among which the kNN probe looks.
        neighbours: how many of them vote.
        shares: of the labelled training rooms to fine-tune on.
        finetune_rows: of the fine-tunings; "scratch" starts from random weights.
        finetune_steps: optimiser steps of each.
        finetune_options: of the config, common to all of them.
        finetune_decay: weight decay of the linear probe that all but "scratch" start from.
        head_points: points a room for that probe.
        scratch_options: of "scratch" over those: blocks that nothing has trained must not learn ten times slower.
        jobs: processes at a time.
        threads: of each.
    """

    name: str
    rows: tuple[str, ...] = (RANDOM, SCRATCH, "clustering", "full", "collapsing")
    seeds: tuple[int, ...] = (0, 1, 2)
    rooms: int = 200
    room_points: int = 20_000
    noise: str = "pi3"
    pretrain_steps: int = 150
    pretrain_options: Options = field(default_factory=lambda: {"batch_size": 2})
    save_steps: int = 25
    curve_steps: tuple[int, ...] = (38, 75)
    curve_rooms: tuple[int, ...] = (20,)
    curve_noise: tuple[str, ...] = ()
    curve_rows: tuple[str, ...] = ("full",)
    curve_seeds: tuple[int, ...] = (0, 1, 2)
    train_rooms: int = 60
    val_rooms: int = 15
    test_rooms: int = 30
    probe_part: str = "student"
    probe_points: int = 1024
    eval_points: int = 2048
    probe_decays: tuple[float, ...] = (1e-5, 1e-4, 1e-3)
    probe_steps: int = 100
    bank: int = 10_000
    neighbours: int = 20
    shares: tuple[float, ...] = (0.01, 0.1, 1.0)
    finetune_rows: tuple[str, ...] = (SCRATCH, "clustering", "full")
    finetune_steps: int = 120
    finetune_options: Options = field(default_factory=lambda: {"batch_size": 1, **rates(head=0.001, blocks=0.0005)})
    scratch_options: Options = field(default_factory=lambda: rates(head=0.003, blocks=0.004))
    finetune_decay: float = 1e-4
    head_points: int = 4096
    jobs: int = 2
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse what would fail later.

        Raises:
            ConfigError: an unknown row or an impossible number.
        """
        for row in (*self.rows, *self.finetune_rows, *self.curve_rows):
            if row not in ROWS:
                raise ConfigError(f"no row {row!r}{did_you_mean(row, ROWS)}")
        for name in ("rooms", "pretrain_steps", "finetune_steps", "train_rooms", "val_rooms", "test_rooms", "jobs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        late = [step for step in self.curve_steps if not 0 < step < self.pretrain_steps]
        if late:
            raise ConfigError(f"curve_steps: {late} must lie between 0 and pretrain_steps={self.pretrain_steps}")
        if not self.seeds or not self.probe_decays:
            raise ConfigError("seeds and probe_decays must name at least one")


_ALL = tuple(row for row in ROWS if row != "collapsing")
PRESETS = {
    "cpu": Preset("cpu"),
    "gpu": Preset(
        "gpu",
        rows=ROWS,
        pretrain_steps=1200,
        pretrain_options={"batch_size": 8, "num_worker": 4, "hooks.6.interval": 10},
        save_steps=300,
        curve_steps=(150, 300, 600),
        curve_rooms=(50, 800),
        curve_noise=("clean", "mild", "worse"),
        curve_rows=("clustering", "full"),
        finetune_rows=tuple(row for row in _ALL if row != RANDOM),
        finetune_steps=300,
        finetune_options={"batch_size": 4, "num_worker": 2, **rates(head=0.001, blocks=0.0005)},
        jobs=4,
        threads=3,
    ),
    # proves that every part runs; its figures mean nothing
    "smoke": Preset(
        "smoke",
        seeds=(0, 1),
        rooms=3,
        room_points=1500,
        pretrain_steps=4,
        save_steps=2,
        curve_steps=(2,),
        curve_rooms=(2,),
        train_rooms=4,
        val_rooms=2,
        test_rooms=2,
        probe_points=200,
        eval_points=300,
        probe_decays=(1e-3, 1e-2),
        probe_steps=10,
        bank=500,
        shares=(0.1, 1.0),
        finetune_steps=2,
    ),
}


def changed(preset: Preset, settings: Sequence[str]) -> Preset:
    """The preset with ``NAME=VALUE`` settings; ``pretrain_options.KEY=VALUE`` changes one option.

    Raises:
        ConfigError: no such number, or not of its kind.
    """
    new: dict[str, Any] = {}
    for item in settings:
        name, separator, text = item.partition("=")
        known = {entry.name for entry in fields(Preset)} - {"name"}
        name, _, option = name.partition(".")
        if not separator or name not in known:
            raise ConfigError(f"--set {item}: give NAME=VALUE{did_you_mean(name, known)}")
        old, value = new.get(name, getattr(preset, name)), parse_value(text)
        if option:
            if not isinstance(old, dict):
                raise ConfigError(f"--set {item}: {name} has no options of its own")
            value = {**old, option: value}
        elif isinstance(old, tuple):
            value = tuple(value) if isinstance(value, list | tuple) else (value,)
        if type(value) is not type(old):
            raise ConfigError(f"--set {item}: {name} is of the kind of {old!r}")
        new[name] = value
    return replace(preset, **new)  # at once: numbers are checked against each other

"""What is run: rows, seeds, sizes, the map's grid, and the jobs that they come to. `preregistration.md` says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from typing import Any

from data_tools.stages.scene_folder import settings_hash
from lam3c_plugin.embedded.config import parse_value
from lam3c_plugin.errors import ConfigError, did_you_mean

Options = dict[str, Any]

VERSION = 1  # part of every digest: raise it when the same settings give other figures
GRID_SIZE = 0.04  # metres; the tiny recipes' grid
#: generator seeds; room i of a set draws from (seed, i), so that no two sets share a room
SEEDS = {"pretrain": 11_000, "train": 12_000, "val": 13_000, "test": 14_000}
NO_LAPLACIAN: Options = {"model.laplacian_weight_start": 0.0, "model.laplacian_weight_base": 0.0}
NO_CONSISTENCY: Options = {"model.consistency_weight": 0.0}
#: rows that are pre-trained: options over the recipe's, which has the paper's weights
TRAINED: dict[str, Options] = {
    "clustering": {**NO_LAPLACIAN, **NO_CONSISTENCY},
    "laplacian": NO_CONSISTENCY,
    "consistency": NO_LAPLACIAN,
    "full": {},
}


def _weight(factor: float) -> Options:
    """Of the Laplacian term: the paper's, so many times."""
    return {"model.laplacian_weight_start": factor * 0.0002, "model.laplacian_weight_base": factor * 0.003}


#: rows that nobody registered: the Laplacian term in readings that the paper leaves open, to be held against clustering
EXPLORED: dict[str, Options] = {
    "strong": {**NO_CONSISTENCY, **_weight(10)},
    # the median ||z_i - z_j|| of the tiny run (why.json): half of the edges lie within, far ones pull 16 times harder
    "median": {**NO_CONSISTENCY, "model.laplacian_loss.huber_delta": 8.0},
    # ||z|| is about 29 there: so many times smaller are the differences and, at one weight, the gradient by z
    "unit": {**NO_CONSISTENCY, **_weight(30), "model.laplacian_loss.type": "UnitLaplacianLoss"},
}
RAW, RANDOM = "raw", "random"
ROWS = (RAW, RANDOM, *TRAINED)
MAP_ROWS = ("clustering", "full")
MAP_RATES = (0.001, 0.003, 0.01)
#: noise, prototypes, EMA momentum: half of the eight, so that each two of a kind come with both of the others
MAP_REST = (("pi3", 64, 0.9), ("pi3", 512, 0.99), ("worse", 64, 0.99), ("worse", 512, 0.9))


@dataclass(frozen=True)
class Settings:
    """Every number of the experiment.

    Attributes:
        seeds: by noise, how many: each sets weights, order, views, masks, and the points that train the probe.
        map_seeds: of every cell of the map.
        rooms: of each pre-training set.
        points: at most so many points a room.
        view_points: at most so many points a view.
        batch_size: rooms a step.
        steps: of every pre-training; 0: as many as a trial says that the time allows.
        map_share: of ``steps``, for the map's runs.
        train_rooms: clean, labelled, never seen in pre-training: the probe's.
        val_rooms: as those, to choose the probe's weight decay.
        test_rooms: as those, scored; also reconstructed twice at each noise.
        map_rooms: the map's share of those rooms, one in so many.
        probe_points: labelled points of a training room.
        eval_points: of a validation or test room.
        pair_points: of a test room, for the agreement of its two reconstructions.
        decays: of the linear probe, of which validation chooses.
        probe_steps: of L-BFGS.
        bank: points among which the kNN probe looks.
        neighbours: how many of them vote.
    """

    seeds: tuple[tuple[str, int], ...] = (("pi3", 10), ("worse", 5))
    map_seeds: int = 2
    rooms: int = 200
    points: int = 20_000
    view_points: int = 8192
    batch_size: int = 2
    steps: int = 0
    map_share: float = 0.4
    train_rooms: int = 30
    val_rooms: int = 12
    test_rooms: int = 18
    map_rooms: int = 2
    probe_points: int = 1024
    eval_points: int = 2048
    pair_points: int = 512
    decays: tuple[float, ...] = (1e-5, 1e-4, 1e-3)
    probe_steps: int = 100
    bank: int = 10_000
    neighbours: int = 20

    def __post_init__(self) -> None:
        """Refuse what would fail later.

        Raises:
            ConfigError: an impossible number.
        """
        for name in ("rooms", "train_rooms", "val_rooms", "test_rooms", "batch_size", "map_rooms"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        if self.steps < 0 or not 0 < self.map_share <= 1 or not self.decays or not self.seeds:
            raise ConfigError("steps is at least 0, map_share in (0, 1], decays and seeds name at least one")


PRESETS = {
    "gpu": Settings(),
    "cpu": Settings(steps=100),
    # proves that every part runs; its figures mean nothing
    "smoke": Settings(
        seeds=(("pi3", 2), ("worse", 1)),
        map_seeds=1,
        rooms=3,
        points=1500,
        view_points=512,
        steps=2,
        map_share=0.5,
        train_rooms=4,
        val_rooms=2,
        test_rooms=2,
        probe_points=200,
        eval_points=300,
        pair_points=64,
        decays=(1e-3, 1e-2),
        probe_steps=10,
        bank=500,
    ),
}


@dataclass(frozen=True)
class Job:
    """One seed of the table or of a cell of the map, all its rows side by side: whole pairs or nothing.

    Attributes:
        kind: "table", "map" or "explored".
        noise: of the rooms to pre-train on, and of the noisy test rooms.
        seed: see `Settings`.
        rows: that are pre-trained.
        options: of the config, common to the rows.
        settings: see there.
        steps: of each pre-training.
    """

    kind: str
    noise: str
    seed: int
    rows: tuple[str, ...]
    options: tuple[tuple[str, Any], ...]
    settings: Settings
    steps: int

    @property
    def id(self) -> str:
        """Its name in the results; of the map's with the cell."""
        cell = "".join(f"-{value:g}" for value in dict(self.options).values()) if self.kind == "map" else ""
        return f"{self.kind}-{self.noise}{cell}-{self.seed}"

    @property
    def digest(self) -> str:
        """Changes with anything its figures depend on, the device left out."""
        spec = {**asdict(self), "rows": {row: options_of(row) for row in self.rows}, "version": VERSION}
        spec["settings"] = {key: value for key, value in spec["settings"].items() if key not in ("seeds", "map_seeds")}
        return settings_hash(spec)

    @property
    def effort(self) -> tuple[int, int]:
        """Optimiser steps over all rows, and probes."""
        return len(self.rows) * self.steps, len(self.rows) + (1 if self.kind == "map" else 2)


def options_of(row: str) -> Options:
    """A row's options over the recipe's."""
    return {**TRAINED, **EXPLORED}[row]


def make_jobs(settings: Settings, explored: bool = False) -> list[Job]:
    """All jobs in the order of preference: seed by seed, the noise levels in turn; the map's last.

    Args:
        settings: numbers.
        explored: instead of the registered rows those of `EXPLORED`, beside clustering; no map.

    Raises:
        ConfigError: the number of steps is not known yet.
    """
    if not settings.steps:
        raise ConfigError("steps=0: a trial has to say how many the time allows; give --minutes, or --set steps=N")
    kind, rows = ("explored", ("clustering", *EXPLORED)) if explored else ("table", tuple(TRAINED))
    table = [
        ((seed + 1) / count, Job(kind, noise, seed, rows, (), settings, settings.steps))
        for noise, count in settings.seeds
        for seed in range(count)
    ]
    table.sort(key=lambda item: item[0])  # the noise levels are used up at the same time
    if explored:
        return [job for _, job in table]
    steps = max(1, round(settings.map_share * settings.steps))
    cells = [
        Job("map", noise, seed, MAP_ROWS, tuple(_cell(rate, prototypes, momentum).items()), settings, steps)
        for seed in range(settings.map_seeds)
        for rate, (noise, prototypes, momentum) in product(MAP_RATES, MAP_REST)
    ]
    return [*(job for _, job in table), *cells]


def _cell(rate: float, prototypes: int, momentum: float) -> Options:
    """A cell's options; all rates of the recipe are multiplied, the layers' decay stays (see `train.recipe`)."""
    return {"rate": rate, "model.head.num_prototypes": prototypes, "model.momentum_base": momentum}


def changed(settings: Settings, words: Sequence[str]) -> Settings:
    """The settings with ``NAME=VALUE`` words.

    Raises:
        ConfigError: no such number, or not of its kind.
    """
    new: dict[str, Any] = {}
    known = {entry.name for entry in fields(Settings)}
    for item in words:
        name, separator, text = item.partition("=")
        if not separator or name not in known:
            raise ConfigError(f"--set {item}: give NAME=VALUE{did_you_mean(name, known)}")
        old, value = getattr(settings, name), parse_value(text)
        if isinstance(old, tuple) and isinstance(value, list | tuple):
            value = tuple(tuple(part) if isinstance(part, list) else part for part in value)
        if type(value) is not type(old):
            raise ConfigError(f"--set {item}: {name} is of the kind of {old!r}")
        new[name] = value
    return replace(settings, **new)  # at once: numbers are checked against each other

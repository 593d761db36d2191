"""Pre-trainings of one seed side by side: the same initial weights, rooms, views, masks and order for every row.

A step's batch is made once and given to all rows, each with the generators set to the same seed: whatever differs
between two rows of a seed comes from their loss terms. Model, transforms, optimiser and schedules are the engine's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from data_tools.stages.files import write_json
from experiments.learning import rooms
from experiments.learning.plan import GRID_SIZE, Job, options_of
from lam3c_plugin.checkpoints.keys import save_atomic
from lam3c_plugin.embedded.config import Config
from lam3c_plugin.embedded.optimizer import build_optimizer
from lam3c_plugin.embedded.scheduler import build_scheduler
from lam3c_plugin.encode import Encoder
from lam3c_plugin.encode.models import build_encoder
from lam3c_plugin.hooks.collapse_monitor.diagnostics import local_sums
from lam3c_plugin.hooks.collapse_monitor.measures import effective_rank, feature_spread
from lam3c_plugin.host import LOSSES, build_dataset, build_model, point_collate_fn
from lam3c_plugin.losses.modules import LaplacianSmoothingLoss
from lam3c_plugin.ops.device import remember
from lam3c_plugin.ops.rng import derive_seed, seeded, set_seed
from lam3c_plugin.ops.schedules import WarmupCosine
from lam3c_plugin.recipes.pretrain import view_transforms

CONFIG = Path(__file__).resolve().parents[2] / "configs/lam3c/pretrain-lam3c-v1m1-2-tiny.py"
DECAY = WarmupCosine(0.04, 0.04, 0.1)  # the recipe's weight decay
SAVE_EVERY = 120.0  # seconds
VIEWS, MASKS = 1, 2  # purposes of a step's random numbers


def recipe(job: Job, row: str) -> Config:
    """The tiny recipe with the job's and the row's options; ``rate`` multiplies with every learning rate."""
    config = Config.fromfile(CONFIG)
    options = {**dict(job.options), **options_of(row)}
    factor = options.pop("rate", config.optimizer.lr) / config.optimizer.lr
    config.merge_from_dict(options)
    config.optimizer.lr *= factor
    for group in config.param_dicts:
        group["lr"] *= factor
    config.scheduler.max_lr = [factor * rate for rate in config.scheduler.max_lr]
    config.scheduler.total_steps = job.steps
    return config


@LOSSES.register_module()
class UnitLaplacianLoss(LaplacianSmoothingLoss):
    """The Laplacian term on features of length 1: a reading that the paper leaves open."""

    def forward(self, feat: torch.Tensor, *graph: Any) -> torch.Tensor:
        """As `LaplacianSmoothingLoss`."""
        return super().forward(F.normalize(feat.float(), dim=1), *graph)


class Run:
    """One row's pre-training.

    Args:
        job: seed, steps and options.
        row: of the job's rows.
        device: that trains; a GPU in bfloat16, as the recipes for GPUs, a CPU in float32.
    """

    def __init__(self, job: Job, row: str, device: torch.device) -> None:
        self.job, self.device = job, device
        self.config = recipe(job, row)
        set_seed(job.seed)
        self.model = build_model(self.config.model).to(device).train()
        self.optimizer = build_optimizer(self.config.optimizer, self.model, self.config.param_dicts)
        self.scheduler = build_scheduler(self.config.scheduler, self.optimizer)
        self.health: list[dict[str, float]] = []

    def step(self, number: int, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Optimiser step ``number`` (0-based) on a batch that lies on the device; returns the losses.

        A step whose loss is not finite is left out, as the recipes' NonFiniteGuard does.
        """
        set_seed(derive_seed(self.job.seed, number, MASKS))
        self.model.set_step(number, self.job.steps)
        self.model.collect_diagnostics = number in (0, self.job.steps - 1)
        for group in self.optimizer.param_groups:
            group["weight_decay"] = DECAY.at(number, self.job.steps)
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            losses = self.model(dict(batch))
        losses["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_grad)
        is_finite = bool(torch.isfinite(norm + losses["loss"]))
        if is_finite:
            self.optimizer.step()
            self.model.update_teacher()
        self.scheduler.step()
        if self.model.collect_diagnostics:
            self.health.append({**self._measure(), "finite": is_finite, "loss": float(losses["loss"].detach())})
        return {key: value.detach() for key, value in losses.items()}

    def _measure(self) -> dict[str, float]:
        """Of the student's features of this step's masked views: effective rank, and what is not their common mean."""
        sums = local_sums({"feat": self.model.diagnostics["feat"]})
        moments = float(sums["feat/count"]), sums["feat/total"], sums["feat/square"]
        return {"rank": effective_rank(sums["feat/gram"]), "spread": feature_spread(*moments)}

    def encoder(self) -> Encoder:
        """The student's encoder as it is now, frozen."""
        config = {key: value for key, value in self.config.model.backbone.items() if key != "type"}
        return Encoder(build_encoder(config, self.model.student["backbone"].state_dict()), self.device)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        parts = {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "scheduler")}
        return {**parts, "health": self.health}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        for name in ("model", "optimizer", "scheduler"):
            getattr(self, name).load_state_dict(state[name])
        self.health = list(state["health"])


class Runs:
    """All rows of a job.

    Args:
        job: what is trained.
        work: folder of the rooms.
        device: see `Run`.
        save: file that the runs go on from after a kill; None: they start anew.
    """

    def __init__(self, job: Job, work: Path, device: torch.device, save: Path | None = None) -> None:
        self.job, self.work, self.device, self.save = job, work, device, save
        self.rows = {row: Run(job, row, device) for row in job.rows}
        self.done = 0
        if save is not None and save.is_file():
            known = torch.load(save, map_location=device, weights_only=True)
            if known["digest"] == job.digest:
                self.done = known["step"]
                for row, run in self.rows.items():
                    run.load(known["rows"][row])

    @cached_property
    def dataset(self) -> Any:
        """The rooms with the recipe's views."""
        settings, root = self.job.settings, rooms.root(self.work, self.job.settings) / self.job.noise
        names, split = rooms.scenes(self.work, settings, self.job.noise), f"first{settings.rooms}.json"
        if not (root / split).is_file():
            write_json(root / split, names)
        config = recipe(self.job, self.job.rows[0]).data.train
        config.update(
            data_root=str(root), split=split, transform=view_transforms(GRID_SIZE, max_size=settings.view_points)
        )
        return build_dataset(config)

    def batch(self, step: int) -> dict[str, Any]:
        """The batch of a step: rooms in an order, views and colours that seed and step alone decide."""
        samples = []
        for place in range(self.job.settings.batch_size):
            number = step * self.job.settings.batch_size + place
            turn, position = divmod(number, len(self.dataset))
            order = np.random.default_rng([self.job.seed, turn, 0]).permutation(len(self.dataset))
            with seeded(derive_seed(self.job.seed, number, VIEWS)):
                samples.append(self.dataset[int(order[position])])
        batch = point_collate_fn(samples)
        for key, value in batch.items():
            if isinstance(value, torch.Tensor):
                batch[key] = value.to(self.device)
                if key.endswith("offset"):
                    remember(batch[key], value.tolist())
        return batch

    def train(self) -> None:
        """All steps that are left."""
        saved = time.monotonic()
        while self.done < self.job.steps:
            batch = self.batch(self.done)
            for run in self.rows.values():
                run.step(self.done, batch)
            self.done += 1
            if self.save is not None and time.monotonic() - saved > SAVE_EVERY:
                saved = time.monotonic()
                state = {row: run.state() for row, run in self.rows.items()}
                save_atomic({"digest": self.job.digest, "step": self.done, "rows": state}, self.save)


def collapsed(health: list[dict[str, float]]) -> bool:
    """Whether a run collapsed by the registered rule; ``health`` is that of its first and its last step."""
    first, last = health[0], health[-1]
    measured = all(math.isfinite(value) for value in (last["loss"], last["rank"], last["spread"]))
    if not measured or not last["finite"]:
        return True
    return last["spread"] < 0.02 or last["rank"] < first["rank"] / 16

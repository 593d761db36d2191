"""A model, a dataset and a config small enough to train in a second; they use every random generator there is."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lam3c_plugin.embedded.hooks import HookBase
from lam3c_plugin.embedded.registry import DATASETS, HOOKS, MODELS

NAME = "tests.embedded.fake_run"


@DATASETS.register_module(force=True)
class FakeClouds(torch.utils.data.Dataset):
    """Clouds whose target is the mean of their first coordinate; samples draw from all generators."""

    def __init__(self, size=14, random_points=True, fail=False, loop=1):
        self.size, self.random_points, self.fail = size * loop, random_points, fail

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        from lam3c_plugin.errors import DataError

        if self.fail and index == 3:
            raise DataError("scene 'attic' has no coord.npy")
        number = 5 if not self.random_points else random.randint(4, 9)
        generator = np.random.default_rng(index)
        coord = generator.normal(size=(number, 3)).astype(np.float32)
        if self.random_points:
            coord = coord + np.random.normal(size=(number, 3)).astype(np.float32) * 0.1
        coord = torch.from_numpy(coord)
        if self.random_points:
            coord = coord + torch.randn(number, 3) * 0.01
        return {"coord": coord, "feat": coord.clone(), "offset": torch.tensor([number]), "name": f"scene{index}"}


@MODELS.register_module(force=True)
class FakeModel(nn.Module, HookBase):
    """A perceptron with dropout and NumPy noise; counts the hook calls it gets."""

    def __init__(self, width=8, dropout=0.1, noise=0.01):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, 1))
        self.noise = noise
        self.calls = {name: 0 for name in ("before_train", "before_step", "after_step", "after_train")}

    def before_train(self):
        self.calls["before_train"] += 1

    def before_step(self):
        self.calls["before_step"] += 1
        assert self.trainer.comm_info["input_dict"]["coord"].ndim == 2

    def after_step(self):
        self.calls["after_step"] += 1

    def after_train(self):
        self.calls["after_train"] += 1

    def forward(self, data):
        noise = float(np.random.normal() * self.noise + random.gauss(0, self.noise)) if self.training else 0.0
        error = self.net(data["feat"])[:, 0] - data["coord"][:, 0] + noise
        return {"loss": (error**2).mean(), "spread": error.std(), "names": data["name"]}


@HOOKS.register_module(force=True)
class Recorder(HookBase):
    """Appends every loss, learning rate and batch to a text file."""

    def __init__(self, file):
        self.file = file

    def after_step(self):
        trainer = self.trainer
        loss = trainer.comm_info["model_output_dict"]["loss"].item()
        names = ",".join(trainer.comm_info["input_dict"]["name"])
        decay = trainer.optimizer.param_groups[0]["weight_decay"]
        lr = trainer.optimizer.param_groups[0]["lr"]
        with open(self.file, "a") as out:
            out.write(f"{loss.hex()} {lr.hex()} {decay!r} {names}\n")


@HOOKS.register_module(force=True)
class Interrupter(HookBase):
    """Sends this process (or, with ``parent``, its launcher) a signal after a micro-batch."""

    def __init__(self, after=3, number=int(signal.SIGTERM), slow=0.0):
        self.after, self.number, self.slow, self.seen = after, number, slow, 0

    def after_step(self):
        self.seen += 1
        if self.seen == self.after:
            os.kill(os.getpid(), self.number)
        time.sleep(self.slow)


def write_config(folder: Path, **changes) -> Path:
    """A config file for the fake run in ``folder``; ``changes`` are top-level settings."""
    settings = {
        "custom_imports": dict(imports=[NAME], allow_failed_imports=False),
        "seed": 7,
        "num_worker": 0,
        "batch_size": 2,
        "epoch": 3,
        "clip_grad": 1.0,
        "num_threads": 1,
        "save_path": str(folder / "run"),
        "model": dict(type="FakeModel"),
        "data": dict(train=dict(type="FakeClouds")),
        "optimizer": dict(type="AdamW", lr=0.01, weight_decay=0.04),
        "param_dicts": [dict(keyword="net.0", lr=0.005)],
        "scheduler": dict(type="OneCycleLR", max_lr=[0.01, 0.005], pct_start=0.1, div_factor=10.0),
        "hooks": [
            dict(type="CheckpointLoader"),
            dict(type="ModelHook"),
            dict(type="WeightDecaySchedular", base_value=0.04, final_value=0.1),
            dict(type="IterationTimer"),
            dict(type="InformationWriter"),
            dict(type="Recorder", file=str(folder / "losses.txt")),
            dict(type="CheckpointSaver"),
        ],
    }
    settings.update(changes)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.py"
    file.write_text("".join(f"{key} = {value!r}\n" for key, value in settings.items()))
    return file

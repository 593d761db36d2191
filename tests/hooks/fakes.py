"""A trainer and models as the hooks see them, without an engine; its loop is that of both engines."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import torch
from torch import nn

from lam3c_plugin.embedded.structure import Point
from lam3c_plugin.errors import DataError
from lam3c_plugin.losses import ClusteringStats


class Writer:
    def __init__(self):
        self.scalars, self.images = {}, {}

    def add_scalar(self, tag, value, step):
        self.scalars.setdefault(tag, []).append((step, value))

    def add_image(self, tag, image, step, dataformats):
        self.images.setdefault(tag, []).append((step, image.shape, dataformats))


class Storage:
    def __init__(self):
        self.values = {}

    def put_scalar(self, name, value):
        self.values[name] = value


class Cfg(SimpleNamespace):
    pass


class Trainer:
    """One linear layer (or the model given), AdamW, a scheduler that counts; ``run`` goes over batches."""

    def __init__(self, save_path, hooks, model=None, total_steps=10, accumulation=1, scaler=None, dataset=None):
        torch.manual_seed(0)
        self.model = model if model is not None else Linear()
        self.cfg = Cfg(
            save_path=str(save_path),
            gradient_accumulation_steps=accumulation,
            enable_amp=False,
            amp_dtype="bfloat16",
            scheduler=Cfg(total_steps=total_steps),
            data=Cfg(train={"type": "Fake", "transform": [{"type": "GridSample", "grid_size": 0.05}]}),
        )
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.04)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1.0)
        self.scaler, self.writer, self.storage = scaler, Writer(), Storage()
        self.logger = logging.getLogger("tests.hooks")
        self.logger.setLevel(logging.INFO)
        self.epoch, self.comm_info = 0, {}
        self.train_loader = SimpleNamespace(dataset=dataset)
        self.accumulated, self.clip = 0, True
        self.hooks = hooks
        for hook in hooks:
            hook.trainer = self

    def call(self, name):
        for hook in self.hooks:
            getattr(hook, name)()

    def run(self, batches, start=True):
        if start:
            self.call("before_train")
        for number, batch in enumerate(batches):
            self.comm_info.update(iter=number, input_dict=batch)
            self.call("before_step")
            self.step(batch)
            self.call("after_step")
        return self

    def step(self, batch):
        accumulation = self.cfg.gradient_accumulation_steps
        if self.accumulated == 0:
            self.optimizer.zero_grad()
        output = self.model(batch)
        loss = output["loss"] / accumulation
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        self.comm_info["model_output_dict"] = output
        self.accumulated += 1
        if self.accumulated < accumulation:
            return
        self.accumulated = 0
        if self.scaler is None:
            if self.clip:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 3.0)
            self.optimizer.step()
            self.scheduler.step()
            return
        self.scaler.unscale_(self.optimizer)
        self.scaler.step(self.optimizer)
        scale = self.scaler.get_scale()
        self.scaler.update()
        if scale <= self.scaler.get_scale():
            self.scheduler.step()


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, batch):
        value = self.layer(batch["x"]).mean()
        return {"loss": value, "twice": 2 * value}


def batch(value=1.0, name="room"):
    return {"x": torch.full((3, 4), float(value)), "name": [name]}


class Observed(nn.Module):
    """A model whose diagnostics are what ``observe(step)`` returns."""

    def __init__(self, observe):
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.observe, self.calls = observe, 0
        self.collect_diagnostics, self.diagnostics = False, {}

    def forward(self, batch):
        self.calls += 1
        if self.collect_diagnostics:
            self.diagnostics = self.observe(self.calls)
        return {"loss": self.layer(batch["x"]).mean()}


def clustering_stats(student, target):
    """Statistics of rows with these nearest prototypes; ``target`` (N, K) holds the targets."""
    stats = ClusteringStats()
    stats.start(len(target), target.shape[1], torch.float32, torch.device("cpu"))
    if len(target) == 0:
        return stats
    similarity = torch.nn.functional.one_hot(student, target.shape[1]).float()
    stats.add(similarity, target)
    return stats


def graph_stats(points, edges, points_with_edge):
    return SimpleNamespace(points=points, edges=edges, points_with_edge=torch.tensor(points_with_edge))


class Rooms:
    """A data set whose first scene is broken."""

    def __init__(self, scene):
        self.scene, self.asked = scene, []

    def __len__(self):
        return 3

    def get_data(self, index):
        self.asked.append(index)
        if index == 0:
            raise DataError("scene 'attic' has no coord.npy")
        torch.rand(1)
        return self.scene


class Backbone(nn.Module):
    """Two pooling stages by halving, with dropout that only eval mode silences."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(9, 6), nn.Dropout(0.5))
        self.fail = False

    def forward(self, point):
        if self.fail:
            raise RuntimeError("out of\nmemory")
        torch.rand(3)
        point = Point(coord=point["coord"], feat=self.net(point["feat"]), offset=point["offset"])
        for _ in range(2):
            inverse = torch.arange(len(point.feat)) // 2
            child = Point(coord=point.coord[::2], feat=point.feat[::2], offset=(point.offset + 1) // 2)
            child["pooling_parent"], child["pooling_inverse"] = point, inverse
            point = child
        return point


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.teacher = nn.ModuleDict({"backbone": Backbone()})
        self.up_cast_level = 1

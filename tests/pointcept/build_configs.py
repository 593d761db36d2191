"""Runs inside the real host: builds what configs name. `python build_configs.py CONFIG...` prints a line for each."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch


def build(path: str) -> str:
    """Model, optimiser groups, scheduler, dataset classes, transforms and hooks of one config."""
    from pointcept.datasets.builder import DATASETS
    from pointcept.datasets.transform import TRANSFORMS
    from pointcept.engines.hooks import build_hooks
    from pointcept.models import build_model
    from pointcept.utils.config import Config
    from pointcept.utils.optimizer import build_optimizer
    from pointcept.utils.scheduler import build_scheduler

    cfg = Config.fromfile(path)
    if "pretrain" in path:  # slow: what is dumped for `-r true` can be read again
        Config.fromstring(cfg.pretty_text, ".py")
    with torch.device("meta"), patch("torch.linspace", partial(torch.linspace, device="cpu")):
        model = build_model(cfg.model)
    optimizer = build_optimizer(cfg.optimizer, model, cfg.param_dicts)
    groups = [len(group["params"]) for group in optimizer.param_groups]
    # the blocks' group of a linear probe is empty from v1.6.1 on: they are frozen
    assert all(groups) or cfg.model.get("freeze_backbone"), f"an optimiser group without weights: {groups}"
    cfg.scheduler.total_steps = 1000
    build_scheduler(cfg.scheduler, optimizer)
    build_hooks(cfg.hooks)
    parts = [cfg.data[name] for name in ("train", "val", "test") if name in cfg.data]
    for part in [inner for outer in parts for inner in outer.get("datasets", [outer])]:
        assert DATASETS.get(part.type) is not None, f"no dataset {part.type}"
        for step in part.get("transform") or ():
            TRANSFORMS.build(step)
    assert cfg.enable_wandb is False
    assert cfg.epoch % cfg.eval_epoch == 0
    weights = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return f"{len(groups)} groups, {weights / 1e6:.1f} M weights"


if __name__ == "__main__":
    import pointcept.engines.train  # noqa: F401 - first, as tools/train.py does

    for name in sys.argv[1:]:
        try:
            print(f"BUILT {Path(name).stem} {build(name)}", flush=True)
        except Exception as error:
            print(f"FAILED {Path(name).stem} {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)

"""Runs inside the real host, in a process of its own: `python host_load.py CONFIG IN.pt OUT.pt`.

IN holds {"tasks": [(name, hook's arguments, file)], "model" and "backbone": changes to the config's, "batch"}. Each
file is loaded by its hook into a model built from the config, as before a run; OUT gets the stages' features by name.
"""

from __future__ import annotations

import copy
import logging
import sys
from types import SimpleNamespace

import torch
from host_step import still_pooling


def stages(point) -> list[torch.Tensor]:
    """Features of every stage, coarsest first."""
    found = [point.feat]
    while "pooling_parent" in point.keys():  # noqa: SIM118 - the host's Point is no mapping to `in`
        point = point.pooling_parent
        found.append(point.feat)
    return found


def main(config: str, source: str, target: str) -> None:
    """Load every file and look at the batch with it."""
    import pointcept.engines.train  # noqa: F401 - first, as tools/train.py does
    from pointcept.engines.hooks import HOOKS
    from pointcept.models import build_model
    from pointcept.utils.config import Config

    import lam3c_plugin

    assert lam3c_plugin.host.ENGINE == "pointcept"
    content = torch.load(source, weights_only=False)
    cfg = Config.fromfile(config)
    cfg.model.backbone.update(content["backbone"])
    cfg.model.update(content["model"])
    found = {}
    for name, arguments, file in content["tasks"]:
        torch.manual_seed(1)
        model = build_model(copy.deepcopy(cfg.model)).train()  # spconv's CPU convolution differs in eval mode
        still_pooling(model)
        run = Config(dict(weight=file, resume=False, enable_amp=False))
        hook = HOOKS.build(dict(arguments))
        hook.trainer = SimpleNamespace(model=model, cfg=run, logger=logging.getLogger("host"))
        hook.before_train()
        backbone = model.student.backbone if hasattr(model, "student") else model.backbone
        with torch.no_grad():
            found[name] = stages(backbone(copy.deepcopy(content["batch"])))
    torch.save(found, target)


if __name__ == "__main__":
    main(*sys.argv[1:])

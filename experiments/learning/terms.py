"""What the terms of full LAM3C pull at: their gradients on the student's encoder, along one pre-training.

A term of one percent of the loss may still be half of the gradient, and may pull against the others. Nothing here is
trained: checkpoints of a run are opened and given a few batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from experiments.learning import pretrain

if TYPE_CHECKING:
    from lam3c_plugin.models import LAM3C

#: terms of the clustering objective, and the attribute that has their weight
CLUSTERING = {
    "mask_loss": "mask_loss_weight",
    "roll_mask_loss": "roll_mask_loss_weight",
    "unmask_loss": "unmask_loss_weight",
}
REGULARISERS = {"laplacian_loss": "laplacian_weight", "consistency_loss": "consistency_weight"}


def run(spec: Mapping[str, Any], folder: Path, out: Path) -> dict[str, Any]:
    """Means over ``spec["batches"]`` batches at every checkpoint of the run ``spec["source"]``.

    Returns:
        ``terms``: a list by step of {step, terms: {name: {value, weight, share, cosine}}}; see `pulls`.
    """
    from lam3c_plugin.checkpoints.keys import read_checkpoint, state_dict_of
    from lam3c_plugin.embedded.engine.defaults import load_config, setup_rank
    from lam3c_plugin.host import build_dataset, build_model, point_collate_fn
    from lam3c_plugin.ops.rng import set_seed

    options = pretrain.run_options(spec, folder / "run", out)
    cfg = setup_rank(load_config(pretrain.CONFIG, options))
    model, rooms = build_model(cfg.model).train(), build_dataset(cfg.data.train)
    size = int(cfg.batch_size)
    found = []
    for step in (*spec["stops"], spec["steps"]):
        path = out / pretrain.checkpoint(spec["source"], step, last=step == spec["steps"])
        model.load_state_dict(state_dict_of(read_checkpoint(path)))
        model.set_step(step - 1, spec["steps"])
        measured = []
        for number in range(spec["batches"]):
            set_seed(number)  # the same views and masks for every checkpoint
            indices = [(number * size + place) % len(rooms) for place in range(size)]
            measured.append(pulls(model, model(point_collate_fn([rooms[index] for index in indices]))))
        found.append({"step": step, "terms": _means(measured)})
    return {"terms": found}


def pulls(model: LAM3C, losses: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """How hard and whereto each term of one forward pass pulls the student's encoder.

    Args:
        model: that made the losses; its weights are those of the step it is set to.
        losses: what its forward returned, with their graph.

    Returns:
        By term: ``value`` (unweighted), ``weight``, ``share``: length of the weighted gradient over that of the
        clustering terms' sum, ``cosine``: of both (-1: straight against it).
    """
    parameters = [p for p in model.student["backbone"].parameters() if p.requires_grad]
    weights = {name: float(getattr(model, key)) for name, key in {**CLUSTERING, **REGULARISERS}.items()}
    gradients = {
        name: weight * _gradient(losses[name], parameters) for name, weight in weights.items() if name in losses
    }
    clustering = torch.stack([gradient for name, gradient in gradients.items() if name in CLUSTERING]).sum(0)
    length = clustering.norm().clamp(min=1e-30)
    found = {}
    for name, gradient in gradients.items():
        norm = gradient.norm().clamp(min=1e-30)
        cosine = torch.dot(gradient, clustering) / (norm * length)
        found[name] = {
            "value": float(losses[name].detach()),
            "weight": weights[name],
            "share": float(norm / length),
            "cosine": float(cosine),
        }
    return found


def _gradient(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


def _means(measured: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        name: {key: float(np.mean([item[name][key] for item in measured])) for key in values}
        for name, values in measured[0].items()
    }

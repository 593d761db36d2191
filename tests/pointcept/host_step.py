"""Runs inside the real host, in a process of its own: `python host_step.py IN.pt OUT.pt`.

IN holds {"model" or "backbone": config, "state": weights, "batch": input, "seed"}; OUT gets the losses and gradients of
one step of the model, or the backbone's features.
"""

from __future__ import annotations

import sys

import torch


def still_pooling(model: torch.nn.Module) -> None:
    """The host's pooling layers shuffle the curves always, in eval too: their own flag is never set. Set it."""
    for module in model.modules():
        if type(module).__name__ == "GridPooling":
            module.shuffle_orders = False


def main(source: str, target: str) -> None:
    """Take the step."""
    import pointcept.engines.train  # noqa: F401 - first, as tools/train.py does
    from pointcept.models import build_model

    import lam3c_plugin

    assert lam3c_plugin.host.ENGINE == "pointcept"
    task = torch.load(source, weights_only=False)
    model = build_model(task.get("model") or task["backbone"])
    model.load_state_dict(task["state"], strict=True)
    still_pooling(model)
    torch.manual_seed(task["seed"])
    if "backbone" in task:
        with torch.no_grad():
            point = model.train()(task["batch"])
        torch.save({"feat": point.feat, "coord": point.coord}, target)
        return
    out = model.train()(task["batch"])
    out["loss"].backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    torch.save({"losses": {name: value.item() for name, value in out.items()}, "gradients": gradients}, target)


if __name__ == "__main__":
    main(*sys.argv[1:])

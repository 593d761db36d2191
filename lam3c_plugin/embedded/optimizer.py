"""Optimisers, with learning rates per group of parameters chosen by a keyword in their names."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lam3c_plugin.embedded.logger import get_root_logger
from lam3c_plugin.embedded.registry import OPTIMIZERS
from lam3c_plugin.errors import ConfigError

for _name in ("SGD", "Adam", "AdamW"):
    OPTIMIZERS.register_module(name=_name, module=getattr(torch.optim, _name))

_GROUP_KEYS = ("keyword", "lr", "lr_scale", "momentum", "weight_decay")


def build_optimizer(
    cfg: Mapping[str, Any], model: nn.Module, param_dicts: Sequence[Mapping[str, Any]] | None = None
) -> torch.optim.Optimizer:
    """Build the optimiser of ``cfg`` over a model's parameters.

    Args:
        cfg: ``dict(type="AdamW", lr=..., ...)``.
        model: its parameters; with ``param_dicts`` only those that take a gradient.
        param_dicts: ``dict(keyword="enc0.block1.", lr=1e-4)`` entries, or ``lr_scale`` as a factor on ``cfg["lr"]``.
            A parameter joins the first entry whose keyword is in its name; group 0 takes the rest. A group may be
            empty: the schedule's ``max_lr`` counts it.
    """
    cfg = copy.deepcopy(dict(cfg))
    if not param_dicts:
        cfg["params"] = list(model.parameters())
        return OPTIMIZERS.build(cfg)
    if "lr" not in cfg:
        raise ConfigError("param_dicts needs a learning rate for the other parameters: set optimizer.lr")
    groups: list[dict[str, Any]] = [{"params": [], "lr": cfg["lr"]}]
    groups += [_group(entry, cfg["lr"]) for entry in param_dicts]
    names: list[list[str]] = [[] for _ in groups]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            hits = (i for i, entry in enumerate(param_dicts, start=1) if entry["keyword"] in name)
            index = next(hits, 0)
            groups[index]["params"].append(parameter)
            names[index].append(name)
    _report(groups, names, param_dicts)
    cfg["params"] = groups
    return OPTIMIZERS.build(cfg)


def _group(entry: Mapping[str, Any], base_lr: float) -> dict[str, Any]:
    unknown = [key for key in entry if key not in _GROUP_KEYS]
    if unknown or "keyword" not in entry:
        problem = f"has no key {unknown[0]!r}" if unknown else "needs a keyword"
        raise ConfigError(f"an entry of param_dicts {problem} (keys: {', '.join(_GROUP_KEYS)}): {dict(entry)}")
    group: dict[str, Any] = {"params": []}
    if "lr_scale" in entry:
        group["lr"] = base_lr * entry["lr_scale"]
    for key in ("lr", "momentum", "weight_decay"):
        if key in entry:
            group[key] = entry[key]
    return group


def _report(groups: list[dict[str, Any]], names: list[list[str]], param_dicts: Sequence[Mapping[str, Any]]) -> None:
    logger = get_root_logger()
    for index, (group, members) in enumerate(zip(groups, names, strict=True)):
        settings = ", ".join(f"{key} {value:g}" for key, value in group.items() if key != "params")
        label = f"'{param_dicts[index - 1]['keyword']}'" if index else "the rest"
        logger.info(f"Parameter group {index} ({label}): {len(members)} tensors; {settings}")
    unused = [str(entry["keyword"]) for entry, members in zip(param_dicts, names[1:], strict=True) if not members]
    if unused:
        logger.warning(f"param_dicts: no parameter has {', '.join(map(repr, unused[:6]))} in its name")

"""What a training run was configured with, read out of its ``config.py`` without running it."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: what PTv3 may be fed, three channels each, in this order
FEATURES = ("coord", "color", "normal")
DEFAULT_GRID = 0.02  # metres; the paper's


def run_config(checkpoint: Path) -> dict[str, Any]:
    """The settings of the run beside a checkpoint (``<run>/config.py``, ``<run>/model/*.pth``).

    The engines write the merged config as plain literals; anything else in it is passed over. Empty where there is no
    such file.
    """
    for folder in (checkpoint.parent, checkpoint.parent.parent):
        path = folder / "config.py"
        if path.is_file():
            try:
                return _literals(ast.parse(path.read_text(encoding="utf-8")))
            except (OSError, SyntaxError, ValueError):
                return {}
    return {}


def inputs_of(config: Any) -> dict[str, Any]:
    """What a config (of either engine, or a dictionary) feeds its model with; only what it says.

    Returns:
        ``grid_size`` (metres) and ``features`` (of `FEATURES`) by the training transforms, ``class_names`` by
        ``data.names``, and ``backbone``, the arguments of the PTv3 under ``model.backbone``.
    """
    model, data = (value if isinstance(value, Mapping) else {} for value in map(config.get, ("model", "data")))
    train = data.get("train") or {}
    while isinstance(train, Mapping) and train.get("datasets"):
        train = train["datasets"][0]
    found: dict[str, Any] = {"class_names": data.get("names"), "backbone": model.get("backbone")}
    steps = train.get("transform") if isinstance(train, Mapping) else None
    for step in steps if isinstance(steps, list | tuple) else ():
        if not isinstance(step, Mapping):
            continue
        kept = step.get("keys_dict") or {}
        if step.get("type") == "GridSample" or "grid_size" in kept:
            found["grid_size"] = kept.get("grid_size", step.get("grid_size", found.get("grid_size")))
        keys = step.get("feat_keys") or step.get("global_feat_keys") or ()
        found["features"] = [str(key).removeprefix("global_") for key in keys] or found.get("features")
    return checked_inputs(found)


def checked_inputs(found: Any) -> dict[str, Any]:
    """The entries of `inputs_of` that make sense, in JSON's types; others, as a file may hold, are passed over."""
    found = found if isinstance(found, Mapping) else {}
    size, features, names = (found.get(key) for key in ("grid_size", "features", "class_names"))
    checked: dict[str, Any] = {}
    if isinstance(size, int | float) and not isinstance(size, bool) and 0 < size < 10:
        checked["grid_size"] = float(size)
    if isinstance(features, list | tuple) and features and all(name in FEATURES for name in map(str, features)):
        checked["features"] = [name for name in FEATURES if name in features]
    if isinstance(names, list | tuple) and names:
        checked["class_names"] = [str(name) for name in names]
    backbone = found.get("backbone")
    if isinstance(backbone, Mapping) and "enc_channels" in backbone:
        checked["backbone"] = json.loads(json.dumps(backbone, default=str))
    return checked


def _literals(tree: ast.Module) -> dict[str, Any]:
    """Top-level ``name = value`` whose value is made of literals and ``dict(…)``."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = _value(node.value)
            except ValueError:
                continue
    return found


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        return {item.arg: _value(item.value) for item in node.keywords if item.arg is not None}
    if isinstance(node, ast.Dict):
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    return ast.literal_eval(node)

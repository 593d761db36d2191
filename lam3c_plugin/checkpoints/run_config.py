"""The backbone's config of a training run, read out of its ``config.py`` without running it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def run_backbone_config(checkpoint: Path) -> dict[str, Any] | None:
    """The backbone that the run beside a checkpoint (``<run>/config.py``, ``<run>/model/*.pth``) was configured with.

    The engines write the merged config as plain literals; anything else in it is passed over. ``None`` where there is
    no such file or no PTv3 in it.
    """
    for folder in (checkpoint.parent, checkpoint.parent.parent):
        path = folder / "config.py"
        if path.is_file():
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (OSError, SyntaxError, ValueError):
                return None
            return _find_backbone(_literals(tree).get("model"))
    return None


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


def _find_backbone(model: Any) -> dict[str, Any] | None:
    """The dictionary under ``backbone``, with what ``*_custom`` keys of the model do not change (drop path)."""
    if not isinstance(model, Mapping):
        return None
    backbone = model.get("backbone")
    if isinstance(backbone, Mapping) and "enc_channels" in backbone:
        return dict(backbone)
    return None

"""Weights out of any kind of checkpoint: `read` gives the backbone, its config and perhaps a head."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from lam3c_plugin.checkpoints.architecture import (
    backbone_arguments,
    check_backbone,
    guess_config,
    heads_are_known,
    plain,
)
from lam3c_plugin.checkpoints.keys import LoadReport, backbone_state, is_encoder, layout_of, state_dict_of, strip_module
from lam3c_plugin.checkpoints.opening import open_pickle, open_safetensors, sniff
from lam3c_plugin.checkpoints.run_config import FEATURES, checked_inputs, inputs_of, run_config
from lam3c_plugin.errors import CheckpointError, near_names

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
PARTS = ("student", "teacher")
_HEAD = "seg_head."


@dataclass
class Weights:
    """What a checkpoint holds.

    Attributes:
        kind: "inference" (``{"config", "state_dict"}`` or a bare state dict), "training", "finetuned", "head",
            "safetensors" or "folder".
        backbone_config: PT-v3m2's arguments in JSON's types; ``None`` for a head alone.
        backbone: its tensors, keys without prefix; empty for a head alone.
        head: ``seg_head.weight`` (classes, C) and ``seg_head.bias`` (classes,), where there is one.
        head_config: ``backbone_out_channels`` (C), ``num_classes``, and what else its file says (``class_names``).
        source: the file or folder.
        notes: what had to be assumed or was left out, in words.
        report: how the backbone's tensors met its config.
        inputs: what it was trained on, as far as the file or the run beside it says: ``grid_size`` (metres),
            ``features`` (of coord, color, normal), ``class_names``.
    """

    kind: str
    backbone_config: dict[str, Any] | None
    backbone: dict[str, Tensor]
    head: dict[str, Tensor] | None
    head_config: dict[str, Any] | None
    source: Path
    notes: list[str] = field(default_factory=list)
    report: LoadReport | None = None
    inputs: dict[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Numbers in the backbone."""
        return sum(value.numel() for value in self.backbone.values())

    def not_finite(self) -> list[str]:
        """Names of the tensors with NaN or infinite values: of a training that diverged."""
        return [
            key
            for key, value in {**self.backbone, **(self.head or {})}.items()
            if value.is_floating_point() and not bool(value.float().isfinite().all())
        ]

    def check_usable(self) -> None:
        """Insist on what features need: an encoder that fits its config to the last tensor, with numbers in it.

        Raises:
            CheckpointError: there is no encoder, one of its tensors is missing, unknown or of another shape, or NaN.
        """
        if not self.backbone or self.report is None:
            raise CheckpointError(f"{self.source} holds a head without a backbone: name the backbone's checkpoint")
        report = self.report
        names = [*report.missing, *report.unexpected, *(item[0] for item in report.reshaped)]
        lacking = [key for key in names if is_encoder(key)]
        if lacking:
            raise CheckpointError(
                f"{self.source}: the encoder's weights do not fit its config: {report.summary()}; get the file again, "
                "or give the config that it was trained with"
            )
        broken = self.not_finite()
        if broken:
            raise CheckpointError(
                f"{self.source}: {len(broken)} of its tensors hold NaN or infinite values ({', '.join(broken[:2])}): "
                "the training diverged, or the file is damaged; take an earlier checkpoint"
            )

    def keys_report(self) -> str:
        """Counts of the four fates of tensors, and the first names of those that did not fit."""
        report = self.report
        if report is None:
            return "no backbone"
        counts = (len(names) for names in (report.matched, report.missing, report.unexpected, report.reshaped))
        text = "{} matched, {} missing, {} unexpected, {} reshaped".format(*counts)
        others = [*report.missing, *report.unexpected, *(item[0] for item in report.reshaped)]
        return text + (f" ({', '.join(others[:3])}{', …' if len(others) > 3 else ''})" if others else "")


def read(path: str | os.PathLike[str], *, part: str = "student", config: Mapping[str, Any] | None = None) -> Weights:
    """Read a checkpoint of any kind; files are opened as data and never run anything.

    Args:
        path: a file (.pth, .safetensors), or a folder as ``zoo.publish.write_folder`` leaves it, or with one
            weights file in it.
        part: whose backbone of a training checkpoint: "student" (the zoo's choice) or "teacher".
        config: arguments of the backbone to take instead of (single ones: over) those in the file.

    Raises:
        CheckpointError: no file, not a weights file, damaged, a pickle that wants more than tensors, another
            architecture, or less than 95 % of the encoder's tensors fit the config.
    """
    path = Path(path).expanduser()
    if part not in PARTS:
        raise CheckpointError(f"part={part!r} is not one of {', '.join(PARTS)}")
    if path.is_dir():
        return _read_folder(path, part, config)
    if not path.is_file():
        near = near_names(path.name, [p.name for p in path.parent.glob("*.*") if p.exists()])
        raise CheckpointError(
            f"checkpoint not found: {path}; "
            + (f"did you mean {' or '.join(near)}?" if near else "`lam3c zoo list` names what can be downloaded")
        )
    if sniff(path) == "safetensors":
        tensors, metadata = open_safetensors(path)
        stored = _json(metadata.get("config", metadata.get("head_config")), path)
        inputs = _json(metadata.get("inputs"), path)
        return _sort(strip_module(tensors), stored, inputs, path, part, config, kind="safetensors")
    content = open_pickle(path)
    stored = content.get("config") if "state_dict" in content else None
    stored = stored if isinstance(stored, Mapping) else None
    return _sort(state_dict_of(content, path), stored, content.get("inputs"), path, part, config)


def _read_folder(folder: Path, part: str, config: Mapping[str, Any] | None) -> Weights:
    """A Hub folder: ``model.safetensors``, ``config.json``, and ``head.safetensors`` where there is a head."""
    file = folder / "model.safetensors"
    if not file.is_file():
        found = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.name != "head.safetensors")
        if len(found) != 1:
            found = found or sorted(folder.glob("model/*.pth"))  # a run's folder
            names = ", ".join(str(p.relative_to(folder)) for p in found[:4]) or "none"
            raise CheckpointError(f"{folder} should hold one weights file, but has {names}; name the file itself")
        file = found[0]
    stored = folder / "config.json"
    given = dict(config or {})
    if stored.is_file():
        try:
            content = _json(stored.read_text(encoding="utf-8"), stored) or {}
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"cannot read {stored}: {error}; remove it to guess the config") from error
        backbone = content.get("backbone", content)
        known = isinstance(backbone, Mapping) and "enc_channels" in backbone
        given = {**(backbone if known else {}), **given}
    weights = read(file, part=part, config=given)
    weights.kind, weights.source = "folder", folder
    head = folder / "head.safetensors"
    if weights.head is None and head.is_file():
        other = read(head)
        weights.head, weights.head_config = other.head, other.head_config
    return weights


def _sort(
    state: Mapping[str, Tensor],
    stored: Mapping[str, Any] | None,
    inputs: Any,
    path: Path,
    part: str,
    config: Mapping[str, Any] | None,
    kind: str | None = None,
) -> Weights:
    """Tell backbone and head apart, find the config, and check one against the other."""
    inputs = {**inputs_of(run_config(path)), **checked_inputs(inputs)}
    run = inputs.pop("backbone", None)  # what the run was configured with
    head, head_config = _head_of(state, path)
    names = inputs.get("class_names", ())
    if head_config and len(names) == head_config["num_classes"]:
        head_config["class_names"] = names
    rest = {key: value for key, value in state.items() if not key.startswith(_HEAD)}
    if head and not rest:
        head_config = {**plain(stored or {}), **(head_config or {})}
        return Weights(kind or "head", None, {}, head, head_config, path, inputs=inputs)
    layout = layout_of(rest)
    notes: list[str] = []
    if layout == "pretrain" and not any(key.startswith(f"{part}.backbone.") for key in rest):
        notes.append(f"there is no {part} in the file: the other's weights were taken")
    # copies, so that a training checkpoint's optimizer is not kept, nor the file held open
    backbone = {key: value.detach().clone() for key, value in backbone_state(rest, part).items()}
    chosen = _choose_config(backbone, stored, config, run, path, notes)
    inputs.setdefault("features", _features(backbone["embedding.stem.linear.weight"].shape[1], notes))
    report = check_backbone(chosen, backbone, path)
    name = kind or {"pretrain": "training", "downstream": "finetuned", "backbone": "inference"}[layout]
    return Weights(name, chosen, backbone, head, head_config, path, notes, report, inputs)


def _head_of(state: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor] | None, dict[str, Any] | None]:
    head = {key: value.detach().clone() for key, value in state.items() if key.startswith(_HEAD)}
    if not head:
        return None, None
    weight, bias = head.get("seg_head.weight"), head.get("seg_head.bias")
    if len(head) != 2 or weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        shapes = ", ".join(f"{key} {tuple(value.shape)}" for key, value in list(head.items())[:3])
        raise CheckpointError(f"{path} has a head that is not one linear layer ({shapes}); only such heads can be used")
    return head, {"backbone_out_channels": int(weight.shape[1]), "num_classes": int(weight.shape[0])}


def _choose_config(
    backbone: Mapping[str, Tensor],
    stored: Mapping[str, Any] | None,
    given: Mapping[str, Any] | None,
    run: Mapping[str, Any] | None,
    path: Path,
    notes: list[str],
) -> dict[str, Any]:
    """The config in the file, else of the run beside it, else guessed; then what the caller gave over it."""
    try:
        guess = guess_config(backbone)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    complete = {"enc_depths", "enc_channels", "enc_num_head"}
    whole = next((config for config in (given, stored) if config and complete <= config.keys()), None)
    if whole is None:
        if run is not None:
            notes.append("heads, patches and curves are those of the run's config")
            whole = {**guess, **run, **{key: guess[key] for key in ("mask_token", "enc_mode")}}
        else:
            known = heads_are_known(guess)
            notes.append(
                f"the file has no config: depths and widths follow from its tensors, heads {guess['enc_num_head']} "
                f"{'are those of the known model' if known else 'are an ASSUMPTION (16 channels each)'}, patches of "
                f"1,024 and the order of curves are LAM3C's" + ("" if known else "; give the true ones with --config")
            )
    arguments, dropped = backbone_arguments({**(whole or guess), **(given or {})})
    if dropped:
        notes.append(f"arguments that mean nothing here were left out: {', '.join(dropped)}")
    return arguments


def _features(channels: int, notes: list[str]) -> list[str]:
    """What an encoder of so many input channels is fed with, where nothing says it."""
    names = list(FEATURES)[: channels // 3]
    if names != list(FEATURES):
        notes.append(f"{channels} input channels are taken as {' and '.join(names)}, which the file does not say")
    return names


def _json(text: str | None, path: Path) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its config is not JSON ({error}); correct it") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: its config is not a dictionary; correct it")
    return plain(content)

"""A fine-tuning of the learning proof through the engine's train entry, scored by its test entry.

From pre-trained weights the head comes first, then everything (LP-FT, arXiv 2202.10054): the linear layer on the
features of all stages starts as the linear probe of the labelled rooms. From random weights that start is worse than
none (on validation), so "scratch" trains all of it from nothing.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.learning import data, engine, pretrain, probes

CONFIG = engine.FINETUNE
START = "start.pth"


def run(spec: Mapping[str, Any], folder: Path, out: Path) -> dict[str, Any]:
    """Train with a share of the labelled rooms and score the last model on validation and test, each once.

    Raises:
        Interrupted: stopped by a signal; these runs are short and start anew.
        Lam3cError: what is wrong, in one line.
    """
    target = folder / "run"
    shutil.rmtree(target, ignore_errors=True)
    options = run_options(spec, target, out, start(spec, folder, out))
    argv = engine.arguments(CONFIG, options)
    engine.train(argv)
    entries = [{"split": split, **_scored(spec, split, folder, out)} for split in ("val", "test")]
    shutil.rmtree(target / "model")  # nothing goes on from it
    (folder / START).unlink()
    return {"command": engine.shown("train", argv, out), "entries": entries}


def start(spec: Mapping[str, Any], folder: Path, out: Path) -> Path:
    """Write the weights that the run starts from: an encoder, and with ``head_first`` a linear probe on it."""
    from lam3c_plugin.checkpoints.keys import MASK_TOKEN, backbone_state, read_checkpoint, save_atomic, state_dict_of

    source = out / pretrain.checkpoint(spec["source"], 0, last=True)
    encoder_state = backbone_state(state_dict_of(read_checkpoint(source)), spec["part"])
    state = {f"backbone.{name}": value for name, value in encoder_state.items() if name != MASK_TOKEN}
    if spec["head_first"]:
        state |= _probed_head(spec, source, out)
    save_atomic({"epoch": 0, "state_dict": state}, folder / START)
    return folder / START


def _probed_head(spec: Mapping[str, Any], source: Path, out: Path) -> dict[str, torch.Tensor]:
    from lam3c_plugin.analysis.probing import train_linear
    from lam3c_plugin.encode import load

    _, names = data.few_rooms(out, spec["train_rooms"], spec["share"])
    encoder = load(source, student=spec["part"] == "student")
    samples = probes.encode_rooms(encoder, out, "train", names, spec["head_points"], spec["seed"])
    feat, label = (np.concatenate([getattr(sample, key) for sample in samples]) for key in ("feat", "label"))
    head = train_linear(feat, label, probes.CLASSES, spec["head_decay"], spec["head_steps"])
    return {"seg_head.weight": torch.from_numpy(head.weight), "seg_head.bias": torch.from_numpy(head.bias)}


def run_options(spec: Mapping[str, Any], target: Path, out: Path, weight: Path) -> dict[str, Any]:
    """Options of the run over the proof's fine-tuning config; the few rooms loop until the steps are done."""
    split, rooms = data.few_rooms(out, spec["train_rooms"], spec["share"])
    batch = int(spec["options"].get("batch_size", 2))
    return {
        "save_path": str(target),
        "seed": spec["seed"],
        "weight": str(weight),
        "max_steps": spec["steps"],
        "epoch": math.ceil(spec["steps"] * batch / len(rooms)),  # one round of so many passes: no evaluation between
        "data.train.data_root": str(data.root_of(out, "train", "clean")),
        "data.train.split": split,
        **spec["options"],
    }


def _scored(spec: Mapping[str, Any], split: str, folder: Path, out: Path) -> dict[str, Any]:
    target = folder / "run"
    scored = folder / split
    shutil.rmtree(scored, ignore_errors=True)
    options = {
        "save_path": str(scored),
        "weight": str(target / "model" / pretrain.LAST),
        "data.test.data_root": str(data.root_of(out, split, "clean")),
        "data.test.split": data.first_rooms(out, split, "clean", spec[f"{split}_rooms"]),
    }
    engine.test(engine.arguments(target / "config.py", options))
    found = json.loads((scored / "result" / "scores.json").read_text(encoding="utf-8"))
    shutil.rmtree(scored)  # predictions of every room
    iou = [item["iou"] if item["points"] else None for item in found["classes"].values()]
    present = [value for value in iou if value is not None]
    return {"m_iou": sum(present) / len(present), "accuracy": found["allAcc"], "iou": iou}

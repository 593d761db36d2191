"""A fine-tuning of the learning proof through the engine's train entry, scored by its test entry."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import data, engine, pretrain

CONFIG = engine.FINETUNE


def run(spec: Mapping[str, Any], folder: Path, out: Path) -> dict[str, Any]:
    """Trains with a share of the labelled rooms and scores the last model on validation and test, each once.

    Raises:
        Interrupted: stopped by a signal; these runs are short and start anew.
        Lam3cError: what is wrong, in one line.
    """
    target = folder / "run"
    shutil.rmtree(target, ignore_errors=True)
    options = run_options(spec, target, out)
    argv = engine.arguments(CONFIG, options)
    engine.train(argv)
    entries = [{"split": split, **_scored(spec, split, folder, out)} for split in ("val", "test")]
    shutil.rmtree(target / "model")  # nothing goes on from it
    return {"command": engine.shown("train", argv, out), "entries": entries}


def run_options(spec: Mapping[str, Any], target: Path, out: Path) -> dict[str, Any]:
    """Options of the run over the proof's fine-tuning config; the few rooms loop until the steps are done."""
    split, rooms = data.few_rooms(out, spec["train_rooms"], spec["share"], spec["seed"])
    batch = int(spec["options"].get("batch_size", 2))
    weight = None
    if spec["source"] is not None:
        weight = str(out / pretrain.checkpoint(spec["source"], 0, last=True))
    return {
        "save_path": str(target),
        "seed": spec["seed"],
        "weight": weight,
        "hooks.0.part": spec["part"],
        "max_steps": spec["steps"],
        "epoch": math.ceil(spec["steps"] * batch / rooms),  # one round of so many passes: no evaluation between
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

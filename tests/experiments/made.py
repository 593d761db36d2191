"""A results file as the learning benchmark writes it, made up: the report's tests change one part of it at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_tools.synthetic.rooms.palette import CLASSES
from experiments.learning.presets import SEEDS

STEPS, ROOMS = 200, 100


def pretrain(row: str, seed: int, rooms: int = ROOMS, noise: str = "pi3", steps: int = STEPS) -> dict[str, Any]:
    """A pre-training with a healthy monitor."""
    recorded = list(range(1, steps + 1, 4))
    return {
        "id": f"{row}-{seed}-{rooms}-{noise}",
        "row": row,
        "seed": seed,
        "rooms": rooms,
        "noise": noise,
        "steps": steps,
        "seconds": 120.0,
        "checkpoint": f"jobs/{row}-{seed}-{rooms}-{noise}/model_last.pth",
        "monitor": {
            "step": recorded,
            "loss": [4.0 - step / steps for step in recorded],
            "effective_rank": [20.0] * len(recorded),
            "target_entropy": [0.6] * len(recorded),
            "coverage": [0.9] * len(recorded),
        },
    }


def probe(row: str, seed: int, m_iou: float, split: str = "test", kind: str = "linear", **changes: Any) -> dict:
    """A probe of a pre-training at the main setting, or of random weights."""
    entry = {"row": row, "seed": seed, "rooms": ROOMS, "noise": "pi3", "step": STEPS, "probe": kind, "split": split}
    entry |= {"m_iou": m_iou, "accuracy": 0.7, "iou": [m_iou] * 23 + [None], "decay": 1e-3, "share": 1.0, **changes}
    if row == "random":
        entry |= {"source": f"random-{seed}", "rooms": None, "noise": None, "step": 0}
    else:
        entry["source"] = f"{row}-{seed}-{entry['rooms']}-{entry['noise']}"
    return entry | {"id": f"{entry['source']}-{entry['step']}-{kind}-{split}"}


def finetune(row: str, seed: int, share: float, m_iou: float) -> dict[str, Any]:
    """A fine-tuning, scored on the test rooms."""
    entry = {"id": f"ft-{row}-{seed}-{share}", "row": row, "seed": seed, "share": share, "split": "test"}
    return entry | {"m_iou": m_iou, "accuracy": 0.8, "iou": [m_iou] * 24, "steps": 300, "seconds": 60.0}


def results() -> dict[str, Any]:
    """Three seeds of random, clustering and full at one setting; full is ahead, by 20 and by 2 points."""
    wiggle = (-0.01, 0.0, 0.01)
    means = {"random": 0.20, "clustering": 0.38, "full": 0.40}
    tuned = {"scratch": 0.30, "full": 0.45}
    return {
        "version": 1,
        "preset": "cpu",
        "machine": {"cpu": "two cores", "memory_gib": 24},
        "versions": {"python": "3.11.7", "torch": "2.15.0"},
        "commit": "abc1234",
        "command": "python experiments/learning/run.py --preset cpu --out exp/learning",
        "wall_seconds": 3000.0,
        "classes": list(CLASSES),
        "settings": {"grid_size": 0.04, "generator_seeds": SEEDS, "shares": [0.1, 1.0]},
        "pretrain": [pretrain(row, seed) for row in ("clustering", "full") for seed in range(3)],
        "probe": [
            probe(row, seed, mean + wiggle[seed], kind=kind)
            for row, mean in means.items()
            for seed in range(3)
            for kind in ("linear", "knn")
        ],
        "finetune": [
            finetune(row, seed, share, mean + wiggle[seed] + share / 10)
            for row, mean in tuned.items()
            for seed in range(3)
            for share in (0.1, 1.0)
        ],
        "failed": [],
    }


def save(folder: Path, data: dict[str, Any]) -> Path:
    """Write it as ``results.json``."""
    path = folder / "results.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path

"""Probes of one checkpoint: frozen features of labelled rooms, encoded once; a linear layer and nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.learning import data, pretrain
from experiments.learning.presets import GRID_SIZE

if TYPE_CHECKING:
    from lam3c_plugin.analysis.heads import Head
    from lam3c_plugin.analysis.probing import Sample
    from lam3c_plugin.encode import Encoder

CLASSES = 24
EVAL_SEED = 0  # points of validation and test rooms: the same for every row and seed


def run(spec: Mapping[str, Any], folder: Path, out: Path) -> dict[str, Any]:
    """Score both probes on validation and test rooms; ``spec`` is that of ``plan``.

    The linear probe's weight decay is the best one on validation; the test rooms are predicted once, afterwards.
    """
    del folder
    from lam3c_plugin.analysis.heads import classify
    from lam3c_plugin.analysis.probing import Neighbours
    from lam3c_plugin.encode import load

    path = pretrain.checkpoint(spec["source"], spec["step"], spec["last"])
    encoder = load(out / path, student=spec["probe_part"] == "student")
    rooms = {part: data.room_names(part, "clean", spec[f"{part}_rooms"]) for part in ("train", "val", "test")}
    train = encode_rooms(encoder, out, "train", rooms["train"], spec["probe_points"], spec["seed"])
    val = encode_rooms(encoder, out, "val", rooms["val"], spec["eval_points"], EVAL_SEED)
    feat, label = (np.concatenate([getattr(sample, key) for sample in train]) for key in ("feat", "label"))
    head, decay, tried = choose_decay(feat, label, val, spec["probe_decays"], spec["probe_steps"])
    bank = Neighbours.of(feat, label, CLASSES, spec["bank"], spec["seed"], spec["neighbours"])
    test = encode_rooms(encoder, out, "test", rooms["test"], spec["eval_points"], EVAL_SEED)
    entries = []
    for split, samples in (("val", val), ("test", test)):
        linear = {"probe": "linear", "split": split, "decay": decay}
        entries.append({**linear, **scored([classify(s.feat, head)[0] for s in samples], samples)})
        knn = {"probe": "knn", "split": split, "decay": None}
        entries.append({**knn, **scored([bank.predict(s.feat) for s in samples], samples)})
    return {"checkpoint": path, "channels": int(feat.shape[1]), "decays": tried, "entries": entries}


def encode_rooms(encoder: Encoder, out: Path, part: str, rooms: Sequence[str], most: int, seed: int) -> list[Sample]:
    """Features of all stages side by side, at a sample of each room's labelled points.

    Args:
        encoder: frozen.
        out: output folder.
        part: "train", "val" or "test".
        rooms: names in that part's data root.
        most: points of a room at most, drawn by ``seed`` and the room's name.
        seed: of that draw.
    """
    from lam3c_plugin.analysis.probing import Sample, ignore_labels, sample_rows
    from lam3c_plugin.encode.labelled import read_labelled

    samples = []
    for name in rooms:
        path = data.root_of(out, part, "clean") / name
        cloud = read_labelled(path, "segment")
        label = ignore_labels(cloud.segment, [])
        rows = sample_rows(label, most, seed, path.name)
        cells = encoder.encode_cells(cloud.coord, cloud.color, cloud.normal, grid_size=GRID_SIZE, color_range=255)
        samples.append(Sample(path.name, cells.feat[cells.inverse[rows]].astype(np.float16), label[rows]))
    return samples


def choose_decay(
    feat: np.ndarray, label: np.ndarray, val: Sequence[Sample], decays: Sequence[float], steps: int
) -> tuple[Head, float, dict[str, float]]:
    """The linear probe whose weight decay does best on the validation rooms.

    Returns:
        head, decay, and the validation mIoU (0..1, classes that occur there) of every decay.
    """
    from lam3c_plugin.analysis.heads import classify
    from lam3c_plugin.analysis.probing import train_linear

    tried: dict[str, float] = {}
    best: tuple[Head, float] | None = None
    for decay in decays:
        head = train_linear(feat, label, CLASSES, decay, steps)
        value = scored([classify(sample.feat, head)[0] for sample in val], val)["m_iou"]
        if best is None or value > max(tried.values()):
            best = (head, float(decay))
        tried[f"{decay:g}"] = value
    if best is None:
        raise ValueError("choose_decay needs at least one decay")
    return (*best, tried)


def scored(predictions: Sequence[np.ndarray], samples: Sequence[Sample]) -> dict[str, Any]:
    """mIoU over the classes that occur, accuracy, and IoU by class (None where it does not occur)."""
    from lam3c_plugin.analysis.probing import present_miou, score

    found = score(predictions, samples, CLASSES)
    iou = [float(value) if points else None for value, points in zip(found.iou, found.points, strict=True)]
    return {"m_iou": present_miou(found), "accuracy": found.all_acc, "iou": iou}

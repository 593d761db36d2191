"""Linear probes, chosen on validation rooms and scored on test rooms: raw inputs, random weights, trained encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.synthetic.rooms.palette import CLASSES
from experiments.tiny.rooms import Room
from lam3c_plugin.analysis.heads import Head, classify
from lam3c_plugin.analysis.probing import Sample, present_miou, sample_rows, score, train_linear
from lam3c_plugin.encode import Encoder
from lam3c_plugin.encode.clouds import prepare
from lam3c_plugin.encode.labelled import read_labelled

GRID_SIZE = 0.04
NEIGHBOURS = 16
POINTS = {"train": 1024, "val": 2048, "test": 2048}  # labelled points of a room
DECAYS = (1e-5, 1e-4, 1e-3)
ROWS = ("raw inputs", "random weights", "student", "teacher")  # of the tables
PAIRS = 4  # of training rooms, for the probe with the labels of two rooms
Columns = tuple[np.ndarray, np.ndarray, np.ndarray]
Describe = Callable[[Columns], tuple[np.ndarray, np.ndarray]]
Samples = Mapping[str, list[Sample]]


def raw_inputs(cloud: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Per cell: height above the lowest point (m), colour, normal, and the neighbourhood's spread along its axes.

    Returns:
        (M, 10) float32: 1 + 3 + 3 numbers, then square roots (m) of the ascending eigenvalues of the covariance of the
        16 nearest cells' points; and the cell (N,) of each point. The cells are the encoder's.
    """
    from scipy.spatial import cKDTree

    cells = prepare(*cloud, grid_size=GRID_SIZE, color_range=255, device="cpu")
    feat = cells.feat.numpy()
    near = cKDTree(feat[:, :3]).query(feat[:, :3], k=min(NEIGHBOURS, len(feat)), workers=-1)[1].reshape(len(feat), -1)
    apart = feat[near, :3] - feat[near, :3].mean(axis=1, keepdims=True)
    spread = np.linalg.eigvalsh(np.einsum("nki,nkj->nij", apart, apart) / near.shape[1])
    return np.hstack([feat[:, 2:9], np.sqrt(np.clip(spread, 0, None))]), cells.inverse.numpy()


def encoded(encoder: Encoder) -> Describe:
    """Features of all stages of an encoder, per cell."""

    def describe(cloud: Columns) -> tuple[np.ndarray, np.ndarray]:
        cells = encoder.encode_cells(*cloud, grid_size=GRID_SIZE, color_range=255)
        return cells.feat, cells.inverse

    return describe


def describe_rooms(describe: Describe, rooms: Sequence[Room], root: Path, most: int) -> list[Sample]:
    """Features at a sample of each room's points: the same points for every network."""
    samples = []
    for room in rooms:
        cloud = read_labelled(root / room.kind / room.name, "segment")
        rows = sample_rows(cloud.segment, most, 0, room.name)
        feat, cell = describe((cloud.coord, cloud.color, cloud.normal))
        samples.append(Sample(room.name, feat[cell[rows]].astype(np.float16), cloud.segment[rows]))
    return samples


def probe(train: Sequence[Sample], val: Sequence[Sample], test: Sequence[Sample], device: str) -> dict[str, Any]:
    """The linear probe whose weight decay does best on the validation rooms: ``head``, ``decay``, scores by split."""
    feat, label = (np.concatenate([getattr(sample, key) for sample in train]) for key in ("feat", "label"))
    tried = []
    for decay in DECAYS:
        head = train_linear(feat, label, len(CLASSES), decay, device=device)
        tried.append({"head": head, "decay": decay, "val": scores(head, val)})
    best = max(tried, key=lambda item: item["val"]["m_iou"])
    return {**best, "test": scores(best["head"], test)}


def scores(head: Head, samples: Sequence[Sample]) -> dict[str, Any]:
    """mIoU over the classes that occur, accuracy, and the IoU of every class (None where it does not occur)."""
    found = score([classify(sample.feat, head)[0] for sample in samples], samples, len(CLASSES))
    iou = [float(value) if points else None for value, points in zip(found.iou, found.points, strict=True)]
    return {"m_iou": present_miou(found), "accuracy": float(found.all_acc), "iou": iou}


def measure(describe: Describe, rooms: Mapping[tuple[str, str], list[Room]], root: Path, device: str) -> dict[str, Any]:
    """One row of the table.

    Args:
        describe: what is probed.
        rooms: of each (kind, split).
        root: folder of the sets.
        device: that trains the probes.

    Returns:
        what `probe` finds on "clean" and "noisy" rooms, each with a probe trained on rooms of its kind; "mixed": one
        probe of and on both; "two_rooms": on the noisy ones with the labels of two noisy rooms, a list over pairs.
    """
    found = {key: describe_rooms(describe, chosen, root, POINTS[key[1]]) for key, chosen in rooms.items()}
    row: dict[str, Any] = {"channels": int(found["clean", "train"][0].feat.shape[1])}
    for kind in ("clean", "noisy"):
        row[kind] = probe(*(found[kind, split] for split in POINTS), device)
    row["mixed"] = probe(*(found["clean", split] + found["noisy", split] for split in POINTS), device)
    train, *rest = (found["noisy", split] for split in POINTS)
    pairs = [train[i : i + 2] for i in range(0, min(2 * PAIRS, len(train) - 1), 2)]
    row["two_rooms"] = [probe(pair, *rest, device) for pair in pairs]
    return row


def table(rows: Mapping[str, Mapping[str, Any]], split: str) -> str:
    """The rows in Markdown, mIoU in percent on the rooms of a split."""
    lines = [
        "| features | channels | clean rooms | noisy rooms | both | noisy, labels of two rooms |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in (name for name in ROWS if name in rows):
        row = rows[name]
        values = [row[kind][split]["m_iou"] for kind in ("clean", "noisy", "mixed")]
        values.append(float(np.mean([pair[split]["m_iou"] for pair in row["two_rooms"]])))
        lines.append(f"| {name} | {row['channels']} | " + " | ".join(f"{100 * value:.1f}" for value in values) + " |")
    return "\n".join(lines) + "\n"

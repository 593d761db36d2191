"""Linear probes on validation rooms: raw inputs, random weights, and the trained encoders, clean and noisy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.synthetic.rooms.palette import CLASSES
from experiments.tiny.rooms import Room
from lam3c_plugin.analysis.heads import Head, classify
from lam3c_plugin.analysis.labelled import Sample, read_labelled, sample_rows
from lam3c_plugin.analysis.probing import present_miou, score, train_linear
from lam3c_plugin.encode import Encoder
from lam3c_plugin.encode.clouds import prepare

GRID_SIZE = 0.04
NEIGHBOURS = 16
TRAIN_POINTS, VAL_POINTS = 1024, 2048  # labelled points of a room
DECAYS = (1e-5, 1e-4, 1e-3)
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


def probe(train: Sequence[Sample], val: Sequence[Sample], device: str) -> tuple[Head, dict[str, Any]]:
    """The linear probe whose weight decay does best on the validation rooms; its scores there."""
    feat, label = (np.concatenate([getattr(sample, key) for sample in train]) for key in ("feat", "label"))
    tried = []
    for decay in DECAYS:
        head = train_linear(feat, label, len(CLASSES), decay, device=device)
        found = score([classify(sample.feat, head)[0] for sample in val], val, len(CLASSES))
        iou = [float(value) if points else None for value, points in zip(found.iou, found.points, strict=True)]
        scores = {"m_iou": present_miou(found), "accuracy": float(found.all_acc), "decay": decay, "iou": iou}
        tried.append((head, scores))
    return max(tried, key=lambda item: item[1]["m_iou"])


def measure(describe: Describe, rooms: Mapping[tuple[str, str], list[Room]], root: Path, device: str) -> dict[str, Any]:
    """One row of the table.

    Args:
        describe: what is probed.
        rooms: of each (kind, split).
        root: folder of the sets.
        device: that trains the probes.

    Returns:
        scores on "clean" and "noisy" rooms, each with a probe trained on rooms of its kind; "two_rooms": mIoU on the
        noisy ones with the labels of two noisy rooms, of several pairs; "mixed": one probe of and on both; its head.
    """
    most = {"train": TRAIN_POINTS, "val": VAL_POINTS}
    found = {key: describe_rooms(describe, chosen, root, most[key[1]]) for key, chosen in rooms.items()}
    row: dict[str, Any] = {"channels": int(found["clean", "train"][0].feat.shape[1])}
    for kind in ("clean", "noisy"):
        row[kind] = probe(found[kind, "train"], found[kind, "val"], device)[1]
    train = found["noisy", "train"]
    pairs = [train[i : i + 2] for i in range(0, min(2 * PAIRS, len(train) - 1), 2)]
    row["two_rooms"] = [probe(pair, found["noisy", "val"], device)[1]["m_iou"] for pair in pairs]
    both = [found["clean", split] + found["noisy", split] for split in ("train", "val")]
    row["head"], row["mixed"] = probe(*both, device)
    return row


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The rows in Markdown, mIoU in percent."""
    lines = [
        "| features | channels | clean rooms | noisy rooms | both | noisy, labels of two rooms |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        values = [100 * row[kind]["m_iou"] for kind in ("clean", "noisy", "mixed")] + [100 * np.mean(row["two_rooms"])]
        lines.append(f"| {name} | {row['channels']} | " + " | ".join(f"{value:.1f}" for value in values) + " |")
    return "\n".join(lines) + "\n"

"""Linear heads on the features: a class for every point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lam3c_plugin.analysis.components import blocks


@dataclass
class Head:
    """A linear layer.

    Attributes:
        weight: (K, C) float32.
        bias: (K,) float32.
        source: where it is from, in words.
        names: of the K classes, where they are known.
        grid_size: metres of the cells whose features it was trained on, likewise.
    """

    weight: np.ndarray
    bias: np.ndarray
    source: str
    names: list[str] | None = None
    grid_size: float | None = None


def classify(feat: np.ndarray, head: Head) -> tuple[np.ndarray, np.ndarray]:
    """Class (N,) int32 of each row of features (N, C), and its probability (N,) float32 by softmax."""
    label, share = np.empty(len(feat), dtype=np.int32), np.empty(len(feat), dtype=np.float32)
    for rows in blocks(len(feat)):
        score = feat[rows].astype(np.float32) @ head.weight.T + head.bias
        label[rows] = score.argmax(axis=1)
        share[rows] = 1.0 / np.exp(score - score.max(axis=1, keepdims=True)).sum(axis=1)
    return label, share

"""The one PCA: principal components of features of any number of points, the same on every run, and their colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_BLOCK = 1 << 14
_MOST = 100_000  # rows that axes are fitted to: C is some hundreds to two thousand, and the work grows with its square


@dataclass
class Components:
    """Axes of features.

    Attributes:
        mean: (C,).
        axes: (C, K) of unit length, largest variance first.
        share: (K,) of the variance.
    """

    mean: np.ndarray
    axes: np.ndarray
    share: np.ndarray

    def scores(self, feat: np.ndarray) -> np.ndarray:
        """(N, C) features to (N, K) float32."""
        axes, mean = self.axes.astype(np.float32), self.mean.astype(np.float32)
        out = np.empty((len(feat), axes.shape[1]), dtype=np.float32)
        for rows in blocks(len(feat)):
            out[rows] = (feat[rows].astype(np.float32) - mean) @ axes
        return out


def blocks(count: int, size: int = _BLOCK) -> Iterator[slice]:
    """Slices that cover ``count`` rows."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def principal_components(
    feats: Sequence[np.ndarray], most: int, centre: bool = True, most_rows: int = _MOST
) -> Components:
    """Components of the rows of several arrays together.

    The sign of an axis is fixed by its largest-magnitude loading being positive, so that equal features give equal
    scores on every machine.

    Args:
        feats: (N_i, C) finite features.
        most: K at most; axes without variance are left out.
        centre: subtract the mean first; without it the axes are those of the second moment, which keep inner products.
        most_rows: of more rows, about so many evenly spaced ones are looked at.

    Raises:
        ValueError: no row at all.
    """
    step = max(1, -(-sum(len(feat) for feat in feats) // most_rows))
    feats = [feat[::step] for feat in feats]
    count, width = sum(len(feat) for feat in feats), feats[0].shape[1]
    if not count:
        raise ValueError("principal components need at least one row")
    mean = sum(feat.sum(axis=0, dtype=np.float64) for feat in feats) / count if centre else np.zeros(width)
    moment = np.zeros((width, width))
    for feat in feats:
        for rows in blocks(len(feat)):
            part = feat[rows].astype(np.float64) - mean
            moment += part.T @ part
    value, vector = np.linalg.eigh(moment)
    order = [i for i in np.argsort(value)[::-1][:most] if value[i] > 1e-12 * max(value[-1], 1e-300)]
    axes = vector[:, order]
    if len(order):
        axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(len(order))])
    return Components(mean, axes, value[order] / max(value.sum(), 1e-300))


def component_colors(
    feats: Sequence[np.ndarray], first: int = 0, percentiles: tuple[float, float] = (1.0, 99.0)
) -> tuple[list[np.ndarray], Components]:
    """Three components as colours, the same scale for all arrays.

    Args:
        feats: (N_i, C) finite features.
        first: components to pass over; the strongest often tells height or density apart, and little else.
        percentiles: of the scores of all rows, mapped to 0 and 1: single outliers do not wash the colours out.

    Returns:
        (N_i, 3) float32 in [0, 1] for each array (0.5 where there is no component), and the components.
    """
    found = principal_components(feats, first + 3)
    scores = [found.scores(feat)[:, first:] for feat in feats]
    joined = np.concatenate(scores)
    colors = [np.full((len(score), 3), 0.5, dtype=np.float32) for score in scores]
    for channel in range(joined.shape[1]):
        low, high = np.percentile(joined[:, channel], percentiles)
        if high > low:
            for color, score in zip(colors, scores, strict=True):
                color[:, channel] = np.clip((score[:, channel] - low) / (high - low), 0.0, 1.0)
    return colors, found


def pca_colors(feat: Any) -> np.ndarray:
    """The first three components of any features as colours.

    Args:
        feat: (N, C) array, or tensor on any device.

    Returns:
        (N, 3) float32 in [0, 1]; 0.5 where there is no component, and in rows that are not finite.

    Raises:
        ValueError: ``feat`` is not (N, C).
    """
    feat = np.asarray(feat.detach().float().cpu() if hasattr(feat, "detach") else feat)
    if feat.ndim != 2:
        raise ValueError(f"feat must be (N, C), got {feat.shape}")
    colors = np.full((len(feat), 3), 0.5, dtype=np.float32)
    finite = np.isfinite(feat).all(axis=1)
    if finite.any() and feat.shape[1]:
        colors[finite] = component_colors([feat[finite]])[0][0]
    return colors

"""How alike points are: cosine similarity of features to picked points, and its colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from lam3c_plugin.analysis.components import blocks, principal_components
from lam3c_plugin.errors import DataError

#: colour at even steps from least to most alike; the page gets the same list
RAMP = (
    (13, 8, 135), (84, 2, 163), (139, 10, 165), (185, 50, 137), (219, 92, 104), (244, 136, 73), (254, 188, 43),
    (240, 249, 33),
)  # fmt: skip
MARK, MARK_EDGE = (0, 230, 60), (0, 0, 0)  # of the picked points, and of a ring around each
LOW_PERCENTILE = 20.0  # similarities up to it share the darkest colour


def nearest_rows(coord: np.ndarray, picks: np.ndarray, limit: float = 0.5) -> np.ndarray:
    """(P,) row of the point nearest to each pick.

    Args:
        coord: (N, 3) metres.
        picks: (P, 3) metres, in the same coordinates.
        limit: metres a pick may be away from any point.

    Raises:
        DataError: a pick is farther away; the message has the cloud's box.
    """
    distance, row = cKDTree(coord).query(picks)
    for pick, far in zip(picks, distance, strict=True):
        if not far <= limit:
            low, high = coord.min(axis=0), coord.max(axis=0)
            box = ", ".join(f"{axis} {a:.2f} to {b:.2f}" for axis, a, b in zip("xyz", low, high, strict=True))
            raise DataError(
                f"--pick {','.join(f'{v:g}' for v in pick)}: the nearest point is {far:.2f} m away; the cloud has {box}"
            )
    return row.astype(np.int64)


def unit_rows(feat: np.ndarray) -> np.ndarray:
    """(N, C) float32 rows of length one; zero rows stay zero."""
    feat = feat.astype(np.float32)
    length = np.sqrt(np.einsum("nc,nc->n", feat, feat))[:, None]
    return np.divide(feat, length, out=np.zeros_like(feat), where=length > 1e-12)


def cosine_to(unit: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(P, N) cosine similarity of every row of ``unit`` (N, C), of length one, to the rows ``rows`` (P,)."""
    out = np.empty((len(rows), len(unit)), dtype=np.float32)
    for part in blocks(len(unit)):
        out[:, part] = np.clip(unit[rows] @ unit[part].T, -1.0, 1.0)
    return out


def heat_colors(similarity: np.ndarray, low: float | None = None) -> np.ndarray:
    """(N, 3) uint8: 1 is yellow; ``low`` (default: the 20th percentile) and below dark blue."""
    low = float(np.percentile(similarity, LOW_PERCENTILE)) if low is None else low
    place = np.clip((similarity - low) / max(1.0 - low, 1e-6), 0.0, 1.0) * (len(RAMP) - 1)
    ramp = np.array(RAMP, dtype=np.float64)
    step = np.minimum(place.astype(np.int64), len(RAMP) - 2)
    share = (place - step)[:, None]
    return np.rint(ramp[step] * (1 - share) + ramp[step + 1] * share).astype(np.uint8)


def mark_radius(coord: np.ndarray) -> float:
    """Metres around a pick that are painted, so that it is seen in a picture of the whole cloud."""
    return max(0.04, 0.02 * float(np.linalg.norm(np.ptp(coord, axis=0))))


def mark_points(color: np.ndarray, coord: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """A copy of ``color`` with what is near the points ``picked`` (P, 3) in green, a black ring around it."""
    color, tree, radius = color.copy(), cKDTree(coord), mark_radius(coord)
    for reach, paint in ((1.5 * radius, MARK_EDGE), (radius, MARK)):
        for near in tree.query_ball_point(picked, reach):
            color[near] = paint
    return color


@dataclass
class Packed:
    """Features in few bytes, for a page that compares points by itself.

    The inner product of rows i and j of the unit features is about ``sum_k weight[k] * code[i, k] * code[j, k]``.

    Attributes:
        code: (N, K) int8.
        weight: (K,) float64, squared width of a step along each axis.
    """

    code: np.ndarray
    weight: np.ndarray

    def cosine_to(self, row: int) -> np.ndarray:
        """(N,) approximate cosine similarity to a row, as the page computes it; exactly 1 to itself."""
        values = np.clip(self.code.astype(np.float64) @ (self.weight * self.code[row]), -1.0, 1.0)
        values[row] = 1.0
        return values


def pack(unit: np.ndarray, most: int = 32) -> Packed:
    """Unit features (N, C) in at most ``most`` dimensions of 8 bits.

    The dimensions are the axes of the second moment without centring, which keep inner products best. What is lost is
    the variance outside of them and the rounding; `packing_error` measures it.
    """
    scores = principal_components([unit], most, centre=False).scores(unit)
    step = np.maximum(np.abs(scores).max(axis=0, initial=0.0), 1e-12) / 127.0
    return Packed(np.rint(scores / step).astype(np.int8), step.astype(np.float64) ** 2)


def packing_error(unit: np.ndarray, packed: Packed, probes: int = 16) -> tuple[float, float]:
    """Mean and largest difference to the true cosine, over ``probes`` evenly spaced rows against all."""
    rows = np.unique(np.linspace(0, len(unit) - 1, min(probes, len(unit))).astype(np.int64))
    true = cosine_to(unit, rows)
    error = np.abs(np.stack([packed.cosine_to(int(row)) for row in rows]) - true)
    return float(error.mean()), float(error.max())

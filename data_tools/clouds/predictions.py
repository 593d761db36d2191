"""Arrays that VGGT and pi3 leave (npz): which they are, and the points that the backends' own thresholds keep."""

from __future__ import annotations

import numpy as np

from data_tools.clouds.types import UNSURE, Cloud

VGGT_DROPPED = 0.25  # share of the pixels, the least sure ones, that VGGT's authors drop
PI3_CONFIDENCE = 0.1  # sigmoid of the logits, as pi3's authors have it
VGGT_COORD = ("world_points_from_depth", "world_points")  # unprojected depth is the better one
CONFIDENCE_OF = {"world_points_from_depth": "depth_conf", "world_points": "world_points_conf"}


def share_ranks(values: np.ndarray, sample: int = 1_000_000) -> np.ndarray:
    """The share of all values that are not above each one: (…) float32 in (0, 1], from an even sample of them."""
    flat = values.reshape(-1)
    known = np.sort(flat[:: max(1, -(-flat.size // sample))])
    known = known[np.isfinite(known)]
    if not len(known):
        return np.zeros(values.shape, np.float32)
    out = np.empty(values.shape, np.float32)
    for index in range(len(values)):  # view by view: float64 ranks of all at once would double the memory
        out[index] = np.searchsorted(known, values[index], side="right") / len(known)
    return np.where(np.isfinite(values), out, np.float32(0))


def holds_logits(confidence: np.ndarray) -> bool:
    """Whether any confidence lies outside 0..1; those that were no numbers do not count."""
    return bool((((confidence < 0) | (confidence > 1)) & (confidence != UNSURE)).any())


def without_unsure(cloud: Cloud, kind: str) -> Cloud:
    """The points of a network's prediction that its backend keeps, with the backend's confidence and a note.

    Args:
        cloud: with ``confidence`` as the network gave it.
        kind: "vggt" (any positive numbers; their rank counts) or "pi3" (logits where any is outside 0..1, else
            probabilities).

    Returns:
        the cloud without the unsure points; ``confidence`` in 0..1.
    """
    value = cloud.confidence
    if value is None:
        return cloud
    if kind == "vggt":
        threshold, words = VGGT_DROPPED, f"the {VGGT_DROPPED:.0%} VGGT is least sure of"
        value = share_ranks(value[None])[0]
    else:
        threshold, words = PI3_CONFIDENCE, f"confidence up to {PI3_CONFIDENCE} (pi3's threshold)"
        if holds_logits(value):
            value = (1.0 / (1.0 + np.exp(-np.clip(value.astype(np.float64), -60, 60)))).astype(np.float32)
    cloud.confidence = value
    keep = value > threshold
    if keep.all():
        return cloud
    cloud.notes.append(f"dropped {int((~keep).sum())} of {len(keep)} points: {words}")
    return cloud.select(keep)

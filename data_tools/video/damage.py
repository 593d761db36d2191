"""How much of a video is missing: holes between its pictures, and what its header promises beyond the last one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

REGULAR = (
    0.85  # share of the gaps (those that are no hole anyway) that are about the usual one, where frames come regularly
)
LEAST_HOLE = 0.5  # seconds, where they do not
Hole = tuple[float, float]


def find_holes(
    times: NDArray, stated: float, shown: NDArray | None = None, packets: NDArray | None = None
) -> list[Hole]:
    """Stretches without a picture that a whole file would have.

    A picture stands for the usual time between two (where they come irregularly: for up to half a second, or three
    times the usual time), and for as long as the file says that it is shown.

    Args:
        times: (F,) rising seconds of the pictures that decoded.
        stated: length of the video as its header says, seconds; 0 where it says nothing.
        shown: (F,) seconds each picture is shown as the file says, 0 where unknown.
        packets: (P,) rising seconds of the packets, decoded or not: they tell better than what is left of the pictures
            how regularly those should come.

    Returns:
        (start, end) in order. What is decoded is the rest: ``stated`` less their lengths.
    """
    if len(times) == 0:
        return [(0.0, stated)] if stated > 0 else []
    gaps = np.diff(times if packets is None or len(packets) < len(times) else packets)
    step = float(np.median(gaps)) if len(gaps) else 0.0
    known = len(gaps) >= 3  # else the step may be a hole itself
    short = gaps[gaps <= max(LEAST_HOLE, 3 * step)]
    is_regular = known and float(np.mean((short > 0.7 * step) & (short < 1.5 * step))) >= REGULAR
    most = 1.6 * step if is_regular else max(LEAST_HOLE, (3 if known else 1.6) * step)
    end = max(stated, float(times[-1]) + step)
    after = np.append(times[1:], end)
    covered = np.zeros(len(times)) if shown is None else np.asarray(shown)
    holes = [(0.0, float(times[0]))] if times[0] > max(most, LEAST_HOLE) else []
    for start, stop, length in zip(times, after, covered, strict=True):
        if stop - start > max(most, 1.6 * length):
            stands_for = max(step, length) if known else length or step
            holes.append((float(start + stands_for), float(stop)))
    return _within(holes, stated - len(times) * step) if is_regular and stated > 0 else holes


def _within(holes: list[Hole], most: float) -> list[Hole]:
    """Holes of ``most`` seconds in all: a damaged time stamp opens one where nothing is missing."""
    excess = sum(end - start for start, end in holes) - most
    if not holes or excess <= LEAST_HOLE / 2:
        return holes
    start, end = largest = max(holes, key=lambda hole: hole[1] - hole[0])
    rest = [hole for hole in holes if hole != largest]
    return sorted([*rest, (start, end - excess)]) if end - start > excess else _within(rest, most)

"""The release's way to scenes (arXiv 2512.23042): all indoor frames of a video joined into one, then parted by room.

Every frame's answer, indoor or not, is made 0 or 1 at 0.5; their mean over ``smoothing`` seconds keeps it or not. Runs
shorter than ``min_indoor`` go, and ``margin`` around outdoor frames. What is left is one stretch of time, across cuts;
``rate`` frames a second get their likeliest room, and runs shorter than ``min_room`` join a neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from data_tools.segmentation.scenes import Segmentation, Span, merge_short, split_evenly, with_probability
from data_tools.segmentation.settings import NO_ROOM, SegmentSettings
from data_tools.video.sampling import Ticker

Stretch = tuple[float, float]


def box_mean(times: NDArray, values: NDArray, width: float) -> NDArray[np.float64]:
    """Mean of the values within half of ``width`` seconds of each time.

    Args:
        times: (S,) rising.
        values: (S,).
        width: seconds.
    """
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    low = np.searchsorted(times, times - width / 2 - 1e-6)
    high = np.searchsorted(times, times + width / 2 + 1e-6, side="right")
    return (total[high] - total[low]) / (high - low)


def joined_scenes(
    times: NDArray, probabilities: NDArray, names: Sequence[str], duration: float, settings: SegmentSettings
) -> Segmentation:
    """Scenes of a video; where it was cut does not matter.

    Args:
        times: (S,) seconds of every frame.
        probabilities: (S, C) of ``names``.
        names: the C labels; "outdoor" and "other" are no rooms.
        duration: seconds of the video.
        settings: lengths, margin, smoothing, rate of the rooms.
    """
    shares = np.asarray(probabilities, np.float64)
    rooms = [i for i, name in enumerate(names) if name not in NO_ROOM]
    kept, dropped = _indoor(times, shares[:, rooms].sum(1), duration, settings)
    if not kept or not rooms:
        return Segmentation([], dropped, [], shares)
    inside = np.any([(times >= start) & (times < end) for start, end in kept], axis=0)
    joined = _joined_time(times[inside], kept)
    spans = _rooms(joined, shares[inside][:, rooms], [names[i] for i in rooms], _length(kept), settings)
    scenes = []
    for span in (part for whole in merge_short(spans, settings.min_room) for part in split_evenly(whole, settings)):
        parts = _video_time(span, kept, 2 / settings.rate)
        scenes.append(replace(span, start=parts[0][0], end=parts[-1][1], parts=parts))
    boundaries = [scene.start for before, scene in pairwise(scenes) if before.label != scene.label]
    return Segmentation([with_probability(s, times, shares, names) for s in scenes], dropped, boundaries, shares)


def _indoor(
    times: NDArray, indoor: NDArray, duration: float, settings: SegmentSettings
) -> tuple[list[Stretch], list[Span]]:
    """The stretches of indoor frames that are long enough, and what is dropped."""
    is_kept = box_mean(times, indoor >= 0.5, settings.smoothing) >= 0.5
    changes = np.flatnonzero(np.diff(is_kept)) + 1
    edges = [0.0, *(float(times[i]) for i in changes), duration]
    kept: list[Stretch] = []
    dropped: list[Span] = []
    for number, (start, end) in enumerate(pairwise(edges)):
        if not is_kept[[0, *changes][number]]:
            dropped.append(Span(start, end, "outdoor", reason="no room to see"))
        elif end - start < settings.min_indoor:
            reason = f"{end - start:.1f} s of room, shorter than {settings.min_indoor:g} s"
            dropped.append(Span(start, end, reason=reason))
        else:
            low = start + (settings.margin if number else 0.0)
            high = end - (settings.margin if number < len(changes) else 0.0)
            margins = [(start, low), (high, end)]
            dropped += [Span(a, b, reason="margin") for a, b in margins if b > a]
            low = float(times[min(np.searchsorted(times, low - 1e-6), len(times) - 1)])
            kept += [(low, high)] if high > low else []
    return kept, sorted(dropped, key=lambda span: span.start)


def _rooms(
    joined: NDArray, shares: NDArray, names: Sequence[str], length: float, settings: SegmentSettings
) -> list[Span]:
    """Runs of one room in joined time, which fill it."""
    step = float(np.median(np.diff(joined))) if len(joined) > 1 else 0.0
    ticker = Ticker(settings.rate, tolerance=step / 2)
    picked = np.array([ticker.is_due(time) for time in joined])
    labels, begins = shares[picked].argmax(1), joined[picked]
    changes = np.flatnonzero(np.diff(labels)) + 1
    edges = [0.0, *(float(begins[i]) for i in changes), length]
    return [Span(a, b, names[labels[i]]) for (a, b), i in zip(pairwise(edges), [0, *changes], strict=True)]


def _length(kept: Sequence[Stretch]) -> float:
    return sum(end - start for start, end in kept)


def _joined_time(times: NDArray, kept: Sequence[Stretch]) -> NDArray:
    """Seconds in the joined video of times inside its stretches."""
    starts = np.array([start for start, _ in kept])
    before = np.array([_length(kept[:number]) for number in range(len(kept))])
    place = np.searchsorted(starts, times, side="right") - 1
    return before[place] + times - starts[place]


def _video_time(span: Span, kept: Sequence[Stretch], shortest: float) -> tuple[Stretch, ...]:
    """The stretches of the video that a span of joined time is; ends cut off where a label came late are not."""
    found, before = [], 0.0
    for start, end in kept:
        low, high = max(span.start - before, 0.0), min(span.end - before, end - start)
        found += [(start + low, start + high)] if high > low else []
        before += end - start
    return tuple(part for part in found if part[1] - part[0] >= shortest) or tuple(found)

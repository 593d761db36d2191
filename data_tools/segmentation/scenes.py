"""From label probabilities and shot cuts to scenes. Pure functions of arrays; times in seconds.

The labels are read by a hidden Markov model inside every shot: a label stays with the probability that a room lasts
``STAY`` seconds on average, and neighbouring frames count as one observation per ``smoothing`` seconds, since they show
the same. So a wild frame changes nothing, and any frame rate gives the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from data_tools.segmentation.cuts import Cut
from data_tools.segmentation.settings import NO_ROOM, SegmentSettings

STAY = 20.0  # seconds in a room before the next
FLOOR = 1e-3  # least probability of a label in a frame: what one frame may say against it
LEAST_OBSERVATION = 0.25  # seconds, where smoothing is off
PIECE = 1.0  # seconds: a shorter glimpse of a room joins no scene


@dataclass(frozen=True)
class Span:
    """A stretch of video.

    Attributes:
        start: seconds.
        end: seconds.
        label: room type, "outdoor", "other", or "" where nothing was labelled.
        probability: mean of the label's smoothed probability, or None.
        reason: why it is dropped; empty for a scene.
        parts: (start, end) of the shots that were joined to it; empty where it is one stretch.
    """

    start: float
    end: float
    label: str = ""
    probability: float | None = None
    reason: str = ""
    parts: tuple[tuple[float, float], ...] = ()

    @property
    def intervals(self) -> tuple[tuple[float, float], ...]:
        """(start, end) of each stretch, in order of time."""
        return self.parts or ((self.start, self.end),)

    @property
    def length(self) -> float:
        """Seconds, without what lies between the parts."""
        return sum(end - start for start, end in self.intervals)


@dataclass(frozen=True)
class Segmentation:
    """Scenes and the rest of a video, both in order of time.

    Attributes:
        scenes: spans that are kept.
        dropped: spans that are not.
        boundaries: seconds of the label changes inside shots.
        shares: (S, C) smoothed probabilities, or None without labels.
    """

    scenes: list[Span]
    dropped: list[Span]
    boundaries: list[float]
    shares: NDArray[np.float64] | None = None


def smooth(times: NDArray, values: NDArray, width: float) -> NDArray[np.float64]:
    """Gaussian mean over time, its deviation half of ``width``; frames count by the time they stand for.

    A step stays where it is, since the kernel is symmetric in time, whatever the frame rate.

    Args:
        times: (S,) rising.
        values: (S, C).
        width: seconds; 0 changes nothing.
    """
    values = np.asarray(values, np.float64)
    if width <= 0 or len(times) < 2:
        return values
    gaps = np.diff(times)
    share = np.convolve(np.minimum(gaps, 2 * np.median(gaps)), [0.5, 0.5])
    share[[0, -1]] *= 2  # the outermost frames stand for a whole step too: ends are not pulled inwards
    result = np.empty_like(values)
    low = np.searchsorted(times, times - 2 * width)
    high = np.searchsorted(times, times + 2 * width, side="right")
    for i in range(len(times)):
        near = slice(low[i], high[i])
        weight = share[near] * np.exp(-0.5 * ((times[near] - times[i]) / (width / 2)) ** 2)
        result[i] = weight @ values[near] / weight.sum()
    return result


def most_likely_path(times: NDArray, probabilities: NDArray, smoothing: float) -> NDArray[np.int64]:
    """(S,) labels: Viterbi over one shot, rates per second (see the module's text)."""
    if len(times) == 0:
        return np.zeros(0, np.int64)
    count = probabilities.shape[1]
    gap = np.diff(times, prepend=times[0])
    step = float(np.median(gap[1:])) if len(times) > 1 else 1.0
    evidence = np.log(np.maximum(probabilities, FLOOR)) * min(1.0, step / max(smoothing, LEAST_OBSERVATION))
    cost = np.log(STAY / max(step, 1e-3)) + np.log(max(count - 1, 1))
    score, back = evidence[0], np.zeros((len(times), count), np.int64)
    for i in range(1, len(times)):
        best = int(score.argmax())
        is_moved = score[best] - cost > score
        back[i] = np.where(is_moved, best, np.arange(count))
        score = np.where(is_moved, score[best] - cost, score) + evidence[i]
    path = np.empty(len(times), np.int64)
    path[-1] = score.argmax()
    for i in range(len(times) - 1, 0, -1):
        path[i - 1] = back[i, path[i]]
    return path


def shots_of(duration: float, cuts: Sequence[Cut], margin: float) -> list[tuple[float, float]]:
    """(start, end) of the shots between cuts, with the margin kept at cuts, not at the video's ends."""
    starts = [0.0, *(cut.end + margin for cut in cuts)]
    ends = [*(cut.start - margin for cut in cuts), duration]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if end > start]


def find_scenes(
    times: NDArray,
    probabilities: NDArray | None,
    names: Sequence[str],
    cuts: Sequence[Cut],
    duration: float,
    settings: SegmentSettings,
) -> Segmentation:
    """Scenes of a video.

    Args:
        times: (S,) seconds of the labelled frames.
        probabilities: (S, C) of ``names``, not smoothed; None without labels.
        names: the C labels; "outdoor" and "other" are no rooms.
        cuts: shot changes.
        duration: seconds of the video.
        settings: lengths and margins.
    """
    scenes: list[Span] = []
    dropped: list[Span] = []
    boundaries: list[float] = []
    shares = None if probabilities is None else np.array(probabilities, np.float64)
    for start, end in shots_of(duration, cuts, settings.cut_margin):
        inside = (times >= start) & (times <= end)
        if probabilities is None:
            spans = [Span(start, end)]
        elif not inside.any():
            dropped.append(Span(start, end, reason=f"shot of {end - start:.1f} s without a labelled frame"))
            continue
        else:
            shares[inside] = smooth(times[inside], probabilities[inside], settings.smoothing)
            spans = _label_shot(times[inside], shares[inside], names, start, end, settings.smoothing)
            boundaries += [span.start for span in spans[1:]]
        kept, lost = _keep_rooms(spans, settings)
        dropped += lost
        for run in kept:
            scenes += [part for span in merge_short(run, settings.min_room) for part in split_evenly(span, settings)]
    if shares is not None:
        joined, dropped = _join_shots(scenes, dropped, settings)
        scenes = sorted([*scenes, *joined], key=lambda span: span.start)
        scenes = [with_probability(span, times, shares, names) for span in scenes]
    return Segmentation(scenes, sorted(dropped, key=lambda span: span.start), boundaries, shares)


def _label_shot(
    times: NDArray, shares: NDArray, names: Sequence[str], start: float, end: float, smoothing: float
) -> list[Span]:
    """Spans of one label that fill a shot."""
    path = most_likely_path(times, shares, smoothing)
    changes = np.flatnonzero(np.diff(path)) + 1
    edges = [start, *(_crossing(times, shares, i, path[i - 1], path[i]) for i in changes), end]
    labels = path[[0, *changes]]
    return [Span(a, b, names[label]) for a, b, label in zip(edges[:-1], edges[1:], labels, strict=True)]


def _crossing(times: NDArray, shares: NDArray, i: int, old: int, new: int) -> float:
    """Where between frames i - 1 and i two labels' probabilities are equal, else midway."""
    before, after = shares[i - 1, old] - shares[i - 1, new], shares[i, new] - shares[i, old]
    part = before / (before + after) if before > 0 and after > 0 else 0.5
    return float(times[i - 1] + part * (times[i] - times[i - 1]))


def _keep_rooms(spans: list[Span], settings: SegmentSettings) -> tuple[list[list[Span]], list[Span]]:
    """Indoor runs of one shot, each a list of its rooms, and what is dropped."""
    kept: list[list[Span]] = []
    dropped = [replace(span, reason="no room to see") for span in spans if span.label in NO_ROOM]
    for is_room, group in groupby(enumerate(spans), key=lambda item: item[1].label not in NO_ROOM):
        run = list(group)
        if not is_room:
            continue
        first, last = run[0], run[-1]
        low = first[1].start + (settings.margin if first[0] > 0 else 0.0)
        high = last[1].end - (settings.margin if last[0] < len(spans) - 1 else 0.0)
        edges = [(first[1].start, min(low, last[1].end)), (max(high, first[1].start), last[1].end)]
        dropped += [Span(a, b, reason="margin") for a, b in edges if b > a]
        if high - low >= max(settings.min_indoor, 1e-6):
            clipped = [replace(span, start=max(low, span.start), end=min(high, span.end)) for _, span in run]
            kept.append([span for span in clipped if span.length > 0])
        elif high > low:
            reason = f"{high - low:.1f} s of room, shorter than {settings.min_indoor:g} s"
            clipped = [replace(span, start=max(low, span.start), end=min(high, span.end)) for _, span in run]
            dropped += [replace(span, reason=reason) for span in clipped if span.length > 0]
    return kept, dropped


def _join_shots(scenes: list[Span], dropped: list[Span], settings: SegmentSettings) -> tuple[list[Span], list[Span]]:
    """Join rooms that are too short shot by shot: those of one label that follow one another, over cuts.

    A tour edited into shots of some seconds has no scene otherwise. Outdoor frames, titles and glimpses between them do
    not part them; a scene or another room does. (The release of arXiv 2512.23042 joins all indoor frames of a video.)

    Returns:
        The scenes made so, and what stays dropped.
    """
    pieces = {id(span) for span in dropped if span.label and span.label not in NO_ROOM and span.length >= PIECE}
    line = sorted([*scenes, *(span for span in dropped if id(span) in pieces)], key=lambda span: span.start)
    joined: list[Span] = []
    for (is_piece, _), group in groupby(line, key=lambda span: (id(span) in pieces, span.label)):
        run = list(group)
        if is_piece and sum(span.length for span in run) >= max(settings.min_indoor, settings.min_room):
            joined += _joined(run, settings)
        else:
            pieces -= {id(span) for span in run}
    return joined, [span for span in dropped if id(span) not in pieces]


def _joined(run: list[Span], settings: SegmentSettings) -> list[Span]:
    """Scenes of about even length, ``max_length`` or little more, parted between shots."""
    total, done = sum(span.length for span in run), 0.0
    count = int(np.ceil(total / settings.max_length - 1e-9)) if settings.max_length else 1
    groups: list[list[Span]] = [[] for _ in range(max(1, count))]
    for span in run:
        groups[int((done + span.length / 2) / total * len(groups))].append(span)
        done += span.length
    return [
        Span(spans[0].start, spans[-1].end, spans[0].label, parts=tuple((s.start, s.end) for s in spans))
        for spans in groups
        if spans
    ]


def merge_short(run: list[Span], shortest: float) -> list[Span]:
    """Rooms shorter than ``shortest`` join the longer of their neighbours, the shortest room first."""
    run = list(run)
    while len(run) > 1:
        i = min(range(len(run)), key=lambda k: run[k].length)
        if run[i].length >= shortest:
            break
        beside = [k for k in (i - 1, i + 1) if 0 <= k < len(run)]
        j = max(beside, key=lambda k: run[k].length)
        low, high = min(i, j), max(i, j)
        run[low : high + 1] = [replace(run[j], start=run[low].start, end=run[high].end)]
        if low > 0 and run[low - 1].label == run[low].label:
            run[low - 1 : low + 1] = [replace(run[low], start=run[low - 1].start)]
            low -= 1
        if low + 1 < len(run) and run[low + 1].label == run[low].label:
            run[low : low + 2] = [replace(run[low], end=run[low + 1].end)]
    return run


def split_evenly(span: Span, settings: SegmentSettings) -> list[Span]:
    """Even parts of at most ``max_length``."""
    count = int(np.ceil(span.length / settings.max_length - 1e-9)) if settings.max_length else 1
    edges = np.linspace(span.start, span.end, max(1, count) + 1)
    return [replace(span, start=float(a), end=float(b)) for a, b in pairwise(edges)]


def with_probability(span: Span, times: NDArray, shares: NDArray, names: Sequence[str]) -> Span:
    """The span with the mean of its label's share."""
    inside = np.any([(times >= start) & (times <= end) for start, end in span.intervals], axis=0)
    if not inside.any():
        return span
    return replace(span, probability=float(shares[inside, list(names).index(span.label)].mean()))

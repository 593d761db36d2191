"""Shot cuts, dissolves and fades from tiny pictures of every frame.

Two frames differ by structure (one minus the peak of the normalised cross-correlation over all shifts, so that fast
pans stay similar and a change of exposure changes nothing) and by colour (Hellinger distance of chromaticity
histograms, which brightness does not touch). A cut is a difference that stands out of its neighbourhood, as pans and
blur do not, and that lasts, as a flash does not. A dissolve is a frame that is a mixture of the frames around it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

TINY_SIDE = 64  # pixels of the longer side
STEP = 1 / 30.0  # seconds: denser frames than this are not looked at
LASTING = 0.1  # a cut's two sides must still differ this long before and after it
NEIGHBOURHOOD = 0.6  # seconds to either side that a cut must stand out of
PEAK_RATIO = 2.5  # a cut's difference over the neighbourhood's mean
THIRD_RATIO = 1.4  # and over its third highest (not its highest: other cuts may be near)
DISSOLVE = 0.5  # half the span within which a dissolve is looked for, seconds
DISSOLVE_DIFFERENCE = 0.45  # of the frames at its two ends, at least
DISSOLVE_RESIDUAL = 0.08  # share of the middle frame that is not a mixture of the outer ones, at most
DARK, FLAT = 18.0, 6.0  # mean and spread of grey levels of a black or one-coloured frame
STRUCTURE_WEIGHT = 0.7
KINDS = ("fade", "dissolve", "cut")


@dataclass(frozen=True)
class Cut:
    """A change of shot; nothing of ``[start, end]`` belongs to a shot.

    Attributes:
        start, end: seconds; equal for a hard cut.
        kind: "cut", "dissolve", "fade".
    """

    start: float
    end: float
    kind: str


@dataclass(frozen=True)
class Tiny:
    """What is kept of a frame: its time, grey levels, their spectrum, colour histogram."""

    time: float
    grey: NDArray[np.float32]
    spectrum: NDArray[np.complex64]
    histogram: NDArray[np.float32]


def tiny_of(time: float, image: NDArray[np.uint8]) -> Tiny:
    """Features of a small (H, W, 3) uint8 RGB image."""
    rgb = image.astype(np.float32)
    grey = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    centred = grey - grey.mean()
    norm = float(np.sqrt((centred**2).sum()))
    spectrum = np.fft.rfft2(centred / max(norm, 1e-3 * grey.size)).astype(np.complex64)
    return Tiny(time, grey, spectrum, _chromaticity(rgb))


def _chromaticity(rgb: NDArray[np.float32], bins: int = 12) -> NDArray[np.float32]:
    """Square root of a soft (bins, bins) histogram of red and green shares; dark pixels, of noisy hue, weigh less."""
    total = rgb.sum(-1) + 12.0
    place = np.clip((rgb[..., :2] + 4.0) / total[..., None] * 1.6 - 0.03, 0, 0.999) * (bins - 1)
    low = place.astype(np.int64)
    part = place - low
    weight = np.minimum(total / 120.0, 1.0)
    histogram = np.zeros(bins * bins, np.float32)
    for i in (0, 1):
        for j in (0, 1):
            share = weight * (part[..., 0] if i else 1 - part[..., 0]) * (part[..., 1] if j else 1 - part[..., 1])
            index = (low[..., 0] + i) * bins + low[..., 1] + j
            histogram += np.bincount(index.ravel(), share.ravel(), bins * bins).astype(np.float32)
    return np.sqrt(histogram / max(histogram.sum(), 1e-6))


def difference(a: Tiny, b: Tiny) -> float:
    """How different two frames are, 0 (the same up to shift and exposure) to 1."""
    flat = a.grey.std() < FLAT, b.grey.std() < FLAT
    if all(flat):
        structure = min(1.0, abs(float(a.grey.mean() - b.grey.mean())) / 128)
    elif any(flat):
        structure = 1.0
    else:
        peak = np.fft.irfft2(a.spectrum * b.spectrum.conj(), s=a.grey.shape).max()
        structure = float(np.clip(1.0 - peak, 0.0, 1.0))
    color = float(np.sqrt(np.clip(1.0 - (a.histogram * b.histogram).sum(), 0.0, 1.0)))
    return STRUCTURE_WEIGHT * structure + (1 - STRUCTURE_WEIGHT) * color


def mixture(a: Tiny, middle: Tiny, b: Tiny) -> tuple[float, float]:
    """(share of ``a``, residual) of the best ``share a + (1 - share) b`` for the middle frame; residual relative.

    Both outer frames are shifted onto the middle one first, so that a moving camera does not hide a dissolve.
    """
    one, two = _shifted(a, middle), _shifted(b, middle)
    inner = (slice(one.shape[0] // 8, -(one.shape[0] // 8)), slice(one.shape[1] // 6, -(one.shape[1] // 6)))
    one, two, target = (image[inner] - image[inner].mean() for image in (one, two, middle.grey))
    span = one - two
    share = float((span * (target - two)).sum() / max(float((span**2).sum()), 1e-6))
    rest = target - two - share * span
    return share, float((rest**2).sum() / max(float((target**2).sum()), 1e-6))


def _shifted(a: Tiny, to: Tiny) -> NDArray[np.float32]:
    peak = np.fft.irfft2(to.spectrum * a.spectrum.conj(), s=a.grey.shape)
    return np.roll(a.grey, np.unravel_index(int(peak.argmax()), peak.shape), axis=(0, 1))


@dataclass
class CutSignals:
    """Differences along a video, fed frame by frame; only numbers and half a second of tiny pictures are kept.

    Attributes:
        times: (F,) seconds of the frames looked at.
        step: (F,) difference to the frame before.
        lasting: (F,) difference of the frames ``LASTING`` after and before the step into this frame.
        mixed: (F,) share of what was before in this frame, where it is a mixture; else NaN.
        blank: (F,) whether the frame is black or of one colour.
    """

    times: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    lasting: list[float] = field(default_factory=list)
    mixed: list[float] = field(default_factory=list)
    blank: list[bool] = field(default_factory=list)
    _recent: deque[Tiny] = field(default_factory=deque)

    def is_due(self, time: float) -> bool:
        """Whether the frame at ``time`` is looked at."""
        return not self.times or time - self.times[-1] >= STEP * 0.9

    def add(self, time: float, image: NDArray[np.uint8]) -> None:
        """Take the next frame, a tiny RGB image."""
        tiny = tiny_of(time, image)
        recent = self._recent
        self.times.append(time)
        self.step.append(difference(recent[-1], tiny) if recent else 0.0)
        self.lasting.append(1.0)
        self.mixed.append(float("nan"))
        spread = float(tiny.grey.std())
        self.blank.append(spread < FLAT or (float(tiny.grey.mean()) < DARK and spread < 2 * FLAT))
        recent.append(tiny)
        while recent[0].time < time - 2 * DISSOLVE - 0.1:
            recent.popleft()
        self._look_back()

    def _look_back(self) -> None:
        """Complete the figures of the frames that now have enough after them."""
        recent, last = list(self._recent), self._recent[-1]
        offset = len(self.times) - len(recent)
        stamps = np.array([tiny.time for tiny in recent])
        at = int(np.searchsorted(stamps, last.time - LASTING - 1e-6))
        before = int(np.searchsorted(stamps, stamps[at] - LASTING - 1e-6)) if at else 0
        if 0 < at < len(recent):
            before = min(before, at - 1)
            if self.step[offset + at] > 0.15:
                self.lasting[offset + at] = difference(recent[before], last)
        middle = int(np.searchsorted(stamps, last.time - DISSOLVE - 1e-6))
        if stamps[0] <= last.time - 2 * DISSOLVE and 0 < middle < len(recent) - 1:
            self.mixed[offset + middle] = _mixed_share(recent, middle)


def _mixed_share(recent: list[Tiny], middle: int) -> float:
    first, centre, last = recent[0], recent[middle], recent[-1]
    if difference(first, last) < DISSOLVE_DIFFERENCE:
        return float("nan")
    share, residual = mixture(first, centre, last)
    return share if 0.15 < share < 0.85 and residual < DISSOLVE_RESIDUAL else float("nan")


def find_cuts(signals: CutSignals, threshold: float = 0.25) -> list[Cut]:
    """Shot changes in order.

    Args:
        signals: of the whole video.
        threshold: least difference at a hard cut, 0..1.

    Returns:
        Hard cuts lie midway between two frames; dissolves and fades have a length. They do not overlap.
    """
    times, step = np.array(signals.times), np.array(signals.step)
    lasting = np.array(signals.lasting)
    blank = np.array(signals.blank, bool)
    soft = _runs(times, blank, "fade") + _runs(times, _falling(np.array(signals.mixed)), "dissolve", DISSOLVE / 2)
    hard = []
    for i in np.flatnonzero((step >= threshold) & (lasting >= 0.8 * threshold)):
        near = (np.abs(times - times[i]) <= NEIGHBOURHOOD) | (np.abs(np.arange(len(times)) - i) <= 5)
        near[[0, i]] = False
        others = np.sort(step[near])
        if len(others) == 0 or step[i] >= max(PEAK_RATIO * others.mean(), THIRD_RATIO * others[-3:][0]):
            middle = float(times[i - 1] + times[i]) / 2
            hard.append(Cut(middle, middle, "cut"))
    return _join(soft + hard)


def _falling(share: NDArray) -> NDArray[np.bool_]:
    """Where mixtures go from the old picture to the new one over three frames or more, as dissolves do."""
    mask = ~np.isnan(share)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    for start, end in edges.reshape(-1, 2):
        if end - start < 3 or share[start] - share[end - 1] < 0.2:
            mask[start:end] = False
    return mask


def _runs(times: NDArray, mask: NDArray, kind: str, reach: float = 0.0) -> list[Cut]:
    """Runs of True, with gaps up to a quarter second closed."""
    runs: list[list[float]] = []
    for time in times[mask]:
        if runs and time - runs[-1][1] <= 0.25:
            runs[-1][1] = float(time)
        else:
            runs.append([float(time), float(time)])
    return [Cut(max(0.0, a - reach), b + reach, kind) for a, b in runs]


def _join(cuts: list[Cut]) -> list[Cut]:
    """In order of time; what overlaps or nearly touches becomes one, of the first of its kinds in ``KINDS``."""
    joined: list[Cut] = []
    for cut in sorted(cuts, key=lambda c: (c.start, c.end)):
        is_soft = bool(joined) and "cut" not in (cut.kind, joined[-1].kind)
        if joined and cut.start <= joined[-1].end + (0.3 if is_soft else 0.07):
            last = joined[-1]
            kind = min(last.kind, cut.kind, key=KINDS.index)
            joined[-1] = Cut(last.start, max(last.end, cut.end), kind)
        else:
            joined.append(cut)
    return joined

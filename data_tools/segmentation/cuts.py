"""Shot cuts, dissolves and fades from tiny pictures of every frame.

Hard cuts are proposed by PySceneDetect's ``AdaptiveDetector`` (a change of content that stands out of the frames around
it, as pans do not) and kept where the pictures a tenth of a second before and after differ, which those of a flash or
of a jump of exposure do not. Two pictures differ by structure (one minus the peak of the normalised cross-correlation
over all shifts, so that fast pans stay similar and a change of exposure changes nothing) and by colour (Hellinger
distance of chromaticity histograms, which brightness does not touch). PySceneDetect knows no dissolves: here one is a
run of frames that are mixtures of the frames around them. A fade is black or of one colour.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.stages.record import StageError

TINY_SIDE = 64  # pixels of the longer side
STEP = 1 / 30.0  # seconds: denser frames than this are not looked at
LASTING = 0.1  # a cut's two sides must still differ this long before and after it; a fade lasts so long
ADAPTIVE_RATIO = 3.0  # PySceneDetect's default: a frame's change over that of the two frames to either side
LEAST_CONTENT = 4.0  # and its change of hue, saturation and brightness, 0..255; their 15 misses cuts without colour
DISSOLVE = 0.5  # half the span within which a dissolve is looked for, seconds
DISSOLVE_DIFFERENCE = 0.45  # of the frames at its two ends, at least
DISSOLVE_RESIDUAL = 0.08  # share of the middle frame that is not a mixture of the outer ones, at most
MANY = 24  # frames in that span and a bit: with more, every second one is tried
DARK, FLAT = 18.0, 6.0  # mean and spread of grey levels of a black or one-coloured frame
STRUCTURE_WEIGHT = 0.7
KINDS = ("hole", "fade", "dissolve", "cut")


@dataclass(frozen=True)
class Cut:
    """A change of shot; nothing of ``[start, end]`` belongs to a shot.

    Attributes:
        start: seconds.
        end: seconds; equals ``start`` for a hard cut.
        kind: "cut", "dissolve", "fade"; "hole" where the file is damaged.
    """

    start: float
    end: float
    kind: str


class Tiny:
    """What is kept of a frame; its features are made when they are asked for.

    Args:
        time: seconds.
        image: small (H, W, 3) uint8 RGB.
    """

    def __init__(self, time: float, image: NDArray[np.uint8]) -> None:
        self.time, self.image = time, image
        self.grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        self.spread = float(self.grey.std())

    @cached_property
    def spectrum(self) -> NDArray[np.complex64]:
        """Of the grey levels, scaled to unit energy."""
        centred = self.grey - self.grey.mean()
        norm = float(np.sqrt((centred**2).sum()))
        return np.fft.rfft2(centred / max(norm, 1e-3 * self.grey.size)).astype(np.complex64)

    @cached_property
    def histogram(self) -> NDArray[np.float32]:
        """Square roots of the shares of chromaticities."""
        return _chromaticity(self.image.astype(np.float32))


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
    color = float(np.sqrt(np.clip(1.0 - (a.histogram * b.histogram).sum(), 0.0, 1.0)))
    return STRUCTURE_WEIGHT * _structure(a, b) + (1 - STRUCTURE_WEIGHT) * color


def _structure(a: Tiny, b: Tiny) -> float:
    flat = a.spread < FLAT, b.spread < FLAT
    if all(flat):
        return min(1.0, abs(float(a.grey.mean() - b.grey.mean())) / 128)
    if any(flat):
        return 1.0
    peak = np.fft.irfft2(a.spectrum * b.spectrum.conj(), s=a.grey.shape).max()
    return float(np.clip(1.0 - peak, 0.0, 1.0))


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


def adaptive_detector() -> Any:
    """PySceneDetect's detector of hard cuts, which takes frame after frame.

    Raises:
        StageError: it is not installed.
    """
    try:
        from scenedetect.detectors import AdaptiveDetector
    except ImportError as error:
        raise StageError("finding cuts needs PySceneDetect: pip install scenedetect-headless", False) from error
    return AdaptiveDetector(ADAPTIVE_RATIO, min_scene_len=0, min_content_val=LEAST_CONTENT)


@dataclass
class CutSignals:
    """What is seen along a video, fed frame by frame; only numbers and a second of tiny pictures are kept.

    Attributes:
        times: (F,) seconds of the frames looked at.
        step: (F,) mean change of grey levels since the frame before, 0..1.
        lasting: frames that may begin a shot -> difference to the frame before, and of the frames ``LASTING`` before
            and after, the smaller of the two.
        mixed: time -> share of what was before in the frame, where it is a mixture, else NaN; of every second frame
            where there are many.
        blank: (F,) whether the frame is black or of one colour.
    """

    times: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    lasting: dict[int, float] = field(default_factory=dict)
    mixed: dict[float, float] = field(default_factory=dict)
    blank: list[bool] = field(default_factory=list)
    _recent: deque[Tiny] = field(default_factory=deque)
    _waiting: list[int] = field(default_factory=list)
    _detector: Any = field(default_factory=adaptive_detector)

    def is_due(self, time: float) -> bool:
        """Whether the frame at ``time`` is looked at."""
        return not self.times or time - self.times[-1] >= STEP * 0.9

    def add(self, time: float, image: NDArray[np.uint8]) -> None:
        """Take the next frame, a tiny RGB image."""
        from scenedetect.common import FrameTimecode

        tiny = Tiny(time, image)
        recent = self._recent
        self.times.append(time)
        self.step.append(float(np.abs(tiny.grey - recent[-1].grey).mean()) / 255 if recent else 0.0)
        self.blank.append(tiny.spread < FLAT or (float(tiny.grey.mean()) < DARK and tiny.spread < 2 * FLAT))
        recent.append(tiny)
        while recent[0].time < time - 2 * DISSOLVE - 0.1:
            recent.popleft()
        # frames are numbered: what counts for the detector is their order, not their rate
        number = FrameTimecode(len(self.times) - 1, fps=30.0)
        self._waiting += [found.frame_num for found in self._detector.process_frame(number, image[..., ::-1])]
        self._look_back()

    def finish(self) -> None:
        """Judge the candidates too near the end to have ``LASTING`` after them."""
        self._judge(0.0)

    def _look_back(self) -> None:
        """Complete the figures of the frames that now have enough after them."""
        self._judge(LASTING)
        recent, last = list(self._recent), self._recent[-1]
        if len(recent) > MANY and len(self.times) % 2:
            return
        stamps = np.array([tiny.time for tiny in recent])
        middle = int(np.searchsorted(stamps, last.time - DISSOLVE - 1e-6))
        if stamps[0] <= last.time - 2 * DISSOLVE and 0 < middle < len(recent) - 1:
            self.mixed[recent[middle].time] = _mixed_share(recent, middle)

    def _judge(self, after: float) -> None:
        recent, offset = self._recent, len(self.times) - len(self._recent)
        while self._waiting and self.times[self._waiting[0]] <= self.times[-1] - after + 1e-6:
            at = self._waiting.pop(0) - offset
            before = max((i for i in range(at) if recent[i].time <= recent[at].time - LASTING), default=0)
            if at > 0:
                step = difference(recent[at - 1], recent[at])  # not of another cut that is near
                self.lasting[at + offset] = min(step, difference(recent[before], recent[-1]))


def _mixed_share(recent: list[Tiny], middle: int) -> float:
    first, centre, last = recent[0], recent[middle], recent[-1]
    if STRUCTURE_WEIGHT * _structure(first, last) + 1 - STRUCTURE_WEIGHT < DISSOLVE_DIFFERENCE:
        return float("nan")  # whatever the colours, which take longer
    if difference(first, last) < DISSOLVE_DIFFERENCE:
        return float("nan")
    share, residual = mixture(first, centre, last)
    return share if 0.15 < share < 0.85 and residual < DISSOLVE_RESIDUAL else float("nan")


def find_cuts(signals: CutSignals, threshold: float = 0.25, holes: Sequence[tuple[float, float]] = ()) -> list[Cut]:
    """Shot changes in order.

    Args:
        signals: of the whole video.
        threshold: least difference of the pictures around a hard cut, 0..1.
        holes: (start, end) seconds that are missing of the file.

    Returns:
        Hard cuts lie midway between two frames; dissolves and fades have a length. They do not overlap.
    """
    signals.finish()
    times = np.array(signals.times)
    fades = [cut for cut in _runs(times, np.array(signals.blank, bool), "fade") if cut.end - cut.start >= LASTING]
    mixed = _falling(np.array(list(signals.mixed.values())))
    soft = fades + _runs(np.array(list(signals.mixed)), mixed, "dissolve", DISSOLVE / 2)
    middles = [float(times[i - 1] + times[i]) / 2 for i, value in signals.lasting.items() if value >= threshold]
    lost = [Cut(start, end, "hole") for start, end in holes]
    return _join(lost + soft + [Cut(middle, middle, "cut") for middle in middles])


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

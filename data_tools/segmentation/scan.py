"""The one decoding pass over a video: cut signals of every frame, label probabilities and thumbnails of some."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data_tools.segmentation.cuts import TINY_SIDE, CutSignals
from data_tools.video.damage import find_holes
from data_tools.video.sampling import DecodeReport, RawFrame, Ticker, VideoInfo, raw_frames

SHORT_SIDE = 224  # of the images that are labelled: what CLIP takes
THUMB_SIDE = 160
MAX_THUMBS = 1200  # 50 MB; of longer videos every second is dropped, as often as need be
LOOK_RATE = 3.0  # embeddings a second that are kept, at most: 11 MB an hour


class Classifier(Protocol):
    """Frames to label probabilities, and to what tells whether two frames show the same.

    Attributes:
        names: of the classes; "outdoor" and "other" are no rooms, every other name is one.
    """

    names: list[str]

    def classify(self, images: list[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(n, classes) probabilities and (n, E) embeddings of length 1 of n RGB images (H, W, 3)."""
        ...


@dataclass
class Thumbs:
    """Small pictures along a video, evenly spread, bounded in number."""

    every: float = 1.0
    times: list[float] = field(default_factory=list)
    images: list[NDArray[np.uint8]] = field(default_factory=list)

    def offer(self, raw: RawFrame) -> None:
        """Keep a frame if it is time for one."""
        if self.times and raw.time < self.times[-1] + self.every - 1e-3:
            return
        self.times.append(raw.time)
        self.images.append(raw.pixels(THUMB_SIDE))
        if len(self.times) > MAX_THUMBS:
            self.times, self.images, self.every = self.times[::2], self.images[::2], self.every * 2

    def nearest(self, time: float) -> NDArray[np.uint8]:
        """The thumbnail nearest to a time."""
        return self.images[int(np.argmin(np.abs(np.array(self.times) - time)))]


@dataclass
class Scan:
    """What one pass found.

    Attributes:
        duration: seconds that decoded.
        frames: number of decoded frames.
        classified: number of frames that went through the classifier.
        holes: (start, end) seconds that a whole file would have and this one has not.
        report: damaged frames, completeness, times of the packets.
        signals: for the shot cuts.
        times: (S,) seconds of the sampled frames.
        probabilities: (S, classes) of the classifier, or None without one.
        thumbs: small pictures.
        look_times: (L,) seconds of the frames whose embeddings are kept.
        looks: (L, E) half precision; None without a classifier.
    """

    duration: float
    frames: int
    classified: int
    holes: list[tuple[float, float]]
    report: DecodeReport
    signals: CutSignals
    times: NDArray[np.float64]
    probabilities: NDArray[np.float32] | None
    thumbs: Thumbs
    look_times: NDArray[np.float64]
    looks: NDArray[np.float16] | None


def scan_video(path: Path, info: VideoInfo, rate: float | None, classifier: Classifier | None, batch: int = 64) -> Scan:
    """Decode a video once, streaming; memory does not grow with its frames.

    Args:
        path: the video.
        info: its facts.
        rate: frames a second that are labelled; None for every frame.
        classifier: labels them; None to only sample their times.
        batch: images handed to the classifier at a time.

    Raises:
        VideoError: nothing decodes.
    """
    report, signals, thumbs = DecodeReport(), CutSignals(), Thumbs()
    tolerance = 0.5 / info.fps
    ticker = Ticker(rate, tolerance=tolerance)
    labels = None if classifier is None else _Labels(classifier, batch, Ticker(LOOK_RATE, tolerance=tolerance))
    side = round(SHORT_SIDE * max(info.width, info.height) / min(info.width, info.height))
    times: list[float] = []
    for raw in raw_frames(path, report=report):
        if signals.is_due(raw.time):
            signals.add(raw.time, raw.pixels(TINY_SIDE, "FAST_BILINEAR"))
        thumbs.offer(raw)
        if ticker.is_due(raw.time):
            times.append(raw.time)
            if labels is not None:
                labels.add(raw.pixels(min(side, 4 * SHORT_SIDE)), raw.time)
    probabilities, looks = (None, None) if labels is None else labels.end()
    return Scan(
        duration=report.last_time + (1 / info.fps),
        frames=report.frames,
        classified=0 if probabilities is None else len(probabilities),
        holes=find_holes(np.array(report.times), info.duration, np.array(report.shown), report.packets),
        report=report,
        signals=signals,
        times=np.array(times),
        probabilities=probabilities,
        thumbs=thumbs,
        look_times=np.array([] if labels is None else labels.look_times, dtype=np.float64),
        looks=looks,
    )


class _Labels:
    """Labels of frames, a batch at a time, and the embeddings of those that are due."""

    def __init__(self, classifier: Classifier, batch: int, looks: Ticker) -> None:
        self.classifier, self.batch, self.ticker = classifier, batch, looks
        self.look_times: list[float] = []
        self._rows: list[NDArray[np.float32]] = []
        self._looks: list[NDArray[np.float16]] = []
        self._waiting: list[NDArray[np.uint8]] = []
        self._is_look: list[bool] = []  # of those that wait

    def add(self, image: NDArray[np.uint8], time: float) -> None:
        self._waiting.append(image)
        self._is_look.append(self.ticker.is_due(time))
        if self._is_look[-1]:
            self.look_times.append(time)
        if len(self._waiting) >= self.batch:
            self._take()

    def end(self) -> tuple[NDArray[np.float32] | None, NDArray[np.float16] | None]:
        """Probabilities and embeddings; None where there was no frame."""
        if self._waiting:
            self._take()
        return (np.concatenate(self._rows), np.concatenate(self._looks)) if self._rows else (None, None)

    def _take(self) -> None:
        rows, looks = _classify(self.classifier, self._waiting)
        self._rows.append(rows)
        self._looks.append(looks[self._is_look].astype(np.float16))
        self._waiting.clear()
        self._is_look.clear()


def _classify(
    classifier: Classifier, images: list[NDArray[np.uint8]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows, looks = classifier.classify(images)
    rows = np.asarray(rows, dtype=np.float32)
    if rows.shape != (len(images), len(classifier.names)) or not np.isfinite(rows).all():
        raise ValueError(f"classifier gave {rows.shape}, wanted finite ({len(images)}, {len(classifier.names)})")
    return rows, looks

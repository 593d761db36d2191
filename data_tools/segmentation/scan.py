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


class Classifier(Protocol):
    """Frames to label probabilities.

    Attributes:
        names: of the classes; "outdoor" and "other" are no rooms, every other name is one.
    """

    names: list[str]

    def classify(self, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(n, classes) probabilities of n RGB images (H, W, 3)."""
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
    ticker = Ticker(rate, tolerance=0.5 / info.fps)
    side = round(SHORT_SIDE * max(info.width, info.height) / min(info.width, info.height))
    times: list[float] = []
    rows: list[NDArray[np.float32]] = []
    waiting: list[NDArray[np.uint8]] = []
    for raw in raw_frames(path, report=report):
        if signals.is_due(raw.time):
            signals.add(raw.time, raw.pixels(TINY_SIDE, "FAST_BILINEAR"))
        thumbs.offer(raw)
        if ticker.is_due(raw.time):
            times.append(raw.time)
            if classifier is not None:
                waiting.append(raw.pixels(min(side, 4 * SHORT_SIDE)))
        if len(waiting) >= batch:
            rows.append(_classify(classifier, waiting))
            waiting = []
    if waiting:
        rows.append(_classify(classifier, waiting))
    probabilities = np.concatenate(rows) if rows else None
    duration = report.last_time + (1 / info.fps)
    classified = 0 if probabilities is None else len(probabilities)
    holes = find_holes(np.array(report.times), info.duration, np.array(report.shown), report.packets)
    return Scan(duration, report.frames, classified, holes, report, signals, np.array(times), probabilities, thumbs)


def _classify(classifier: Classifier, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    rows = np.asarray(classifier.classify(images), dtype=np.float32)
    if rows.shape != (len(images), len(classifier.names)) or not np.isfinite(rows).all():
        raise ValueError(f"classifier gave {rows.shape}, wanted finite ({len(images)}, {len(classifier.names)})")
    return rows

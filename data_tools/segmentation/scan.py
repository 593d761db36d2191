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
    ticker, look_ticker = (Ticker(each, tolerance=0.5 / info.fps) for each in (rate, LOOK_RATE))
    side = round(SHORT_SIDE * max(info.width, info.height) / min(info.width, info.height))
    times: list[float] = []
    rows: list[NDArray[np.float32]] = []
    looks: list[NDArray[np.float16]] = []
    is_look: list[bool] = []
    waiting: list[NDArray[np.uint8]] = []

    def take() -> None:
        assert classifier is not None
        found, embeddings = _classify(classifier, waiting)
        rows.append(found)
        looks.append(embeddings[is_look[-len(waiting) :]].astype(np.float16))
        waiting.clear()

    for raw in raw_frames(path, report=report):
        if signals.is_due(raw.time):
            signals.add(raw.time, raw.pixels(TINY_SIDE, "FAST_BILINEAR"))
        thumbs.offer(raw)
        if ticker.is_due(raw.time):
            times.append(raw.time)
            if classifier is not None:
                waiting.append(raw.pixels(min(side, 4 * SHORT_SIDE)))
                is_look.append(look_ticker.is_due(raw.time))
        if len(waiting) >= batch:
            take()
    if waiting:
        take()
    probabilities = np.concatenate(rows) if rows else None
    duration = report.last_time + (1 / info.fps)
    classified = 0 if probabilities is None else len(probabilities)
    holes = find_holes(np.array(report.times), info.duration, np.array(report.shown), report.packets)
    all_times, embedded = np.array(times), np.concatenate(looks) if looks else None
    look_times = all_times[: len(is_look)][is_look]
    return Scan(
        duration,
        report.frames,
        classified,
        holes,
        report,
        signals,
        all_times,
        probabilities,
        thumbs,
        look_times,
        embedded,
    )


def _classify(
    classifier: Classifier, images: list[NDArray[np.uint8]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows, looks = classifier.classify(images)
    rows = np.asarray(rows, dtype=np.float32)
    if rows.shape != (len(images), len(classifier.names)) or not np.isfinite(rows).all():
        raise ValueError(f"classifier gave {rows.shape}, wanted finite ({len(images)}, {len(classifier.names)})")
    return rows, looks

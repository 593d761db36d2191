"""The bar of a run: how much of all video is through, and the time that the rest will take."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data_tools.chain.items import VideoItem
from data_tools.chain.journal import Row

SEGMENTED = 0.2  # share of a video's work that is done when its scenes are known
BYTES_A_SECOND = 250_000  # of a video of which only the size is known
USUAL_SECONDS = 600.0


def stated_seconds(video: VideoItem) -> float | None:
    """Length that the manifest states: of the ranges that are asked for, else of the video."""
    if video.ranges:
        return sum(end - start for start, end in video.ranges)
    try:
        return float(video.extra["duration"])
    except (KeyError, TypeError, ValueError):
        return None


def expected_seconds(videos: Sequence[VideoItem]) -> dict[str, float]:
    """Seconds by video, as far as the manifest and the files' sizes tell; no file is opened."""
    found = {video.video_id: stated_seconds(video) or _by_size(video) for video in videos}
    known = [seconds for seconds in found.values() if seconds]
    usual = sum(known) / len(known) if known else USUAL_SECONDS
    return {name: seconds or usual for name, seconds in found.items()}


def _by_size(video: VideoItem) -> float | None:
    try:
        return None if video.path is None else os.stat(video.path).st_size / BYTES_A_SECOND
    except OSError:
        return None


@dataclass(slots=True)
class _Part:
    """A video's part of the whole, and how far it is."""

    seconds: float
    is_segmented: bool = False
    scenes: int = 0
    ended: int = 0

    @property
    def done(self) -> float:
        """Seconds that count as done."""
        if not self.is_segmented:
            return 0.0
        return self.seconds * (SEGMENTED + (1 - SEGMENTED) * (self.ended / self.scenes if self.scenes else 1.0))


class Bar:
    """One tqdm bar over the seconds of all videos, which do not grow, with counts of what has come to its end.

    What was settled before this run moves the bar, and does not count for the time that is left.

    Args:
        is_quiet: no bar; what fails is written to stderr all the same.
    """

    def __init__(self, is_quiet: bool = False) -> None:
        from tqdm import tqdm

        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        self._bar: Any = tqdm(
            total=0, desc="build_roomtours", bar_format=form, smoothing=0, disable=is_quiet, dynamic_ncols=True
        )
        self._parts: dict[str, _Part] = {}
        self._counts: Counter[str] = Counter()
        self._before = 0.0

    def begin(self, videos: Sequence[VideoItem]) -> None:
        """These are all."""
        self._parts = {name: _Part(seconds) for name, seconds in expected_seconds(videos).items()}
        self._bar.total = sum(part.seconds for part in self._parts.values())

    def scene(self, video: str) -> None:
        """A video has one more scene."""
        if video in self._parts:
            self._parts[video].scenes += 1

    def end(self, video: str, is_scene: bool, row: Row | None, is_new: bool) -> None:
        """A video's scenes are known, or one of them ended: well, or with this row; ``is_new``: in this run."""
        self._counts["scenes" if is_scene else "videos"] += 1
        if row is not None:
            self._counts[row.status] += 1
            if is_new:
                self._bar.write(f"{row.status}: {row.stage} {row.name}: {row.reason}", file=sys.stderr)
        self._bar.set_postfix(self._counts, refresh=False)
        part = self._parts.get(video)
        if part is not None:
            before = part.done
            part.ended += is_scene
            part.is_segmented |= not is_scene
            self._move(part.done - before, is_new)

    def _move(self, seconds: float, is_new: bool) -> None:
        if not is_new:
            self._before += seconds
            self._bar.initial = self._before
        self._bar.update(seconds)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

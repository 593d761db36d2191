"""What all videos will cost, from some of them that are done: hours, days, disk. What they cost is not spent twice."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from data_tools.chain.folders import all_rows
from data_tools.chain.items import FRAMES, SCENE_NAME, SCENE_STAGES, STAGES, Places, VideoItem, names_in
from data_tools.chain.journal import Journal, Row, read_events
from data_tools.chain.progress import expected_seconds, stated_seconds
from data_tools.chain.sources import apart_from_earlier

FLEETS = (1, 8, 64)  # GPUs, or CPU workers, that days are told for


def lengths_of(videos: Sequence[VideoItem], is_quiet: bool = False) -> dict[str, float]:
    """Seconds by video: as the manifest states, else as the file's header does, else as expected of the others."""
    from tqdm import tqdm

    from data_tools.video.decode import open_video, stated_duration
    from data_tools.video.sampling import VideoError

    found = expected_seconds(videos)
    files = [v for v in videos if stated_seconds(v) is None and v.path is not None and v.path.is_file()]
    for video in tqdm(files, desc="lengths", unit="video", delay=2, disable=is_quiet):
        try:
            container, stream = open_video(video.path)
        except (VideoError, OSError):
            continue  # the run says what is wrong with it
        try:
            found[video.video_id] = stated_duration(container, stream) or found[video.video_id]
        finally:
            container.close()
    return found


def choose(videos: Sequence[VideoItem], lengths: Mapping[str, float], count: int, seed: int = 0) -> list[VideoItem]:
    """Some videos, one drawn from each of ``count`` equal parts of all in the order of their lengths.

    Args:
        videos: all.
        lengths: seconds by video.
        count: how many; as many as there are at most.
        seed: of the draws.
    """
    line = sorted(videos, key=lambda video: (lengths[video.video_id], video.video_id))
    edges = np.linspace(0, len(line), min(count, len(line)) + 1).astype(int)
    rng = np.random.default_rng(seed)
    return [line[int(rng.integers(low, high))] for low, high in pairwise(edges)]


@dataclass
class Cost:
    """What some videos took.

    Attributes:
        seconds: of work, by stage and video.
        scenes: finished.
        space: bytes on the disk, by "OUT" and "WORK".
        files: files and folders there.
    """

    seconds: dict[str, Counter[str]] = field(default_factory=dict)
    scenes: int = 0
    space: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)

    def total(self, stages: Sequence[str]) -> float:
        """Seconds of stages."""
        return sum(sum(self.seconds.get(stage, {}).values()) for stage in stages)


def measure(places: Places, videos: Sequence[VideoItem]) -> Cost:
    """What the videos took: seconds from the logs, space from the folders."""
    cost, journal, names = Cost(), Journal(places.log), {video.video_id for video in videos}
    rows = [row for row in all_rows(places, journal) if row.video in names]
    for row in rows:
        cost.seconds.setdefault(row.stage, Counter())[row.video] += row.seconds
    for event in read_events(places.log, (FRAMES,)):
        match = SCENE_NAME.match(event["name"])
        if match is not None and match["video"] in names:
            cost.seconds.setdefault(FRAMES, Counter())[match["video"]] += event["seconds"]
    cost.scenes = sum((row.stage, row.status) == (SCENE_STAGES[-1], "done") for row in rows)
    for folder, area in _folders(places, rows):
        for size in _sizes(folder):
            cost.space[area] += size
            cost.files[area] += 1
    return cost


def _folders(places: Places, rows: Sequence[Row]) -> Iterator[tuple[Path, str]]:
    wanted, splits = {(row.stage, row.name) for row in rows}, places.splits()
    for stage in STAGES:
        for area in places.areas(stage):
            for name in names_in(area):
                if (stage, name) in wanted:
                    yield area / name, "OUT" if area in splits else "WORK"


def _sizes(folder: Path) -> Iterator[int]:
    """Bytes on the disk of a folder and of everything in it."""
    for root, _, files in os.walk(folder):
        for path in (root, *(os.path.join(root, name) for name in files)):
            try:
                size = os.lstat(path).st_blocks * 512
            except OSError:  # another run took it away just now
                continue
            yield size


def spread(seconds: Mapping[str, float], lengths: Mapping[str, float], names: Sequence[str]) -> float | None:
    """Twice the standard error of the seconds of work a second of video, as a share; None of fewer than 3 videos."""
    if len(names) < 3:
        return None
    work = np.array([seconds.get(name, 0.0) for name in names])
    video = np.array([lengths[name] for name in names])
    if not work.sum():
        return None
    off = work - work.sum() / video.sum() * video
    return float(2 * np.sqrt((off**2).sum() / (len(names) * (len(names) - 1))) / work.mean())


def forecast(
    cost: Cost,
    done: Sequence[VideoItem],
    videos: Sequence[VideoItem],
    lengths: Mapping[str, float],
    gpu_stages: frozenset[str],
) -> str:
    """Lines on what all videos will take, in proportion to their length.

    Args:
        cost: of some.
        done: those.
        videos: all.
        lengths: seconds by video, of all.
        gpu_stages: stages in GPU slots.
    """
    names = [video.video_id for video in done]
    part, whole = (sum(lengths[video.video_id] for video in some) for some in (done, videos))
    times = whole / max(part, 1e-9)
    by_video = sum((cost.seconds.get(stage, Counter()) for stage in (*STAGES, FRAMES) if stage != "collect"), Counter())
    error = spread(by_video, lengths, names)
    sure = "too few to say how far off" if error is None else f"give or take {error:.0%}"
    sure = sure if by_video.total() else "the logs hold no times of them"
    lines = [
        f"estimate for {len(videos):,} videos ({whole / 3600:.1f} h) from {len(done):,} ({part / 3600:.1f} h): {sure}",
        f"  scenes: {cost.scenes * times:,.0f} ({cost.scenes / max(len(done), 1):.1f} a video)",
    ]
    cpu_stages = [stage for stage in (*STAGES, FRAMES) if stage not in gpu_stages and stage != "collect"]
    for what, unit, stages in (("GPU", "GPU", sorted(gpu_stages)), ("CPU", "worker", cpu_stages)):
        hours = cost.total(stages) * times / 3600
        if stages:
            days = ", ".join(f"{hours / 24 / count:.3g} on {count}" for count in FLEETS)
            lines.append(f"  {what}: {hours:,.1f} h of {', '.join(stages)}; days by {unit}s: {days}")
    if cost.total(["collect"]):
        lines.append(f"  downloads: {cost.total(['collect']) * times / 3600:,.1f} h, one after the other")
    for area in sorted(cost.space):
        lines.append(f"  {area}: {cost.space[area] * times / 1e9:,.2f} GB in {cost.files[area] * times:,.0f} inodes")
    return "\n".join(lines)


class Estimate:
    """Some of the videos, to be done, and what they say of all.

    Args:
        videos: all.
        places: the folders.
        count: how many to do.
        is_quiet: no progress bar.

    Attributes:
        chosen: those.
    """

    def __init__(self, videos: Sequence[VideoItem], places: Places, count: int, is_quiet: bool = False) -> None:
        self.videos, self.places = apart_from_earlier(videos, Journal(places.log)), places
        self.lengths = lengths_of(self.videos, is_quiet)
        self.chosen = choose(self.videos, self.lengths, count)

    def text(self, gpu_stages: frozenset[str]) -> str:
        """Lines on what all videos will take, in proportion to their length, when the chosen ones are done.

        Args:
            gpu_stages: stages in GPU slots.
        """
        return forecast(measure(self.places, self.chosen), self.chosen, self.videos, self.lengths, gpu_stages)

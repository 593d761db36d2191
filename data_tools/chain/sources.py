"""What the command line names, as videos."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_tools.chain.items import SCENE_STAGES, VideoItem, shard_of
from data_tools.chain.journal import Journal, Print
from data_tools.collection.sources import VIDEO_SUFFIXES
from data_tools.packaging.clouds import fingerprint
from data_tools.stages.record import text_hash


def read_videos(inputs: Sequence[str], labels: str = "none") -> tuple[list[VideoItem], list[str]]:
    """All videos of files, folders, addresses and manifests, each once.

    Args:
        inputs: as given on the command line.
        labels: "clip", "none", a label file, or a folder with ``<video_id>.csv``.

    Returns:
        The videos, and a line for each input or row that names none.

    Raises:
        ValueError: not one video anywhere.
    """
    from data_tools.collection.manifest import ManifestError, scan_manifest

    found: dict[str, VideoItem] = {}
    problems: list[str] = []
    for text in inputs:
        try:
            manifest = scan_manifest(text)
        except ManifestError as error:
            problems.append(str(error))
            continue
        problems += manifest.problems
        for source in manifest.sources:
            path = source.path.absolute() if source.path is not None else None  # workers may run elsewhere
            facts = source.url or "", source.ranges, source.extra
            item = VideoItem(source.video_id, path, *facts, origin=_origin(Path(text), source.extra))
            found.setdefault(source.key, item)
    if not found:
        raise ValueError(problems[0] if problems else "no video given")
    videos = _own_names(list(found.values()))
    return [replace(video, labels=_labels_of(video, labels)) for video in videos], problems


def _origin(named: Path, extra: Mapping[str, Any]) -> str:
    """The name of the set that an input is: a list's own, or that of a folder; none of a video or an address."""
    if "clips" in extra:
        return "RealEstate10K"
    if named.suffix == ".npy":
        return "YouTube House Tours"
    is_set = named.is_dir() or (named.is_file() and named.suffix.lower() not in VIDEO_SUFFIXES)
    return named.resolve().stem if is_set else ""


def _labels_of(video: VideoItem, labels: str) -> Path | None:
    if labels in ("clip", "none"):
        return None
    path = Path(labels).absolute()
    return path / f"{video.video_id}.csv" if path.is_dir() else path


def _own_names(videos: Sequence[VideoItem]) -> list[VideoItem]:
    """Equal names of different videos get six digits of the video behind them; copies of one video go once."""
    by_name: dict[str, list[VideoItem]] = {}
    for video in videos:
        by_name.setdefault(video.video_id.casefold(), []).append(video)
    taken: list[VideoItem] = []
    for group in by_name.values():
        if len(group) == 1:
            taken += group
            continue
        different: dict[str, VideoItem] = {}
        for video in group:
            different.setdefault(_identity(video), video)
        if len(different) == 1:
            taken += different.values()
        else:
            taken += [replace(v, video_id=f"{v.video_id}-{mark[:6]}") for mark, v in different.items()]
    return taken


def _identity(video: VideoItem) -> str:
    try:
        return text_hash(video.url) if video.path is None else fingerprint(video.path)
    except OSError:
        return text_hash(video.path)


def apart_from_earlier(videos: Sequence[VideoItem], journal: Journal) -> list[VideoItem]:
    """Give a video another name where an earlier run took its name for another source.

    One that is gone and left no scene keeps no name.
    """
    apart, known = [], dict[str, list[Print]]()
    finished = {row.video for row in journal.rows.values() if (row.stage, row.status) == (SCENE_STAGES[-1], "done")}
    for found in journal.prints.values():
        known.setdefault(found.video, []).append(found)
    for video in videos:
        others = known.get(video.video_id, []) if video.path is not None else []
        path = os.path.abspath(video.path) if video.path is not None else ""
        if any(other.path != path and (video.video_id in finished or Path(other.path).exists()) for other in others):
            mark = _identity(video)
            if all(other.fingerprint != mark for other in others):
                video = replace(video, video_id=f"{video.video_id}-{mark[:6]}")
        apart.append(video)
    return apart


def in_shard(videos: Sequence[VideoItem], shard: tuple[int, int]) -> list[VideoItem]:
    """The videos of shard ``(i, n)``."""
    number, count = shard
    return [video for video in videos if shard_of(video.video_id, count) == number]


def parse_shard(text: str) -> tuple[int, int]:
    """``"i/n"`` with 0 <= i < n.

    Raises:
        ValueError: anything else; one line.
    """
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise ValueError(f"--shard {text!r}: give i/n with i from 0 to n-1, such as 0/4")
    return int(number), int(count)

"""Read any list of videos; bad rows are counted and named, the others go on.

One video, one address, a folder of videos, ``video_id,url`` CSV (the public RoomTours form), RealEstate10K camera
files, YouTube House Tours (``urls.npy``) and HouseTours lists, plain text, JSON.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_tools.collection.manifest_readers import FILE_READERS, Row, is_camera_file, read_camera_file
from data_tools.collection.sources import (
    VIDEO_SUFFIXES,
    SourceError,
    VideoSource,
    folder_name,
    source_from_path,
    source_from_url,
)
from data_tools.stages.files import replacing
from data_tools.stages.record import text_hash
from data_tools.video.images import IMAGE_SUFFIXES

SHOWN_PROBLEMS = 10
PHOTOS_A_VIDEO = 2  # thumbnails, perhaps; where a folder has more, it is of photos, with a few short videos among them


class ManifestError(ValueError):
    """A manifest without one usable video; one line that names the file and the cure."""


@dataclass
class Manifest:
    """What was read.

    Attributes:
        sources: the videos, in the manifest's order, without repeats.
        problems: "FILE:LINE: why" for each row that names no video.
        duplicates: rows that named a video again; their ranges were united.
    """

    sources: list[VideoSource] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    duplicates: int = 0


def read_manifest(path: str | Path) -> list[VideoSource]:
    """The videos of a manifest, as ``scan_manifest``; bad rows go to stderr.

    Raises:
        ManifestError: missing, not a list of videos, or without one usable video.
    """
    manifest = scan_manifest(path)
    print_problems(manifest)
    return manifest.sources


def scan_manifest(path: str | Path) -> Manifest:
    """Read a manifest of any form.

    Args:
        path: a video file, a folder, a list, or an http(s) address.

    Raises:
        ManifestError: missing, not a list of videos, or without one usable video.
    """
    if str(path).startswith(("http://", "https://")):
        try:
            return Manifest([source_from_url(str(path))])
        except SourceError as error:
            raise ManifestError(str(error)) from error
    path = Path(path)
    if not path.exists():
        raise ManifestError(f"{path}: no such file or folder; give a video, a list of videos, or an http(s) address")
    try:
        manifest = _scan_folder(path) if path.is_dir() else _scan_file(path)
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror or error}") from error
    if not manifest.sources:
        first = f"; {manifest.problems[0]}" if manifest.problems else ""
        raise ManifestError(f"{path}: no usable video in it{first}")
    return manifest


def print_problems(manifest: Manifest) -> None:
    """Name the first bad rows and count all, on stderr."""
    for problem in manifest.problems[:SHOWN_PROBLEMS]:
        print(f"manifest: {problem}", file=sys.stderr)
    if manifest.problems:
        print(f"manifest: {len(manifest.problems)} rows left out, {len(manifest.sources)} videos", file=sys.stderr)


def write_manifest(path: Path, sources: Sequence[VideoSource], columns: Sequence[str] = ()) -> None:
    """Write ``video_id,url`` CSV with further columns of ``extra``; a reader sees the old file or the new one."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["video_id", "url", *columns])
        for source in sources:
            written = source.extra.get("id", source.video_id)
            writer.writerow([written, source.url or source.path, *(source.extra.get(name, "") for name in columns)])


def _scan_file(path: Path) -> Manifest:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return Manifest([source_from_path(path)])
    reader: Callable[[Path], list[Row]] | None = FILE_READERS.get(path.suffix.lower())
    if reader is None:
        raise ManifestError(
            f"{path}: {path.suffix or 'a file without ending'} is neither a video ({' '.join(VIDEO_SUFFIXES)}) "
            f"nor a list ({' '.join(FILE_READERS)})"
        )
    try:
        return _collect(reader(path))
    except ValueError as error:  # the file as a whole; bad rows were kept apart
        raise ManifestError(f"{path}: {str(error).splitlines()[0]}") from error


def _scan_folder(path: Path) -> Manifest:
    files = sorted(p for p in path.rglob("*") if not any(part.startswith(".") for part in p.relative_to(path).parts))
    videos = [p for p in files if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file()]
    if videos:
        sources = [source_from_path(video) for video in videos]
        stems = Counter(source.video_id.casefold() for source in sources)
        for number, source in enumerate(sources):
            if stems[source.video_id.casefold()] > 1:
                name = f"{videos[number].stem}-{text_hash(videos[number].relative_to(path).as_posix())[:6]}"
                sources[number] = source_from_path(videos[number], name)
        manifest = _collect([Row(str(source.path), source) for source in sources])
        photos = sum(p.parent == path and p.suffix.lower() in IMAGE_SUFFIXES for p in files)
        if photos > PHOTOS_A_VIDEO * len(videos):
            manifest.problems.append(
                f"{path}: its {len(videos)} videos are taken ({videos[0].name}, ...), its {photos} photos are not: "
                "give photos a folder of their own"
            )
        return manifest
    cameras = [p for p in files if p.suffix.lower() == ".txt" and is_camera_file(p)]
    if not cameras and any(p.parent == path and p.suffix.lower() in IMAGE_SUFFIXES for p in files):
        return Manifest([source_from_path(path)])  # photos or frames of one room
    if not cameras:
        raise ManifestError(
            f"{path}: no video, photo or RealEstate10K camera file in it; give a folder of one of them, or a list"
        )
    return _collect([row for camera in cameras for row in read_camera_file(camera)])


def _collect(rows: Sequence[Row]) -> Manifest:
    manifest, found = Manifest(), {}
    for row in rows:
        if isinstance(row.source, str):
            manifest.problems.append(f"{row.place}: {row.source}")
            continue
        key = row.source.key
        manifest.duplicates += key in found
        found[key] = _unite(found[key], row.source) if key in found else row.source
    names: set[str] = set()
    for key, source in found.items():
        if source.video_id in names:  # two videos of one name, as the same stem in two folders
            source = replace(source, video_id=folder_name(f"{source.video_id}-{text_hash(key)[:6]}"))
        names.add(source.video_id)
        manifest.sources.append(source)
    return manifest


def _unite(first: VideoSource, second: VideoSource) -> VideoSource:
    """One video of two rows: all ranges; a row without ranges asks for the whole video."""
    whole = not first.ranges or not second.ranges
    ranges = () if whole else tuple(sorted(set(first.ranges) | set(second.ranges)))
    extra = {**second.extra, **first.extra}
    clips = [row.extra["clips"] for row in (first, second) if row.extra.get("clips")]
    if clips:
        extra["clips"] = " ".join(clips)
    return replace(first, ranges=ranges, extra=extra)

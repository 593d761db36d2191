"""One video to collect: where it is, what its folder is called. Names and addresses here are strangers' text."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from data_tools.stages.record import text_hash
from data_tools.stages.scene_folder import safe_name

YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")
YOUTUBE_HOSTS = ("youtube.com", "youtube-nocookie.com", "youtu.be")
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".3gp", ".ogv", ".insv"),
)
UNSAFE = re.compile(r"[^\w .()+,-]")  # beyond safe_name: what a shell, yt-dlp's templates or %-formats would expand
NAME_BYTES = 150


class SourceError(ValueError):
    """A row that names no video; the message says why."""


@dataclass(frozen=True)
class VideoSource:
    """A video of a manifest.

    Attributes:
        video_id: name of its folder, safe on any file system: the YouTube id or the file's stem, with a short hash
            behind it where it had to be changed.
        url: http(s) address, or None for a local file.
        path: local file, or None.
        ranges: (start, end) seconds the manifest asks for (RealEstate10K clips); empty for the whole video.
        extra: further columns of the manifest; ``id`` is the id as written, where the folder's name differs.
    """

    video_id: str
    url: str | None = None
    path: Path | None = None
    ranges: tuple[tuple[float, float], ...] = ()
    extra: dict[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if (self.url is None) == (self.path is None):
            raise SourceError(f"{self.video_id!r}: give an address or a local file, one of the two")
        if safe_name(self.video_id) != self.video_id or UNSAFE.search(self.video_id):
            raise SourceError(f"{self.video_id!r} is no folder name; make one with folder_name()")

    @cached_property
    def key(self) -> str:
        """What two rows share when they are the same video."""
        return self.url if self.url is not None else os.path.realpath(str(self.path))


def folder_name(text: str) -> str:
    """A folder name of any id or file stem; what had to be changed gets 6 digits of its hash, so none meet.

    A leading dash or dot, path separators, characters that a shell or a template would expand, and overlong names are
    changed; letters of any alphabet, digits, blanks, ``_ - . , + ( )`` stay. A name of this function stays as it is.
    """
    name = _cut(UNSAFE.sub("_", safe_name(text)), NAME_BYTES) or "video"
    return name if name == text else f"{_cut(name, NAME_BYTES - 7)}-{text_hash(text)[:6]}"


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore").strip(" .")


def youtube_url(video_id: str) -> str:
    """The address of a YouTube id; the id is quoted, so it can name nothing else."""
    return f"https://www.youtube.com/watch?v={quote(video_id, safe='')}"


def is_youtube(url: str) -> bool:
    """Whether an address is YouTube's."""
    host = (urlsplit(url).hostname or "").lower()
    return any(host == name or host.endswith("." + name) for name in YOUTUBE_HOSTS)


def youtube_id(url: str) -> str | None:
    """The video id in a YouTube address, or None for a channel, a list or another page."""
    parts = urlsplit(url)
    steps = [step for step in parts.path.split("/") if step]
    if (parts.hostname or "").lower().endswith("youtu.be"):
        found = steps[0] if steps else ""
    elif steps[:1] in (["shorts"], ["embed"], ["live"], ["v"], ["e"]) and len(steps) > 1:
        found = steps[1]
    else:
        found = parse_qs(parts.query).get("v", [""])[0]
    return found if YOUTUBE_ID.fullmatch(found) else None


def source_from_url(url: str, video_id: str = "", **kwargs: object) -> VideoSource:
    """A source of an address; YouTube's many spellings become one.

    Args:
        url: http or https.
        video_id: the manifest's id of it, if any.
        **kwargs: further fields of ``VideoSource``.

    Raises:
        SourceError: not an address, a YouTube page that is no video, an id that contradicts the address.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise SourceError(f"{url!r} is no address: {error}") from error
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x1f]", url):
        raise SourceError(f"{url!r} is no http(s) address")
    if not is_youtube(url):
        stem = Path(parts.path).stem or host
        return VideoSource(
            folder_name(video_id or f"{stem[:60]}-{text_hash(url)[:6]}"), url=url, **_named(video_id, kwargs)
        )
    found = youtube_id(url)
    if found is None:
        raise SourceError(f"{url!r} is a YouTube page but no video; list channels with `collect.py search --channel`")
    if video_id and YOUTUBE_ID.fullmatch(video_id) and video_id != found:
        raise SourceError(f"id {video_id!r} is not the one in {url!r}")
    return VideoSource(folder_name(found), url=youtube_url(found), **_named(found, kwargs))


def source_from_id(video_id: str, **kwargs: object) -> VideoSource:
    """A source of a YouTube id.

    Raises:
        SourceError: not 11 of YouTube's characters.
    """
    if not YOUTUBE_ID.fullmatch(video_id):
        raise SourceError(f"{video_id!r} is neither a YouTube id (11 of A-Z a-z 0-9 _ -) nor an address")
    return source_from_url(youtube_url(video_id), **kwargs)


def source_from_path(path: Path, name: str = "", **kwargs: object) -> VideoSource:
    """A source of a local file, named after its stem unless ``name`` is given."""
    return VideoSource(folder_name(name or path.stem), path=path, **kwargs)


def _named(written: str, kwargs: dict) -> dict:
    """The id as written goes into ``extra`` where the folder is called otherwise."""
    extra = dict(kwargs.pop("extra", {}))
    if written and folder_name(written) != written:
        extra["id"] = written
    return {**kwargs, "extra": extra}

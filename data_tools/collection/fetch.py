"""One video into its folder: ``video.<ext>`` and ``record.json``, or the record alone with the reason.

The unfinished download lives in ``<videos>/.download/<video_id>``, a place that stays: a run killed at any moment goes
on there with a Range request. A local video is looked at and recorded, never copied.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_tools.collection.failures import LOGIN, PASSING, PERMANENT, Failure, classify, one_line
from data_tools.collection.ledger import AREA, add_try, read_tries
from data_tools.collection.patience import TOO_LONG
from data_tools.collection.settings import CollectSettings, download_options
from data_tools.collection.sources import VideoSource
from data_tools.packaging.clouds import fingerprint
from data_tools.stages.locks import run_lock
from data_tools.stages.record import (
    RejectedError,
    StageError,
    StageRecord,
    is_current,
    read_record,
    run_stage,
    text_hash,
    tool_versions,
)
from data_tools.video.sampling import VideoError, probe_video

STAGE = "collect"
BROKEN = "broken file"
LIVE = {"is_live": "live now", "is_upcoming": "not yet live", "post_live": "live until a moment ago"}
UNFINISHED = (".part", ".ytdl", ".temp", ".tmp")
Factory = Callable[[dict[str, Any]], Any]
Hook = Callable[[dict[str, Any]], None]


class CollectError(StageError):
    """A video that could not be had, with what its message means."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason, permanent=failure.kind == PERMANENT)
        self.failure = failure


class UnwantedError(RejectedError):
    """A video that is there and not wanted, with a word to count by."""

    def __init__(self, reason: str, category: str) -> None:
        super().__init__(reason)
        self.category = category


@dataclass
class QuietLog:
    """yt-dlp's logger: keeps the warnings, prints nothing."""

    warnings: list[str] = field(default_factory=list)

    def debug(self, message: str) -> None:
        """Progress and detail are not kept."""

    def warning(self, message: str) -> None:
        """Kept for the ledger; errors come as exceptions too."""
        self.warnings.append(one_line(message))

    info, error = debug, warning


def collect_video(
    source: VideoSource,
    folder: Path,
    settings: CollectSettings | None = None,
    overwrite: bool = False,
    factory: Factory | None = None,
    hook: Hook | None = None,
) -> StageRecord:
    """Make one video's folder, or skip it when it is there; one try, ``queue.collect_patiently`` waits and repeats.

    Args:
        folder: ``<videos>/<video_id>``.
        overwrite: fetch again what is there. Should that fail, what is there stays.

    Returns:
        The record. ``result`` of a done one: id, url or path, title, channel, duration (s), width, height, fps, file,
        bytes, fingerprint. Of a failed one: ``failure`` (permanent, passing, rate_limited, login, disk), ``category``.
    """
    settings = settings or CollectSettings()
    if source.path is not None:
        return _record_local(source, folder, settings, overwrite)
    standing = standing_record(source, folder, settings)
    videos = folder.parent
    if standing is not None and not overwrite:
        if standing.status == "done":  # a kill may have left the download's other name
            shutil.rmtree(videos / AREA / source.video_id, ignore_errors=True)
        return standing
    with run_lock(videos / AREA / "lock", patience=None):  # one download at a time in a folder
        standing = standing_record(source, folder, settings)  # another process may have fetched it meanwhile
        if standing is not None and not overwrite:
            return standing
        record = _fetch(source, folder, settings, factory, hook)
    return record


def standing_record(source: VideoSource, folder: Path, settings: CollectSettings) -> StageRecord | None:
    """The record that makes another try needless, or None."""
    record = read_record(folder)
    if record is None or source.url is None:
        return None
    digest, asked = settings.digest(), text_hash(source.url)
    is_same = record.settings_hash == digest and record.input_hash == asked
    waits_for_login = is_same and record.result.get("failure") == LOGIN and settings.cookies is None
    if record.status == "done":  # whatever the settings are now: changed ones are for what is not there yet
        stands = record.input_hash == asked and (folder / str(record.result.get("file"))).is_file()
    else:
        stands = waits_for_login or is_current(record, digest, asked)
    if stands:
        record.skipped = True
        return record
    return None


def video_file(folder: Path) -> Path:
    """The video of a done folder: the downloaded file in it, or the local file that it stands for.

    Raises:
        StageError: not there.
    """
    record = read_record(folder)
    if record is None or record.status != "done":
        raise StageError(f"{folder}: no collected video; run collect first", permanent=False)
    local = record.result.get("path")
    path = Path(local) if local else folder / str(record.result["file"])
    if not path.is_file():
        raise StageError(f"{path}: the collected video is gone; put it back or run collect again", permanent=False)
    return path


def _fetch(
    source: VideoSource, folder: Path, settings: CollectSettings, factory: Factory | None, hook: Hook | None
) -> StageRecord:
    """Download first, then make the folder: what is there already is replaced only by a whole video."""
    area, log = folder.parent / AREA / source.video_id, QuietLog()
    error: StageError | None = None
    facts: dict[str, Any] = {}
    try:
        facts = _download(source, area, settings, factory or youtube_dl, hook, log)
    except StageError as failure:
        error = _broken_again(failure, source, folder.parent)
    failure = error.failure if isinstance(error, CollectError) else None
    kind = failure.kind if failure else {type(None): "done", RejectedError: "rejected"}.get(type(error), PASSING)
    category = failure.category if failure else ""
    version = tool_versions(["yt-dlp"]).get("yt-dlp", "")
    extra = {"warnings": log.warnings[-3:]} if error is not None and log.warnings else {}
    try:
        add_try(folder.parent, source, kind, category, str(error or ""), yt_dlp=version, **extra)
    except OSError as problem:  # the disk is full: the queue has to hear of it
        error = error or CollectError(classify(str(problem)))
    found = read_record(folder)
    if error is not None and found is not None and found.status == "done":
        failed = StageRecord(STAGE, folder.name, "failed", f"{error}; the earlier download stays", error.permanent)
        failed.result = _failure_result(error)
        return failed

    def work(partial: Path, record: StageRecord) -> None:
        if error is not None:
            record.result.update(_failure_result(error))
            raise error
        name = f"video{Path(facts['file']).suffix}"
        _link(Path(facts.pop("file")), partial / name)
        record.result.update(facts, file=name, fingerprint=fingerprint(partial / name), tools=tool_versions(["yt-dlp"]))

    record = run_stage(STAGE, folder, settings.digest(), text_hash(source.url), work, overwrite=True)
    if record.status == "done" or record.permanent:
        shutil.rmtree(area, ignore_errors=True)
    return record


def _broken_again(error: StageError, source: VideoSource, videos: Path) -> StageError:
    """A file that came broken before is broken where it comes from; it is not fetched a third time."""
    if not isinstance(error, CollectError) or error.failure.category != BROKEN:
        return error
    tries = [entry for entry in read_tries(videos) if entry["video_id"] == source.video_id]
    is_again = any(entry.get("category") == BROKEN for entry in tries)
    return CollectError(replace(error.failure, kind=PERMANENT)) if is_again else error


def _failure_result(error: StageError) -> dict[str, str]:
    if isinstance(error, CollectError):
        return {"failure": error.failure.kind, "category": error.failure.category}
    return {"category": error.category} if isinstance(error, UnwantedError) else {"failure": PASSING}


def youtube_dl(options: dict[str, Any]) -> Any:
    """yt-dlp's downloader.

    Raises:
        StageError: yt-dlp is not installed.
    """
    try:
        from yt_dlp import YoutubeDL
    except ImportError as error:
        raise StageError('yt-dlp is not installed; pip install "yt-dlp[default]"', permanent=False) from error
    return YoutubeDL(options)


def _download(
    source: VideoSource, area: Path, settings: CollectSettings, factory: Factory, hook: Hook | None, log: QuietLog
) -> dict[str, Any]:
    """Fetch the video into ``area``; returns the record's facts, with the file's whole path."""
    if os.path.expanduser(os.path.expandvars(str(area))) != str(area):
        raise StageError(f"{area}: yt-dlp would expand the $ or ~ in this path; choose another folder", permanent=False)
    try:
        area.mkdir(parents=True, exist_ok=True)
        with factory(download_options(settings, area, log, hook)) as ydl:
            info = ydl.extract_info(source.url, download=False)
            _check(info, settings)
            info = ydl.process_ie_result(info, download=True)
        file = _downloaded_file(info, area)
        try:
            facts = _facts(file)
        except VideoError as error:
            file.unlink(missing_ok=True)  # to be fetched anew
            raise CollectError(Failure(PASSING, BROKEN, f"what came is no video: {error}")) from error
    except (StageError, MemoryError):
        raise
    except Exception as error:  # an extractor may raise anything; the queue goes on with the next video
        raise CollectError(classify(str(error) or type(error).__name__)) from error
    names = ("title", "channel", "channel_id", "upload_date", "format_id", "extractor")
    known = {name: info.get(name) for name in names}
    known["channel"] = known["channel"] or info.get("uploader")
    seen = {name: info.get(name) for name in ("duration", "width", "height", "fps")}
    return {"id": source.extra.get("id", source.video_id), "url": source.url, **known, **seen, **facts, "file": file}


def _check(info: dict[str, Any] | None, settings: CollectSettings) -> None:
    """Refuse what is no single, finished video of the wanted size."""
    if not info:
        raise CollectError(Failure(PASSING, "extractor", "yt-dlp found nothing at this address"))
    if info.get("_type", "video") != "video":
        reason = "the address is a list of videos; give the videos themselves"
        raise CollectError(Failure(PERMANENT, "bad address", reason))
    if info.get("live_status") in LIVE:
        raise CollectError(Failure(PASSING, "live", LIVE[info["live_status"]]))
    height, duration = info.get("height"), info.get("duration")
    if height and min(height, info.get("width") or height) < settings.min_height:
        raise UnwantedError(f"{height} lines at best, {settings.min_height} wanted", "too small")
    if duration and settings.max_duration and duration > settings.max_duration:
        raise UnwantedError(f"{duration:.0f} s long, at most {settings.max_duration:.0f} wanted", TOO_LONG)


def _downloaded_file(info: dict[str, Any], area: Path) -> Path:
    for item in info.get("requested_downloads") or []:
        path = Path(item.get("filepath") or "")
        if path.is_file():
            return path
    found = [path for path in area.glob("video.*") if not path.name.endswith(UNFINISHED) and path.is_file()]
    if len(found) != 1:
        raise CollectError(Failure(PASSING, "no file", "yt-dlp ended without a file; update it and try again"))
    return found[0]


def _facts(file: Path) -> dict[str, Any]:
    """Bytes of a video, and its length and size where PyAV is there to look into it."""
    facts: dict[str, Any] = {"bytes": file.stat().st_size}
    if importlib.util.find_spec("av") is not None:
        info = probe_video(file)
        facts |= {"width": info.width, "height": info.height, "fps": round(info.fps, 4)}
        facts["duration"] = round(info.duration, 3)
    return facts


def _record_local(source: VideoSource, folder: Path, settings: CollectSettings, overwrite: bool) -> StageRecord:
    path = Path(str(source.path)).resolve()

    def work(partial: Path, record: StageRecord) -> None:
        if not path.is_file():
            raise StageError(f"{path}: no such video", permanent=False)
        record.result.update(id=source.video_id, path=str(path), url=None, title=path.stem, channel=None, file=None)
        record.result.update(fingerprint=mark, **_facts(path))
        if "duration" not in record.result:
            record.notes.append("not looked into: PyAV is not installed (pip install av)")

    try:
        mark = fingerprint(path)
    except OSError:
        mark = ""
    return run_stage(STAGE, folder, settings.digest(), text_hash(path, mark), work, overwrite)


def _link(file: Path, target: Path) -> None:
    """A second name, so that a kill before the folder is in place loses nothing; a move where there are no links."""
    try:
        os.link(file, target)
    except OSError:
        shutil.move(file, target)

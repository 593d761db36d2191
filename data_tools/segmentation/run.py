"""One video to its scenes: the work behind ``segment.py``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.collection.sources import VIDEO_SUFFIXES
from data_tools.packaging.clouds import fingerprint
from data_tools.segmentation.cuts import Cut, find_cuts
from data_tools.segmentation.joined import joined_scenes
from data_tools.segmentation.labels import label_file, read_labels
from data_tools.segmentation.picture import draw_timeline
from data_tools.segmentation.scan import Classifier, Scan, scan_video
from data_tools.segmentation.scenes import Segmentation, Span, find_scenes
from data_tools.segmentation.settings import LOOKS, LOOKS_A_SCENE, NO_ROOM, SegmentSettings
from data_tools.stages.files import write_json
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
from data_tools.stages.scene_folder import safe_name
from data_tools.video.images import list_images
from data_tools.video.sampling import VideoError, VideoInfo, probe_video

STAGE = "segment"
SCENES = "scenes.json"
THUMBS_PER_SCENE = 3
PACKETS = "packets.npy"  # float64 seconds of the video's packets, for those who decode parts of it later
LEAST_HOLE = 0.5  # seconds: a shorter hole does not end a shot


@dataclass(frozen=True)
class Scene:
    """A scene of a video.

    Attributes:
        scene_id: ``<video_id>_<number>``.
        intervals: (start, end) seconds in the video, in order of time.
        label: room type; empty without labels.
        probability: mean of the label's probability, or None without labels.
    """

    scene_id: str
    intervals: tuple[tuple[float, float], ...]
    label: str
    probability: float | None

    @property
    def start(self) -> float:
        """Begin of the first interval."""
        return self.intervals[0][0]

    @property
    def end(self) -> float:
        """End of the last interval."""
        return self.intervals[-1][1]

    def time_at(self, share: float) -> float:
        """Seconds in the video where a share (0..1) of the scene has passed."""
        left = share * sum(end - start for start, end in self.intervals)
        for start, end in self.intervals:
            if left <= end - start:
                return start + left
            left -= end - start
        return self.end


def read_scenes(folder: Path) -> list[Scene]:
    """Scenes of a segment folder, in order of time.

    Raises:
        StageError: there is no readable scenes.json.
    """
    try:
        rows = json.loads((folder / SCENES).read_text(encoding="utf-8"))["scenes"]
        return [Scene(**{**row, "intervals": tuple((a, b) for a, b in row["intervals"])}) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(f"{folder}: no readable {SCENES}; run segment.py on its video", permanent=False) from error


def find_videos(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """(video id, file) of videos, folders of videos, and folders that collect.py made; ids are unique.

    Raises:
        FileNotFoundError: a path is not there, or a folder holds no video.
    """
    found: list[tuple[str, Path]] = []
    for path in paths:
        if path.is_file():
            files = [path]
        elif path.is_dir():
            files = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in VIDEO_SUFFIXES
                and file.is_file()
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
            )
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
        if not files:
            raise FileNotFoundError(f"{path}: no video in it ({' '.join(VIDEO_SUFFIXES)})")
        found += [(_video_id(file), file) for file in files]
    counts: dict[str, int] = {}
    unique = []
    for name, file in dict((str(file), (name, file)) for name, file in found).values():
        counts[name] = counts.get(name, 0) + 1
        unique.append((name if counts[name] == 1 else f"{name}~{counts[name]}", file))
    return unique


def _video_id(file: Path) -> str:
    """collect.py's files are all called ``video.<ext>``: their folder is the id."""
    return safe_name(file.parent.name if file.stem == "video" and file.parent.name else file.stem)


def segment_video(
    path: Path,
    folder: Path,
    settings: SegmentSettings,
    overwrite: bool = False,
    classifier: Classifier | None = None,
) -> StageRecord:
    """Find a video's scenes.

    Args:
        path: the video.
        folder: ``WORK/segments/<video_id>``; gets scenes.json, timeline.png, thumbs/, record.json, with a
            classifier looks.npy.
        settings: what decides the scenes.
        overwrite: make it again.
        classifier: labels frames instead of CLIP (``settings.labels`` must be "clip").

    Returns:
        The record: "done", "rejected" (no room in it, too short), or "failed"; nothing is raised for a bad video.
    """
    path = Path(path)
    inputs = _inputs(path, folder, settings, classifier)

    def work(partial: Path, record: StageRecord) -> None:
        _segment(path, partial, record, settings, classifier, inputs[0])

    return run_stage(STAGE, folder, settings.digest(), text_hash(*inputs), work, overwrite)


def is_done(path: Path, folder: Path, settings: SegmentSettings) -> bool:
    """Whether ``segment_video`` with these settings would skip this video."""
    return is_current(read_record(folder), settings.digest(), text_hash(*_inputs(path, folder, settings)))


def _inputs(path: Path, folder: Path, settings: SegmentSettings, classifier: Classifier | None = None) -> list[str]:
    """What a result is made from: the file's print first, then that of its labels."""
    parts: list[str] = []
    try:
        parts = [fingerprint(path)]
        if settings.kind == "file":
            parts.append(fingerprint(label_file(Path(settings.labels), folder.name)))
    except (OSError, StageError):
        parts.append(f"missing {path.name}")  # the work finds out and says so
    if classifier is not None:
        parts.append(f"classifier {type(classifier).__name__} {' '.join(classifier.names)}")
    return parts


def _segment(
    path: Path,
    partial: Path,
    record: StageRecord,
    settings: SegmentSettings,
    classifier: Classifier | None,
    print_of_file: str,
) -> None:
    if path.is_dir():
        _write_photos(path, partial, record, print_of_file)
        return
    info = probe_video(path)
    if settings.kind == "clip" and classifier is None:
        from data_tools.segmentation.clip import load_clip

        classifier = load_clip(settings)
    table = read_labels(label_file(Path(settings.labels), record.item)) if settings.kind == "file" else None
    rate = None if settings.is_joined else settings.rate
    scan = scan_video(path, info, rate, classifier if settings.kind == "clip" else None, settings.batch)
    _check_length(info, scan, record, settings)
    shares, names = scan.probabilities, list(classifier.names) if scan.probabilities is not None else []
    if table is not None:
        shares, names = table.probabilities(scan.times), table.names
    inside = [hole for hole in scan.holes if hole[1] - hole[0] >= LEAST_HOLE and hole[0] < scan.duration - LEAST_HOLE]
    cuts = find_cuts(scan.signals, settings.cut_threshold, inside)
    if settings.is_joined:
        result = joined_scenes(scan.times, shares, names, scan.duration, settings)
    else:
        result = find_scenes(scan.times, shares, names, cuts, scan.duration, settings)
    record.result = _facts(info, scan, cuts, result, settings, print_of_file)
    if settings.kind == "none":
        record.notes.append("no labels: scenes are shots, and outdoor shots stay in")
    if not result.scenes:
        raise RejectedError(_why_nothing(path, scan, shares, names, result, settings))
    _write(partial, record.item, path, info, scan, cuts, result, settings)
    count = len(result.scenes)
    title = f"{path.name}: {count} scene{'' if count == 1 else 's'} in {scan.duration:.0f} s"
    draw_timeline(
        partial / "timeline.png",
        title,
        scan.duration,
        scan.times,
        result.shares,
        names,
        cuts,
        scan.signals,
        result,
        scan.thumbs,
    )


def _write_photos(path: Path, partial: Path, record: StageRecord, print_of_folder: str) -> None:
    """A folder of photos or frames is one scene; there is nothing to segment in it.

    Raises:
        StageError: no image in it.
    """
    images = list_images(path)
    length = round(images[-1][1] - images[0][1], 3)
    scene = Scene(f"{record.item}_001", ((0.0, max(length, 0.001)),), "", None)
    record.result = {
        "file": path.name,
        "fingerprint": print_of_folder,
        "frames_sampled": len(images),
        "labels": "none",
        "scenes": 1,
    }
    record.notes.append(f"a folder of {len(images)} images: one scene, not segmented")
    video = {"id": record.item, "file": path.name, "images": len(images)}
    empty = {"dropped": [], "cuts": [], "boundaries": []}
    write_json(partial / SCENES, {"video": video, "labels": "none", "scenes": [asdict(scene)], **empty})


def _check_length(info: VideoInfo, scan: Scan, record: StageRecord, settings: SegmentSettings) -> None:
    """Note what is missing of a damaged video; refuse what is too short.

    Raises:
        VideoError: cut off so early that under a second is left.
        RejectedError: whole, but shorter than a scene.
    """
    name, missing = info.path.name, seconds_missing(scan)
    if missing > max(LEAST_HOLE, 0.01 * info.duration):
        if scan.frames < 2 or scan.duration < 1.0:
            raise VideoError(f"{name}: cut off: {scan.frames} frames of {info.duration:.1f} s decode; fetch it again")
        record.notes.append(_damage(info, scan, missing))
    if scan.report.errors:
        record.notes.append(f"{scan.report.errors} damaged packets or frames left out")
    if scan.report.hdr:
        record.notes.append(f"{scan.report.hdr} video: colours brought to ordinary ones (BT.709)")
    shortest = min(settings.min_indoor, settings.min_room)
    if scan.frames < 2:
        raise RejectedError(f"{name}: 1 frame; a scene needs a moving camera")
    if scan.duration < shortest:
        raise RejectedError(f"{name}: {scan.duration:.1f} s, shorter than a scene ({shortest:g} s)")


def seconds_missing(scan: Scan) -> float:
    """Seconds that a whole file would have and this one has not."""
    return sum(end - start for start, end in scan.holes)


def _damage(info: VideoInfo, scan: Scan, missing: float) -> str:
    long = [hole for hole in scan.holes if hole[1] - hole[0] >= LEAST_HOLE]
    places = ", ".join(f"{start:.1f} to {end:.1f} s" for start, end in long[:3]) or "here and there"
    what = "cut off" if len(long) == 1 and long[0][0] >= scan.duration - LEAST_HOLE else "damaged"
    more = f" and {len(long) - 3} more" if len(long) > 3 else ""
    return f"{what}: {missing:.1f} s of {info.duration:.1f} s are missing ({places}{more}); used what is there"


def _facts(
    info: VideoInfo, scan: Scan, cuts: list[Cut], result: Segmentation, settings: SegmentSettings, print_of_file: str
) -> dict[str, Any]:
    kinds = [cut.kind for cut in cuts]
    tools = ["av", "numpy", "scenedetect-headless", *(["open-clip-torch", "torch"] if settings.kind == "clip" else [])]
    return {
        "file": info.path.name,
        "fingerprint": print_of_file,
        "duration": round(scan.duration, 3),
        "duration_stated": round(info.duration, 3),
        "seconds_missing": round(seconds_missing(scan), 3),
        "fps": round(info.fps, 4),
        "width": info.width,
        "height": info.height,
        "rotation": info.rotation,
        "codec": info.codec,
        "hdr": scan.report.hdr,
        "frames_decoded": scan.frames,
        "frames_damaged": scan.report.errors,
        "frames_sampled": len(scan.times),
        "frames_classified": scan.classified,
        "labels": settings.kind,
        "cuts": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "scenes": len(result.scenes),
        "scene_seconds": round(sum(span.length for span in result.scenes), 3),
        "rooms": {label: sum(span.label == label for span in result.scenes) for label in _labels(result.scenes)},
        "tools": tool_versions(tools),
    }


def _labels(spans: list[Span]) -> list[str]:
    return sorted({span.label for span in spans if span.label})


def _why_nothing(
    path: Path, scan: Scan, shares: NDArray | None, names: list[str], result: Segmentation, settings: SegmentSettings
) -> str:
    """The reason of a rejection, one line."""
    longest = max((span.length for span in result.dropped if span.label not in NO_ROOM), default=0.0)
    if shares is not None:
        top = np.array([name not in NO_ROOM for name in names])[shares.argmax(1)].mean()
        if longest == 0.0:
            return f"{path.name}: shows no room ({top:.0%} of its frames look like one)"
        need = f"{settings.min_indoor:g} s needed"
        return f"{path.name}: shows no room long enough ({longest:.1f} s at a time, {need})"
    return f"{path.name}: no shot long enough ({longest:.1f} s of the {settings.min_indoor:g} s needed)"


def _write(
    partial: Path,
    video_id: str,
    path: Path,
    info: VideoInfo,
    scan: Scan,
    cuts: list[Cut],
    result: Segmentation,
    settings: SegmentSettings,
) -> None:
    scenes: list[Scene] = []
    for number, span in enumerate(result.scenes, start=1):
        probability = None if span.probability is None else round(span.probability, 4)
        times = tuple((round(start, 3), round(end, 3)) for start, end in span.intervals)
        scene = Scene(f"{video_id}_{number:03d}", times, span.label, probability)
        scenes.append(scene)
        _write_thumbs(partial / "thumbs", scene, scan)
    video = {
        "id": video_id,
        "file": path.name,
        "duration": round(scan.duration, 3),
        "fps": round(info.fps, 4),
        "width": info.width,
        "height": info.height,
    }
    value = {
        "video": video,
        "labels": settings.kind,
        "scenes": [asdict(scene) for scene in scenes],
        "dropped": [
            {"start": round(span.start, 3), "end": round(span.end, 3), "label": span.label, "reason": span.reason}
            for span in result.dropped
        ],
        "cuts": [{"start": round(cut.start, 3), "end": round(cut.end, 3), "kind": cut.kind} for cut in cuts],
        "boundaries": [round(time, 3) for time in result.boundaries],
    }
    write_json(partial / SCENES, value)
    if scan.report.packets is not None:
        np.save(partial / PACKETS, scan.report.packets)
    if scan.looks is not None:
        np.save(partial / LOOKS, np.stack([_looks(scene, scan.look_times, scan.looks) for scene in scenes]))


def _looks(scene: Scene, times: NDArray[np.float64], looks: NDArray[np.float16]) -> NDArray[np.float16]:
    """(LOOKS_A_SCENE, E) embeddings of the frames nearest to evenly spread times of a scene."""
    wanted = [scene.time_at((i + 0.5) / LOOKS_A_SCENE) for i in range(LOOKS_A_SCENE)]
    return looks[np.abs(times[None] - np.array(wanted)[:, None]).argmin(1)]


def _write_thumbs(folder: Path, scene: Scene, scan: Scan) -> None:
    """A few pictures of a scene, as JPEG."""
    try:
        from PIL import Image
    except ImportError as error:
        raise StageError("thumbnails need Pillow: pip install pillow", permanent=False) from error
    folder.mkdir(exist_ok=True)
    for i in range(THUMBS_PER_SCENE):
        time = scene.time_at((i + 0.5) / THUMBS_PER_SCENE)
        Image.fromarray(scan.thumbs.nearest(time)).save(folder / f"{scene.scene_id}_{i}.jpg", quality=85)

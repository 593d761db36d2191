"""What is done of a video or a scene, and the call that does the rest.

Every result has a key: a hash of what it is made from (the video's fingerprint, a scene's intervals, a labels file)
and of the mark of its stage's settings (`data_tools.chain.recorded`), known before the work is done and kept in the
folder's record. A result counts when its key is the wanted one. So a changed input redoes what is made from it, and
nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_tools.chain.folders import is_believed, list_splits, row_of_folder
from data_tools.chain.items import (
    COPY_OF,
    FRAMES,
    SCENE_NAME,
    SCENE_STAGES,
    STAGES,
    Call,
    Intervals,
    Places,
    SceneItem,
    Source,
    VideoItem,
)
from data_tools.chain.journal import Journal, Print, Row
from data_tools.chain.recorded import Settings, as_only_room
from data_tools.packaging.clouds import fingerprint
from data_tools.stages.record import StageError, read_record, text_hash
from data_tools.stages.splits import split_of

MIN_PART_SECONDS = 2.0


@dataclass(frozen=True)
class ChainSettings:
    """What decides the output.

    Attributes:
        stages: settings of each stage, and their marks.
        split: scenes go to OUT/<split>.
        val_share: share of the videos, by name, whose scenes go to OUT/val.
        facts: of the run, for meta.json (the backend's name).
        gpu_stages: stages that want a GPU slot.
        copies: least cosine of the frames of near-duplicates, which are left out; 0 leaves none out.
        keep_clouds: keep the clouds of reconstructions from now on, which else go when their scene is settled.
        retry_failed: try again what failed for good.
        is_one_room: one local video is given; where its only scene is the data set's only one, usual limits of quality
            do not count: it is shown with its verdict.
    """

    stages: Settings
    split: str = "train"
    val_share: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    gpu_stages: frozenset[str] = frozenset()
    copies: float = 0.0
    keep_clouds: bool = False
    retry_failed: bool = False
    is_one_room: bool = False


class Planner:
    """Knows what is done, and makes the calls for what is not.

    Args:
        places: the folders.
        settings: of the chain.
        journal: the logs.
        run: name of this run's attempts.
        read_scenes: a segment folder to its scenes.
    """

    def __init__(
        self,
        places: Places,
        settings: ChainSettings,
        journal: Journal,
        run: str,
        read_scenes: Callable[[Path], list[SceneItem]],
    ) -> None:
        self.places, self.settings, self.journal, self.run = places, settings, journal, run
        self.read_scenes = read_scenes
        self._splits = list_splits(places)
        self._only = ""  # the scene that is shown whatever its quality

    def folder(self, stage: str, video: VideoItem, scene: SceneItem | None = None) -> Path:
        """The folder of a finished item; a video's scenes lie in one split, that of the first one written."""
        if not STAGES[stage].into_split:
            return self.places.folder(stage, scene.scene_id if scene is not None else video.video_id)
        assert scene is not None
        split = self._splits.get(video.video_id)
        split = split or split_of(video.video_id, self.settings.split, self.settings.val_share)
        return self.places.folder(stage, scene.scene_id, split)

    def scene_folder(self, name: str) -> Path:
        """A scene's folder in the data set, whether it is there or not."""
        match = SCENE_NAME.match(name)
        return self.folder(SCENE_STAGES[-1], VideoItem(match["video"] if match else name), SceneItem(name))

    def has_scene(self, name: str) -> bool:
        """Whether the data set has a scene of this name."""
        return (self.scene_folder(name) / STAGES[SCENE_STAGES[-1]].needs).is_file()

    def _is_copy_no_more(self, folder: Path) -> bool:
        """Whether a scene was left out as a copy, and is none now: of a scene that is gone, or by another measure."""
        record = read_record(folder)
        facts = record.result if record is not None else {}
        is_copy = COPY_OF in facts
        return is_copy and (facts.get("copies") != self.settings.copies or not self.has_scene(facts[COPY_OF]))

    def source(self, video: VideoItem) -> Source:
        """The video's file, the local one or the one that collect left, with its fingerprint.

        Raises:
            OSError: it cannot be read, or collect left none.
        """
        if video.path is not None:
            return Source(video.path, self._fingerprint(video, video.path))
        folder = self.folder("collect", video)
        record = read_record(folder)
        if record is None or not record.result.get("file"):
            raise FileNotFoundError(2, "no video file in its folder", str(folder))
        file = folder / str(record.result["file"])
        return Source(file, str(record.result.get("fingerprint") or self._fingerprint(video, file)))

    def _fingerprint(self, video: VideoItem, source: Path) -> str:
        """The file's fingerprint; taken again only when its size or time changed."""
        path, stat = os.path.abspath(source), os.stat(source)
        known = self.journal.prints.get(path)
        is_same = known is not None and (known.size, known.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
        if known is not None and is_same and not source.is_dir():
            return known.fingerprint
        found = fingerprint(source)
        if known is None or known.fingerprint != found or not is_same:
            self.journal.put_print(Print(path, stat.st_size, stat.st_mtime_ns, found, video.video_id))
        return found

    def key(self, stage: str, video: VideoItem, source: Source | None = None, scene: SceneItem | None = None) -> str:
        """What an item's result is made from, and the mark of the stage's settings, as a hash."""
        mark = self.settings.stages.marks.get(stage, "")
        if source is None:
            return text_hash(stage, mark, video.video_id, video.url)
        if scene is None:
            return text_hash(stage, mark, source.fingerprint, video.ranges, _labels_print(video))
        if stage == "reconstruct":
            return text_hash(stage, mark, source.fingerprint, scene.intervals)
        facts = [video.url, dict(video.extra), scene.label, scene.probability]
        first = self.key("reconstruct", video, source, scene)
        return text_hash(stage, mark, first, json.dumps(facts, sort_keys=True, default=str))

    def look(
        self, stage: str, video: VideoItem, source: Source | None = None, scene: SceneItem | None = None
    ) -> Row | None:
        """What settles an item, or None where there is work to do."""
        name = video.video_id if scene is None else scene.scene_id
        key, final = self.key(stage, video, source, scene), self.folder(stage, video, scene)
        row = self.journal.get(stage, name)
        if row is None or row.key != key or not is_believed(row, final, self.places):
            places = dict.fromkeys((final, self.places.refused(stage, name)))
            rows = (row_of_folder(folder, stage) for folder in places)
            row = next((found for found in rows if found is not None and found.key == key), None)
            if row is None:
                return None
            row = self.journal.found(replace(row, video=video.video_id))
        if (stage, row.status) == ("reconstruct", "rejected") and self._is_copy_no_more(final):
            return None
        if row.status == "done":
            needs = STAGES[stage].needs
            return row if not needs or os.path.exists(f"{final}/{needs}") else None
        if row.item in self.journal.fresh:
            return row
        return None if not row.permanent or (row.status == "failed" and self.settings.retry_failed) else row

    def call(self, stage: str, video: VideoItem, source: Source | None = None, scene: SceneItem | None = None) -> Call:
        """The call that makes an item."""
        name = video.video_id if scene is None else scene.scene_id
        attempts = None if STAGES[stage].in_place else self.places.attempts(stage, self.run)
        is_gpu = stage in self.settings.gpu_stages
        has_frames = is_gpu and stage == "reconstruct" and attempts is not None
        return Call(
            stage,
            name,
            video,
            scene,
            self.folder(stage, video, scene),
            attempts,
            None if source is None else source.path,
            self._inputs(stage, video, scene),
            self._settings_for(stage, name),
            self.key(stage, video, source, scene),
            is_gpu,
            self.settings.facts if scene is not None else {},
            attempts / FRAMES / f"{name}.pickle" if has_frames else None,
        )

    def _settings_for(self, stage: str, name: str) -> Any:
        settings = self.settings.stages.stages.get(stage)
        return as_only_room(settings) if stage == SCENE_STAGES[-1] and name == self._only else settings

    def _inputs(self, stage: str, video: VideoItem, scene: SceneItem | None) -> Path | None:
        """The folder of the stage before."""
        if stage == "reconstruct":
            return self.folder("segment", video)
        return self.folder("reconstruct", video, scene) if stage == "postprocess" else None

    def forget_failures(self, video: VideoItem, source: Source, scene: SceneItem) -> None:
        """A failure of an earlier stage says nothing of a scene that is finished."""
        for stage in SCENE_STAGES[:-1]:
            row = self.journal.get(stage, scene.scene_id)
            if row is not None and row.status != "done" and self.look(stage, video, source, scene) is None:
                self.journal.drop([row.item])

    def scenes_in(self, folder: Path, video: VideoItem) -> list[SceneItem] | None:
        """The scenes of a segmentation that are asked for; None where they cannot be read."""
        try:
            scenes = self.read_scenes(folder)
        except (StageError, OSError, ValueError):
            return None
        if self.settings.is_one_room and len(scenes) == 1 and not self._splits.keys() - {video.video_id}:
            self._only = scenes[0].scene_id
        return within(scenes, video) if video.ranges else scenes


def _labels_print(video: VideoItem) -> str:
    if video.labels is None:
        return ""
    try:
        return fingerprint(video.labels)
    except OSError:
        return "missing"  # the stage says so


def within(scenes: Sequence[SceneItem], video: VideoItem) -> list[SceneItem]:
    """The parts of scenes that a manifest asks for (RealEstate10K clips), numbered anew."""
    parts: list[SceneItem] = []
    for scene in scenes:
        for start, end in sorted(video.ranges):
            inside = _cut(scene.intervals, start, end)
            if sum((last or 0.0) - first for first, last in inside) >= MIN_PART_SECONDS:
                parts.append(replace(scene, scene_id=f"{video.video_id}_{len(parts):03d}", intervals=inside))
    return parts


def _cut(intervals: Intervals, start: float, end: float) -> Intervals:
    cut = [(max(start, first), end if last is None else min(end, last)) for first, last in intervals]
    return tuple((first, last) for first, last in cut if last > first)

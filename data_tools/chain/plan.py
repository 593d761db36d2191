"""What is to be done next with a video or a scene.

Every result has a key: a hash of its stage's settings and of what it is made from, which is known before the work is
done (the video's fingerprint, a scene's times, the keys before it). A row of the table counts when its key is the
wanted one and the folder's record is the one the row was written for; where the table knows nothing, the folder's own
record and key are asked. So changed settings of a stage redo that stage and those after it, and nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_tools.chain.folders import has_files, list_scenes, mark_of, row_of_folder
from data_tools.chain.items import SCENE_STAGES, STAGES, Call, Places, SceneItem, VideoItem, mark_file
from data_tools.chain.states import Row, Source, States
from data_tools.packaging.clouds import fingerprint
from data_tools.stages.record import StageError, read_record, text_hash
from data_tools.stages.splits import split_of

MIN_PART_SECONDS = 2.0


@dataclass(frozen=True)
class ChainSettings:
    """What decides the output.

    Attributes:
        stages: settings of each stage by name (frozen dataclasses with ``digest()``).
        split, val_share: scenes go to OUT/<split>, a share of the videos, by name, to OUT/val.
        facts: of the run, for meta.json (the backend's name).
        gpu_stages: stages that want a GPU slot.
        discard: throw away the heavy files of finished scenes.
        retry_failed: try again what failed for good.
        verify: ask every stage whether its result is current, instead of the table.
    """

    stages: Mapping[str, Any]
    split: str = "train"
    val_share: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    gpu_stages: frozenset[str] = frozenset()
    discard: bool = False
    retry_failed: bool = False
    verify: bool = False


@dataclass
class Step:
    """What is next for an item: a call, or the row it ended with; a segmented video also has its scenes."""

    call: Call | None = None
    end: Row | None = None
    scenes: list[SceneItem] = field(default_factory=list)


class Planner:
    """Finds the next call of each video and scene.

    Args:
        places: the folders.
        settings: of the chain.
        states: the table.
        run: name of this run's attempts.
        read_scenes: a segment folder to its scenes.
    """

    def __init__(
        self,
        places: Places,
        settings: ChainSettings,
        states: States,
        run: str,
        read_scenes: Callable[[Path], list[SceneItem]],
    ) -> None:
        self.places, self.settings, self.states, self.run = places, settings, states, run
        self.read_scenes = read_scenes
        self._prints: dict[str, str] = {}
        self._splits: dict[str, str] | None = None
        self._digests = {name: stage.digest() for name, stage in settings.stages.items()}

    def split(self, video: VideoItem) -> str:
        """The split of a video's scenes: where its first written one lies."""
        if self._splits is None:
            self._splits = {
                name: folder.parent.name
                for name, folders in list_scenes(self.places).items()
                for stage, folder in folders[::-1]
                if stage == "package"
            }
        kept = self._splits.get(video.video_id)
        return kept or split_of(video.video_id, self.settings.split, self.settings.val_share)

    def folder(self, stage: str, video: VideoItem, name: str) -> Path:
        """The final folder of an item."""
        return self.places.folder(stage, name, self.split(video))

    def video_step(self, video: VideoItem, done: str = "") -> Step:
        """What is next for a video, after the stage ``done`` went well in this run.

        A video whose file is missing or cannot be read ends with a row that says so.
        """
        if video.path is None and not done:
            key = text_hash("collect", video.video_id, video.url, self._digest("collect"))
            row = self._look("collect", video, "", video.video_id, key)
            if row is None or (row.status == "done" and self._lacks_file(video)):
                return Step(call=self._call("collect", video, None, key))
            if row.status != "done":
                return Step(end=row)
        source = self.source_of(video)
        try:
            if source is None:
                raise FileNotFoundError(2, "no video file in its folder")
            self._prints[video.video_id] = self._fingerprint(video, source)
        except OSError as error:
            reason = f"{source or video.video_id}: cannot be read ({error.strerror}); check the path and its rights"
            return Step(end=Row(video.video_id, "", "segment", "failed", reason))
        if done == "segment":
            return self._scenes_step(video)
        key = self._segment_key(video)
        row = self._look("segment", video, "", video.video_id, key)
        if row is None:
            return Step(call=self._call("segment", video, None, key))
        return Step(end=row) if row.status != "done" else self._scenes_step(video)

    def _scenes_step(self, video: VideoItem) -> Step:
        folder = self.folder("segment", video, video.video_id)
        scenes = self.scenes_in(folder, video)
        if scenes is None:
            reason = f"{folder}: its scenes cannot be read; delete the folder and start again"
            return Step(end=Row(video.video_id, "", "segment", "failed", reason))
        return Step(scenes=scenes)

    def scenes_in(self, folder: Path, video: VideoItem) -> list[SceneItem] | None:
        """The scenes of a segmentation that are asked for; None where they cannot be read."""
        try:
            scenes = self.read_scenes(folder)
        except (StageError, OSError, ValueError):
            return None
        return within(scenes, video) if video.ranges else scenes

    def _lacks_file(self, video: VideoItem) -> bool:
        """Whether a fetched video was deleted (for space, say) and is needed again."""
        source = self.source_of(video)
        if source is not None and source.is_file():
            return False
        step = self.video_step(video, done="collect")
        calls = [step.call, *(self.scene_step(video, scene).call for scene in step.scenes)]
        return any(call is not None and call.stage in ("segment", "reconstruct") for call in calls) or not step.scenes

    def _segment_key(self, video: VideoItem) -> str:
        labels = ""
        if video.labels is not None:
            labels = fingerprint(video.labels) if video.labels.is_file() else "missing"
        mark, digest = self._prints[video.video_id], self._digest("segment")
        return text_hash("segment", mark, video.video_id, digest, video.ranges, labels)

    def scene_step(self, video: VideoItem, scene: SceneItem) -> Step:
        """What is next for a scene: the first stage from the end that has all it needs."""
        keys = self.scene_keys(video, scene)
        todo = ""
        for stage in reversed(SCENE_STAGES):
            row = self._look(stage, video, scene.scene_id, scene.scene_id, keys[stage])
            if row is not None and (row.status != "done" or not todo):
                if row.status == "done":
                    self._forget_failures(video, scene, keys)
                return Step(end=row)
            if row is not None:
                break
            todo = stage
        return Step(call=self._call(todo, video, scene, keys[todo]))

    def _forget_failures(self, video: VideoItem, scene: SceneItem, keys: Mapping[str, str]) -> None:
        """What failed with other settings says nothing of a scene that is finished with these."""
        for stage in SCENE_STAGES:
            row = self.states.get(video.video_id, scene.scene_id, stage)
            if row is None or row.status == "done" or row.key == keys[stage]:
                continue
            if self._look(stage, video, scene.scene_id, scene.scene_id, keys[stage]) is None:
                self.states.drop([row.item])

    def after(self, stage: str, video: VideoItem, scene: SceneItem) -> Step:
        """What follows a stage of a scene that went well in this run."""
        number = SCENE_STAGES.index(stage) + 1
        if number == len(SCENE_STAGES):
            return Step()
        following = SCENE_STAGES[number]
        key = self.scene_keys(video, scene)[following]
        row = self._look(following, video, scene.scene_id, scene.scene_id, key)  # its input came back the same
        if row is None:
            return Step(call=self._call(following, video, scene, key))
        return Step(end=row) if row.status != "done" else self.after(following, video, scene)

    def scene_keys(self, video: VideoItem, scene: SceneItem) -> dict[str, str]:
        """The keys of a scene's results, by stage."""
        mark = self._prints[video.video_id]
        first = text_hash("reconstruct", mark, scene.scene_id, scene.start, scene.end, self._digest("reconstruct"))
        about = [video.url, dict(video.extra), scene.label, scene.probability, dict(self.settings.facts)]
        facts = json.dumps(about, sort_keys=True, default=str)
        second = text_hash("postprocess", first, facts, self._digest("postprocess"))
        third = text_hash("package", second, self._digest("package"), self.split(video))
        return {"reconstruct": first, "postprocess": second, "package": third}

    def source_of(self, video: VideoItem) -> Path | None:
        """The video's file: the local one, or the one that collect left."""
        if video.path is not None:
            return video.path
        folder = self.folder("collect", video, video.video_id)
        record = read_record(folder)
        name = str(record.result.get("file", "")) if record is not None else ""
        return folder / name if name else None

    def _fingerprint(self, video: VideoItem, source: Path) -> str:
        """The file's fingerprint; taken again only when its size or time changed, and of fetched files in collect."""
        record = read_record(source.parent) if video.path is None else None
        if record is not None and record.result.get("fingerprint"):
            return str(record.result["fingerprint"])
        path, stat = str(source.resolve()), os.stat(source)
        known = self.states.source(path)
        is_same = known is not None and (known.size, known.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
        if known is not None and is_same and not self.settings.verify and not source.is_dir():
            return known.fingerprint
        mark = fingerprint_of(source)
        self.states.put_source(Source(path, stat.st_size, stat.st_mtime_ns, mark, video.video_id))
        return mark

    def _digest(self, stage: str) -> str:
        return self._digests.get(stage, "")

    def _look(self, stage: str, video: VideoItem, scene: str, name: str, key: str) -> Row | None:
        """The row that settles an item, or None where there is work to do."""
        if self.settings.verify:
            return None
        folder = self.folder(stage, video, name)
        row = self.states.get(video.video_id, scene, stage)
        mark = mark_of(folder, stage)
        if row is None or row.key != key or row.mark != mark:
            row = row_of_folder(folder, stage, video.video_id, scene) if mark else None
            if row is None or row.key != key:
                return None
            row = self.states.put(row)
        if row.status == "done":
            return row if has_files(folder, stage) else None
        if row.status == "failed" and self.settings.retry_failed:
            return None
        return row if row.is_settled else None

    def _call(self, stage: str, video: VideoItem, scene: SceneItem | None, key: str) -> Call:
        name = video.video_id if scene is None else scene.scene_id
        final = self.folder(stage, video, name)
        attempts = None if STAGES[stage].in_place else self.places.attempts(stage, self.run)
        before = {"reconstruct": "segment", "postprocess": "reconstruct", "package": "postprocess"}.get(stage)
        return Call(
            stage,
            name,
            video,
            scene,
            final,
            attempts,
            None if stage == "collect" else self.source_of(video),
            self.folder(before, video, video.video_id if before == "segment" else name) if before else None,
            self.settings.stages.get(stage),
            key,
            stage in self.settings.gpu_stages,
            dict(self.settings.facts),
            (final / mark_file(stage)).is_file() and has_files(final, stage),
        )


def fingerprint_of(source: Path) -> str:
    """A file's fingerprint; of a folder of frames, the names and sizes of its files.

    Raises:
        OSError: it cannot be read.
    """
    if not source.is_dir():
        return fingerprint(source)
    return text_hash(*(f"{p.name}:{p.stat().st_size}" for p in sorted(source.iterdir()) if p.is_file()))


def within(scenes: Sequence[SceneItem], video: VideoItem) -> list[SceneItem]:
    """The parts of scenes that a manifest asks for (RealEstate10K clips), numbered anew."""
    parts = []
    for scene in scenes:
        for start, end in sorted(video.ranges):
            first, last = max(start, scene.start), min(end, scene.end if scene.end is not None else end)
            if last - first >= MIN_PART_SECONDS:
                parts.append(replace(scene, scene_id=f"{video.video_id}_{len(parts):03d}", start=first, end=last))
    return parts

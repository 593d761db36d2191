"""The run: asks the plan what is next, gives it to the executor, keeps what came of it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from data_tools.chain.folders import discard, is_ours, mark_of, publish, remove_folder, row_of_record
from data_tools.chain.items import SCENE_STAGES, Call, Outcome, SceneItem, VideoItem
from data_tools.chain.local import Executor
from data_tools.chain.plan import Planner, Step
from data_tools.chain.states import Row
from data_tools.stages.record import StageRecord

LOG = logging.getLogger("roomtours")
KILLED = "its process was killed twice, most likely for memory; use fewer frames or points, or fewer --jobs"


class Progress(Protocol):
    """Where the engine tells how far it is."""

    def add(self, items: int) -> None:
        """So many more stage runs are known to be there."""
        ...

    def step(self, row: Row, items: int = 1, is_new: bool = False) -> None:
        """So many ended, the last with this row; ``is_new``: it came about in this run."""
        ...


@dataclass
class Tally:
    """What a run did.

    Attributes:
        ran: (stage, status) to count of what this run did.
        before: videos and scenes that were settled already.
        videos, scenes: items of the plan.
        removed: stale folders that were taken away.
    """

    ran: Counter[tuple[str, str]] = field(default_factory=Counter)
    before: int = 0
    videos: int = 0
    scenes: int = 0
    removed: int = 0


class Engine:
    """Runs the chain over videos.

    Args:
        planner: what is next.
        executor: where it runs.
        progress: where to tell how far it is.
        folders: scene folders that are there, by video (`folders.list_scenes`), to find stale ones.
        is_stopped: asked between outcomes.
        grace: seconds that running calls get after a stop.
    """

    def __init__(
        self,
        planner: Planner,
        executor: Executor,
        progress: Progress,
        folders: dict[str, list[tuple[str, Path]]],
        is_stopped: Callable[[], bool] = lambda: False,
        grace: float = 20.0,
    ) -> None:
        self.planner, self.executor, self.progress, self.folders = planner, executor, progress, folders
        self.is_stopped, self.grace = is_stopped, grace
        self.tally = Tally()

    def run(self, videos: Sequence[VideoItem]) -> Tally:
        """Do what is left for all videos; returns what was done."""
        self.progress.add(len(videos))
        for video in videos:
            if self.is_stopped():
                break
            self.tally.videos += 1
            self._video(video, self.planner.video_step(video))
            for outcome in self.executor.wait(0):
                self._finish(outcome)
        while self.executor.is_busy and not self.is_stopped():
            for outcome in self.executor.wait(0.5):
                self._finish(outcome)
            self.planner.states.save_soon()
        if self.is_stopped():
            self._wind_down()
        return self.tally

    def _wind_down(self) -> None:
        """Let running calls end within the grace; what they lead to is left for the next run."""
        deadline = time.monotonic() + self.grace
        running = self.executor.drop_waiting()
        LOG.info("stopping: %d running calls get %.0f seconds", running, self.grace)
        while self.executor.is_busy and time.monotonic() < deadline:
            for outcome in self.executor.wait(0.2):
                self._finish(outcome)
            self.executor.drop_waiting()

    def _video(self, video: VideoItem, step: Step, in_run: bool = False) -> None:
        if step.call is not None:
            self.executor.submit(step.call)
            return
        if step.end is not None:
            self._end(step.end, new=in_run)
            self.progress.step(step.end, 1, in_run)
            if step.end.permanent:
                self._remove_stale(video, set())
            return
        self._remove_stale(video, {scene.scene_id for scene in step.scenes})
        row = self.planner.states.get(video.video_id, "", "segment")
        assert row is not None
        self.progress.add(len(step.scenes) * len(SCENE_STAGES))
        self.progress.step(row)
        self._end(row, new=in_run)
        for scene in step.scenes:
            self.tally.scenes += 1
            self._scene(video, scene, self.planner.scene_step(video, scene), len(SCENE_STAGES))

    def _scene(self, video: VideoItem, scene: SceneItem, step: Step, left: int, in_run: bool = False) -> None:
        """``left``: stage runs of the scene that the progress still expects."""
        if step.call is not None:
            before = left - (len(SCENE_STAGES) - SCENE_STAGES.index(step.call.stage))
            if before:
                self.progress.step(Row(video.video_id, scene.scene_id, step.call.stage, "done"), before)
            self.executor.submit(step.call)
            return
        if step.end is None:
            return
        self.progress.step(step.end, left, in_run)
        self._end(step.end, new=in_run)
        if step.end.stage == "package" and step.end.status == "done":
            self._discard(video, scene)
        elif step.end.permanent:
            self._unpublish(video, scene.scene_id)

    def _end(self, row: Row, new: bool) -> None:
        """An item's way ended with this row."""
        if not row.updated:
            self.planner.states.put(row)
        self.tally.before += not new

    def _finish(self, outcome: Outcome) -> None:
        call, row = outcome.call, self._keep(outcome)
        self.tally.ran[call.stage, "as before" if self._was_skipped(outcome) else row.status] += 1
        log = LOG.info if row.status == "done" else LOG.warning
        log("%s %s: %s in %.1f s%s", call.stage, call.name, row.status, row.seconds, row.reason and f": {row.reason}")
        if row.status != "done":
            if call.scene is None:
                self._video(call.video, Step(end=row), in_run=True)
            else:
                left = len(SCENE_STAGES) - SCENE_STAGES.index(call.stage)
                self._scene(call.video, call.scene, Step(end=row), left, in_run=True)
        elif call.scene is None:
            self._video(call.video, self.planner.video_step(call.video, done=call.stage), in_run=True)
        else:
            self._after(call, row)

    def _after(self, call: Call, row: Row) -> None:
        assert call.scene is not None
        step = self.planner.after(call.stage, call.video, call.scene)
        left = len(SCENE_STAGES) - SCENE_STAGES.index(call.stage) - 1
        self.progress.step(row)
        if call.stage == "package":
            step, left = Step(end=row), 0
        self._scene(call.video, call.scene, step, left, in_run=True)

    @staticmethod
    def _was_skipped(outcome: Outcome) -> bool:
        return outcome.record is not None and outcome.record.skipped

    def _keep(self, outcome: Outcome) -> Row:
        """Publish the attempt's folder and write the row; a full disk makes it a failure that is tried again."""
        call = outcome.call
        record = outcome.record or StageRecord(call.stage, call.name, "failed", f"{call.name}: {KILLED}")
        try:
            publish(outcome)
        except OSError as error:
            reason = f"{call.folder}: {error.strerror or error}; check space and rights, then start it again"
            record = StageRecord(call.stage, call.name, "failed", reason)
        scene = "" if call.scene is None else call.name
        row = row_of_record(record, call.video.video_id, scene, call.key, mark_of(call.folder, call.stage))
        return self.planner.states.put(replace(row, seconds=round(outcome.seconds, 3), host=outcome.host))

    def _discard(self, video: VideoItem, scene: SceneItem) -> None:
        if self.planner.settings.discard:
            discard(scene.scene_id, self.planner.places)

    def _unpublish(self, video: VideoItem, scene: str) -> None:
        """A scene that is rejected now leaves the data set, and what was made from what it was."""
        row_stages = [row.stage for row in self.planner.states.of_video(video.video_id) if row.scene == scene]
        ended = min((SCENE_STAGES.index(stage) for stage in row_stages if self._is_bad(video, scene, stage)), default=2)
        for stage, folder in self.folders.get(video.video_id, []):
            is_later = SCENE_STAGES.index(stage) > ended or stage == "package"
            if folder.name == scene and is_later and folder.is_dir() and is_ours(stage, folder):
                remove_folder(folder)
                self.tally.removed += 1
        later = [s for s in SCENE_STAGES[ended + 1 :] if s in row_stages]
        self.planner.states.drop([(video.video_id, scene, stage) for stage in later])

    def _is_bad(self, video: VideoItem, scene: str, stage: str) -> bool:
        row = self.planner.states.get(video.video_id, scene, stage)
        return row is not None and row.status != "done"

    def _remove_stale(self, video: VideoItem, scenes: set[str]) -> None:
        """Folders and rows of scenes that the video no longer has, or that lie in another split now."""
        split = self.planner.split(video)
        for stage, folder in self.folders.get(video.video_id, []):
            is_here = folder.name in scenes and (stage != "package" or folder.parent.name == split)
            if not is_here and folder.is_dir() and is_ours(stage, folder):
                LOG.info("removed %s: no longer a scene of its video", folder)
                remove_folder(folder)
                self.tally.removed += 1
        rows = self.planner.states.of_video(video.video_id)
        self.planner.states.drop([row.item for row in rows if row.scene and row.scene not in scenes])

"""The run: asks the plan what is next, gives it to the executor, keeps what came of it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from data_tools.chain.downloads import Downloads
from data_tools.chain.folders import discard, is_finished, is_ours, mark_of, publish, row_of_record
from data_tools.chain.items import SCENE_STAGES, STAGES, Call, Outcome, SceneItem, VideoItem
from data_tools.chain.local import Executor
from data_tools.chain.plan import Planner, Step
from data_tools.chain.removed import Removed
from data_tools.chain.states import Row
from data_tools.stages.record import StageRecord

LOG = logging.getLogger("roomtours")
IDLE_SECONDS = 0.2
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
        removed: folders of scenes that are no more, moved to WORK/removed.
        stopped: why the downloads stopped early; empty where they did not.
    """

    ran: Counter[tuple[str, str]] = field(default_factory=Counter)
    before: int = 0
    videos: int = 0
    scenes: int = 0
    removed: int = 0
    stopped: str = ""


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
        places, stages = planner.places, planner.settings.stages
        self.removed = Removed(places, planner.run)
        self.downloads = Downloads(places.work / STAGES["collect"].area, stages.get("collect"), executor.submit)

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
        while (self.executor.is_busy or self.downloads.is_waiting) and not self.is_stopped():
            self.downloads.start()
            if not self.executor.is_busy:
                time.sleep(IDLE_SECONDS)  # all that is left waits for the network or a rate limit
            for outcome in self.executor.wait(0.5):
                self._finish(outcome)
            self.planner.states.save_soon()
        if self.is_stopped():
            self._wind_down()
        return self.tally

    def _wind_down(self) -> None:
        """Let running calls end within the grace; what they lead to is left for the next run."""
        deadline = time.monotonic() + self.grace
        self.downloads.drop_waiting()
        running = self.executor.drop_waiting()
        LOG.info("stopping: %d running calls get %.0f seconds", running, self.grace)
        while self.executor.is_busy and time.monotonic() < deadline:
            for outcome in self.executor.wait(0.2):
                self._finish(outcome)
            self.executor.drop_waiting()

    def _video(self, video: VideoItem, step: Step, in_run: bool = False) -> None:
        if step.call is not None:
            give = self.downloads.add if step.call.stage == "collect" else self.executor.submit
            give(step.call)
            return
        if step.end is not None:
            self._end(step.end, new=in_run)
            self.progress.step(step.end, 1, in_run)
            return
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
            self._leave_other_splits(video, scene)
            self._discard(video, scene)

    def _end(self, row: Row, new: bool) -> None:
        """An item's way ended with this row."""
        if not row.updated:
            self.planner.states.put(row)
        self.tally.before += not new

    def _finish(self, outcome: Outcome) -> None:
        if outcome.call.stage == "collect" and not self._counts(outcome):
            return
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

    def _counts(self, outcome: Outcome) -> bool:
        """Whether a download's outcome counts; what does not is undone, as are the earlier ones it takes with it."""
        counts, undone = self.downloads.take(outcome.call, outcome.record)
        self.planner.states.drop([(name, "", "collect") for name in undone])
        self.tally.stopped = self.downloads.stopped
        if not counts and outcome.record is not None:
            LOG.warning("collect %s: asked again: %s", outcome.call.name, outcome.record.reason)
        self.downloads.start()
        return counts

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
            self._sweep(outcome)
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

    def _sweep(self, outcome: Outcome) -> None:
        """Move aside what a new result puts out of the data set, before the result gets its name.

        That is: scenes that a new, successful segmentation lacks, and what was made of a video or scene that is now
        rejected. A failure, a source that is gone and results of earlier runs move nothing.
        """
        call, record = outcome.call, outcome.record
        if record is None or record.skipped or record.status == "failed" or call.stage in ("collect", "package"):
            return
        is_rejected = record.status == "rejected"
        if call.scene is not None:
            if is_rejected:
                first = SCENE_STAGES.index(call.stage)
                self._remove(call.video, {call.name}, SCENE_STAGES[first:], f"now rejected: {record.reason}")
            return
        scenes = [] if is_rejected else self.planner.scenes_in(outcome.folder, call.video)
        if scenes is None:
            return  # cannot be read: the next step says so
        gone = {folder.name for _, folder in self.folders.get(call.video.video_id, [])}
        gone |= {row.scene for row in self.planner.states.of_video(call.video.video_id) if row.scene}
        reason = f"video now rejected: {record.reason}" if is_rejected else "no longer a scene of its video"
        if is_rejected and is_finished(call.folder, call.stage):
            self._move([call.folder], reason)
        self._remove(call.video, gone - {scene.scene_id for scene in scenes}, SCENE_STAGES, reason)

    def _remove(self, video: VideoItem, scenes: set[str], stages: Sequence[str], reason: str) -> None:
        """Take scenes out of the data set, and their results of these stages."""
        found = self.folders.get(video.video_id, [])
        found = [(stage, folder) for stage, folder in found if folder.name in scenes and stage in stages]
        self._move([f for stage, f in found if f.is_dir() and is_ours(stage, f)], reason)
        rows = self.planner.states.of_video(video.video_id)
        self.planner.states.drop([row.item for row in rows if row.scene in scenes and row.stage in stages])

    def _leave_other_splits(self, video: VideoItem, scene: SceneItem) -> None:
        """A scene that is packaged lies in one split: a copy in another, of other settings, goes."""
        here = self.planner.split(video)
        found = [f for stage, f in self.folders.get(video.video_id, []) if stage == "package"]
        copies = [f for f in found if f.name == scene.scene_id and f.parent.name != here and f.is_dir()]
        self._move([f for f in copies if is_ours("package", f)], f"now in {here}")

    def _move(self, folders: Sequence[Path], reason: str) -> None:
        for folder in folders:
            LOG.info("moved %s to %s: %s", folder, self.removed.area, reason)
        self.removed.take(folders, reason)
        self.tally.removed += len(folders)

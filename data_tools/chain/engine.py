"""Who carries out the chain: takes calls from the flows, gives them to the executor, keeps what came of them."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_tools.chain.build import EndedError, Steps
from data_tools.chain.copies import Copies
from data_tools.chain.downloads import Downloads
from data_tools.chain.folders import (
    is_finished,
    list_scenes,
    mark_of,
    publish,
    remove_folder,
    row_of_record,
    scene_folders,
)
from data_tools.chain.items import FRAMES, SCENE_STAGES, STAGES, Call, Outcome, SceneItem, VideoItem
from data_tools.chain.journal import END, Item, Row
from data_tools.chain.local import Executor
from data_tools.chain.plan import Planner
from data_tools.chain.progress import Bar
from data_tools.chain.removed import Removed
from data_tools.chain.rooms import Rooms
from data_tools.chain.trouble import ALIKE, Breaker
from data_tools.chain.turns import After, Flow, Turns, Waiting
from data_tools.stages.record import DISK, FULL_ERRNO, StageRecord, read_record

RUN = "run"
IDLE_SECONDS = 0.2
WINDOW = 2000  # calls that wait for a worker while more videos are looked at
AT_ONCE = 100  # videos that are looked at between two looks at the workers
KILLED = "its process was killed twice, most likely for memory; use fewer frames or points, or fewer --jobs"


@dataclass
class Tally:
    """What a run did.

    Attributes:
        ran: (stage, status) to count of what this run did.
        before: videos and scenes that were settled already.
        videos: of the plan.
        scenes: that are known of them.
        failed: what the way of a video or scene ended with, where that is a failure.
        removed: folders of scenes that are no more, moved to WORK/removed.
        stopped: why something stopped early: the downloads, a stage, the run (a full disk).
    """

    ran: Counter[tuple[str, str]] = field(default_factory=Counter)
    before: int = 0
    videos: int = 0
    scenes: int = 0
    failed: set[Item] = field(default_factory=set)
    removed: int = 0
    stopped: dict[str, str] = field(default_factory=dict)


class Engine(Steps):
    """Carries out the chain.

    Args:
        planner: what is next.
        executor: where it runs.
        bar: where to tell how far it is.
        is_stopped: asked between outcomes.
        grace: seconds that running calls get after a stop.
        alike: so many equal failures in a row stop a stage; 0 for never.
        copies: knows near-duplicates; None leaves none out.
    """

    def __init__(
        self,
        planner: Planner,
        executor: Executor,
        bar: Bar,
        is_stopped: Callable[[], bool] = lambda: False,
        grace: float = 20.0,
        alike: int = ALIKE,
        copies: Copies | None = None,
    ) -> None:
        super().__init__(planner, copies)
        self.executor, self.bar, self.grace = executor, bar, grace
        self.is_stopped = lambda: is_stopped() or RUN in self.tally.stopped
        self.breaker = Breaker(alike)
        self.journal, self.places = planner.journal, planner.places
        self.tally = Tally()
        self.removed = Removed(self.places, planner.run)
        videos, settings = self.places.work / STAGES["collect"].area, planner.settings.stages.stages.get("collect")
        self.downloads = Downloads(videos, settings, executor.submit)
        self.downloads.patience.remember(self._unended_answers())
        self.rooms = Rooms(lambda: executor.rooms, self._give)
        self._flows: dict[Item, list[Flow]] = {}  # those that wait for a call
        self._whose: dict[Flow, tuple[str, After]] = {}  # the video, and what waits for its end wait for
        self.turns = Turns()
        self._tour: Callable[[VideoItem], Flow] | None = None
        self._scenes: dict[str, set[str]] | None = None

    def carry_out(self, tour: Callable[[VideoItem], Flow], videos: Sequence[VideoItem]) -> None:
        """Begin the tour of every video as workers have time, and see all flows through, or until it is stopped."""
        self._tour, left = tour, iter(videos)
        self.bar.begin(videos)
        is_planned = False
        while not self.is_stopped():
            if not is_planned and not self._has_enough:
                is_planned = self._begin_some(left)
            self.downloads.start()
            is_busy = self.executor.is_busy
            if is_planned and not is_busy:
                if self._resume(self.turns.end_tours()):
                    continue
                if not self.downloads.is_waiting:
                    break
                time.sleep(IDLE_SECONDS)  # all that is left waits for the network or a rate limit
            self._take(0.5 if is_planned or self._has_enough else 0)
        if self.is_stopped():
            self._wind_down()
        if self.tally.ran:
            self.journal.note(END)

    @property
    def _has_enough(self) -> bool:
        """Whether so much waits for a worker that no more videos need a look."""
        return self.executor.is_busy and self.executor.waiting + self.rooms.waiting >= WINDOW

    def _unended_answers(self) -> list[StageRecord]:
        """The last downloads of a run that was killed, oldest first."""
        rows = [row for row in self.journal.rows.values() if row.stage == "collect" and row.time > self.journal.ended]
        last = sorted(rows, key=lambda row: row.time)[-self.downloads.patience.settings.alike :]
        records = (read_record(self.places.refused("collect", row.name)) for row in last)
        return [record for record in records if record is not None]

    def _begin_some(self, left: Iterator[VideoItem]) -> bool:
        """Look at some more videos; returns whether there are none left."""
        assert self._tour is not None
        for _ in range(AT_ONCE):
            video = next(left, None)
            if video is None:
                return True
            self.tally.videos += 1
            self.journal.put_origin(video.video_id, video.origin)
            self.begin(self._tour(video), video)
        self.journal.save()
        return False

    def _take(self, seconds: float) -> None:
        for outcome in self.executor.wait(seconds):
            self._finish(outcome)
        self.journal.save()

    def _wind_down(self) -> None:
        """Let running calls end within the grace; what they lead to is left for the next run."""
        deadline = time.monotonic() + self.grace
        self.downloads.drop_waiting()
        self.rooms.drop_waiting()
        self.executor.drop_waiting()
        while self.executor.is_busy and time.monotonic() < deadline:
            self._take(0.2)
            self.executor.drop_waiting()

    def begin(self, flow: Flow, video: VideoItem, scene: SceneItem | None = None) -> None:
        """Start the flow of a video or of one of its scenes: go to its first call."""
        if scene is not None:
            self.tally.scenes += 1
            self.bar.scene(video.video_id)
        who = After(video.video_id) if scene is None else After(scene.scene_id, is_scene=True)
        self._whose[flow] = video.video_id, who
        self.turns.begin(who)
        self._resume([(flow, None)])

    def _resume(self, flows: list[Waiting]) -> bool:
        """Go on with flows, and with those that waited for their end; returns whether there were any."""
        for flow, row in flows:  # it grows
            flows += self._advance(flow, row)
        return bool(flows)

    def _advance(self, flow: Flow, row: Row | None) -> list[Waiting]:
        """Go on to the next call of a flow, after the row that came of the one before; returns who waited for it."""
        end: Row | None
        try:
            call = flow.send(row)  # type: ignore[arg-type]  # None starts it
            while isinstance(call, After):
                if self.turns.wait(call, flow, row):
                    return []
                call = flow.send(row)  # type: ignore[arg-type]
        except StopIteration:
            end = None  # the flow came to its end
        except EndedError as error:
            end = self._noted(error.row)
            if end.status == "failed":
                self.tally.failed.add(end.item)
        else:
            self._flows.setdefault(call.item, []).append(flow)
            if len(self._flows[call.item]) == 1:
                self._submit(call)
            return []
        video, who = self._whose.pop(flow)
        self.tally.before += row is None
        self.bar.end(video, who.is_scene, end, is_new=row is not None)
        return self.turns.end(who)

    def _submit(self, call: Call) -> None:
        if call.stage == "collect":
            self.downloads.add(call)
        elif call.scene is not None:
            self.rooms.add(call)
        else:
            self._give(call)

    def _give(self, call: Call) -> bool:
        """To the executor; calls of a stage that has stopped are left for the next run."""
        is_stopped = call.part_of in self.breaker.stopped
        if not is_stopped:
            self.executor.submit(call)
        return not is_stopped

    def _noted(self, row: Row) -> Row:
        """A row that no call led to (a file that cannot be read) goes into the log too."""
        if self.journal.get(*row.item) is row:
            return row
        return self.journal.put(replace(row, mark=mark_of(self.places.refused(*row.item))))

    def _finish(self, outcome: Outcome) -> None:
        """Keep what came of a call and let its flow go on."""
        call = outcome.call
        if not outcome.is_last:
            self.journal.note("killed", stage=call.stage, name=call.name, seconds=round(outcome.seconds, 3))
            self.rooms.end(call.name)  # it is tried again when nothing else runs
            self._pass(call)
            return
        if call.stage == "collect" and not self._counts(outcome):
            self._pass(call)
            return
        if call.stage == FRAMES:
            self.journal.note(FRAMES, name=call.name, seconds=round(outcome.seconds, 3))
            self._go_on(call, None)
            return
        row = self._keep(outcome)
        if row is None:
            return
        if call.frames is not None:
            with suppress(OSError):
                call.frames.unlink()
        is_as_before = outcome.record is not None and outcome.record.skipped
        self.tally.ran[call.stage, "as before" if is_as_before else row.status] += 1
        flows = self._go_on(call, row)
        if call.stage != "collect":
            self._break(row)
        if not flows and self._tour is not None:  # a download that was asked again after its flow had ended
            self.begin(self._tour(call.video), call.video)

    def _go_on(self, call: Call, row: Row | None) -> list[Flow]:
        """Let the flows go on that wait for a call."""
        flows = self._flows.pop(call.item, [])
        self._resume([(flow, row) for flow in flows])
        self._let_others_in(call.name)
        return flows

    def _pass(self, call: Call) -> None:
        """A video that may take long is not waited for."""
        if call.scene is None:
            self._resume(self.turns.end(After(call.name)))

    def _let_others_in(self, scene: str) -> None:
        """Where a scene is no longer under way; one whose cloud waits is, even if post-processing has stopped."""
        stages = ["postprocess"] if "reconstruct" in self.breaker.stopped else [FRAMES, *SCENE_STAGES]
        if not any((stage, scene) in self._flows for stage in stages):
            self.rooms.end(scene)

    def _counts(self, outcome: Outcome) -> bool:
        """Whether a download's outcome counts; what does not is undone, as are the earlier ones it takes with it."""
        counts, undone = self.downloads.take(outcome.call, outcome.record)
        for name in {*undone, *([] if counts else [outcome.call.name])}:
            self._undo(("collect", name))
        if outcome.record is not None and outcome.record.result.get("failure") == DISK:
            self.tally.stopped[RUN] = f"{self.places.work}: the disk is full; make room, then start it again"
        if self.downloads.stopped:
            self.tally.stopped["downloads"] = self.downloads.stopped
        if not counts and outcome.record is not None:
            self.journal.note("asked again", name=outcome.call.name, reason=outcome.record.reason)
        self.downloads.start()
        return counts

    def _break(self, row: Row) -> None:
        """Stop a stage that fails in one way again and again; those failures say nothing of the items."""
        undone = self.breaker.tell(row)
        for item in undone:
            self._undo(item)
        if undone and row.stage not in self.tally.stopped:
            self.tally.stopped[row.stage] = self.breaker.stopped[row.stage]
            self.executor.drop_waiting(row.stage)
            for scene in list(self.rooms.inside):
                self._let_others_in(scene)

    def _undo(self, item: Item) -> None:
        """A failure that says nothing of the item leaves nothing; the ledger of tries and the log tell of it."""
        folder = self.places.refused(*item)
        record = read_record(folder)
        if record is not None and record.status == "failed":
            remove_folder(folder)
        self.journal.drop([item])
        if item in self.tally.failed:
            self.tally.failed.remove(item)
            self.tally.ran[item[0], "failed"] -= 1

    def _keep(self, outcome: Outcome) -> Row | None:
        """Publish the attempt's folder and note the outcome; a full disk stops the run and counts for nothing: None."""
        call = outcome.call
        record = outcome.record or StageRecord(call.stage, call.name, "failed", f"{call.name}: {KILLED}")
        place = self.places.refused(call.stage, call.name)
        try:
            if record.result.get("failure") == DISK:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._sweep(outcome)
            place = publish(outcome, self.places)
        except OSError as error:
            if error.errno in FULL_ERRNO:
                self.tally.stopped[RUN] = f"{call.stage} {call.name}: {error.strerror}; make room, then start it again"
                return None
            reason = f"{call.folder}: {error.strerror or error}; check space and rights, then start it again"
            record = StageRecord(call.stage, call.name, "failed", reason)
        row = row_of_record(record, call.name, call.video.video_id, mark_of(place))
        is_passing = call.stage == "reconstruct" and not (self.planner.settings.keep_clouds or record.skipped)
        row = replace(row, key=call.key, seconds=round(outcome.seconds, 3), host=outcome.host, passing=is_passing)
        return self.journal.put(row)

    def _sweep(self, outcome: Outcome) -> None:
        """Move aside what a new result puts out of the data set, before the result gets its name.

        That is: scenes that a new, successful segmentation lacks, and what was made of a video or scene that is now
        rejected. A failure, a source that is gone and results of earlier runs move nothing.
        """
        call, record = outcome.call, outcome.record
        if record is None or record.skipped or record.status == "failed" or call.stage == "collect":
            return
        is_rejected = record.status == "rejected"
        if call.scene is not None:
            if is_rejected:
                first = SCENE_STAGES.index(call.stage)
                self._remove({call.name}, SCENE_STAGES[first:], f"now rejected: {record.reason}")
            return
        scenes = [] if is_rejected else self.planner.scenes_in(outcome.folder, call.video)
        if scenes is None:
            return  # cannot be read: the next step says so
        if self._scenes is None:
            self._scenes = list_scenes(self.places)
        gone = self._scenes.get(call.video.video_id, set()) - {scene.scene_id for scene in scenes}
        reason = f"video now rejected: {record.reason}" if is_rejected else "no longer a scene of its video"
        if is_rejected and is_finished(call.folder):
            self._move([call.folder], reason)
        self._remove(gone, SCENE_STAGES, reason)

    def _remove(self, scenes: set[str], stages: Sequence[str], reason: str) -> None:
        """Take scenes out of the data set, and their results of these stages."""
        for stage in stages:
            self._move([f for scene in sorted(scenes) for f in scene_folders(self.places, stage, scene)], reason)
            self.journal.drop([(stage, scene) for scene in scenes])

    def _move(self, folders: Sequence[Path], reason: str) -> None:
        self.removed.take(folders, reason)
        if folders:
            self.journal.note("removed", reason=reason, folders=[str(f) for f in folders])
        self.tally.removed += len(folders)

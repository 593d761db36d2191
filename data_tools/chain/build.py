"""The chain as its diagram, and the steps it is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from data_tools.chain.copies import Copies
from data_tools.chain.folders import discard
from data_tools.chain.items import COPY_OF, SCENE_STAGES, STAGES, Call, SceneItem, Source, VideoItem
from data_tools.chain.journal import Row
from data_tools.chain.plan import Planner
from data_tools.chain.turns import After, Flow
from data_tools.reporting.model import ReportSettings

CLOUD, FRAMES = STAGES["reconstruct"].needs, "frames"
PAGES = ReportSettings().pages or 0


class EndedError(Exception):
    """The way of a video or scene ends before its last stage; the row says why."""

    def __init__(self, row: Row) -> None:
        super().__init__(row.reason)
        self.row = row


def build(run: Steps, videos: Sequence[VideoItem], report: Callable[[], None] = lambda: None) -> None:
    """Videos to scenes: collect, segment, reconstruct, postprocess, report.

    Each ``yield from`` waits for a worker while the other videos and scenes go on; what is done costs a look.

    Args:
        run: the steps, and who carries them out.
        videos: to do.
        report: the last stage, once over all scenes.
    """

    before = run.order(videos)

    def tour(video: VideoItem) -> Flow:
        source = yield from run.collect(video)
        scenes = yield from run.segment(video, source)
        yield from run.in_turn(video.video_id, before)
        for scene in scenes:
            run.begin(room(video, source, scene), video, scene)

    def room(video: VideoItem, source: Source, scene: SceneItem) -> Flow:
        if not run.is_finished(video, source, scene):  # a finished scene needs no inputs
            yield from run.unless_copy(video, source, scene)
            yield from run.reconstruct(video, source, scene)
            yield from run.postprocess(video, source, scene)
        run.leave(scene)

    run.carry_out(tour, videos)
    report()


class Steps:
    """The stages as steps of a flow: what is done is passed over, what is not becomes a call.

    Args:
        planner: knows what is done, and makes the calls.
        copies: knows near-duplicates; None leaves none out.
    """

    def __init__(self, planner: Planner, copies: Copies | None = None) -> None:
        self.planner, self.copies = planner, copies
        self.left = 0  # scenes settled so far
        self._passed: set[str] = set()  # videos for which all earlier ones were waited for

    def begin(self, flow: Flow, video: VideoItem, scene: SceneItem | None = None) -> None:
        """Start the flow of a video or of one of its scenes: go to its first call."""
        raise NotImplementedError

    def carry_out(self, tour: Callable[[VideoItem], Flow], videos: Sequence[VideoItem]) -> None:
        """Begin the tour of every video, and see all flows through."""
        raise NotImplementedError

    def collect(self, video: VideoItem) -> Generator[Call | After, Row, Source]:
        """The video's file: fetched where it has an address only."""
        if video.path is None:
            yield from self._step("collect", video)
        return self._source(video)

    def segment(self, video: VideoItem, source: Source) -> Generator[Call | After, Row, list[SceneItem]]:
        """The video's scenes."""
        yield from self._step("segment", video, source)
        folder = self.planner.folder("segment", video)
        scenes = self.planner.scenes_in(folder, video)
        if scenes is None:
            reason = f"{folder}: its scenes cannot be read; delete the folder and start again"
            raise EndedError(Row("segment", video.video_id, video.video_id, "failed", reason))
        return scenes

    def order(self, videos: Sequence[VideoItem]) -> dict[str, str]:
        """The video before each, where it is waited for (`in_turn`)."""
        return {b.video_id: a.video_id for a, b in pairwise(videos)} if self.copies is not None else {}

    def in_turn(self, video: str, before: Mapping[str, str]) -> Flow:
        """Let the scenes of all earlier videos be known first: the first of two copies is made, whoever is quicker.

        One that fails or has no room waits for nobody, so who waits for it then waits for the one before that.
        """
        earlier = before.get(video)
        while earlier is not None and earlier not in self._passed:
            yield After(earlier)
            if earlier not in self._passed:
                earlier = before.get(earlier)
        self._passed.add(video)

    def unless_copy(self, video: VideoItem, source: Source, scene: SceneItem) -> Flow:
        """End here where a scene shows what one shows that was taken before; one under way is waited for.

        What is in the data set, with whatever settings, stays; parts that a list asks for are not compared.
        """
        copies, planner, name = self.copies, self.planner, scene.scene_id
        if copies is None or video.ranges or planner.has_scene(name):
            return
        settled = [planner.look(stage, video, source, scene) for stage in SCENE_STAGES]
        while not any(settled) and (found := copies.find(name)) is not None:
            original, alike = found
            yield After(original, is_scene=True)
            if planner.has_scene(original):
                call = planner.call("reconstruct", video, source, scene)
                split = planner.scene_folder(original).parent.name
                facts = {COPY_OF: original, "split": split, "alike": alike, "copies": planner.settings.copies}
                raise EndedError((yield replace(call, original=facts, gpu=False, frames=None)))
            copies.drop(original)
        if all(row is None or row.status == "done" for row in settled):
            copies.take(name)

    def is_finished(self, video: VideoItem, source: Source, scene: SceneItem) -> bool:
        """Whether a scene lies in the data set as it should."""
        row = self.planner.look("postprocess", video, source, scene)
        if row is None or row.status != "done":
            return False
        self.planner.forget_failures(video, source, scene)
        return True

    def reconstruct(self, video: VideoItem, source: Source, scene: SceneItem) -> Flow:
        """The scene's frames to a cloud; where a GPU does it, they are decoded in a CPU slot before."""
        last = self.planner.look("postprocess", video, source, scene)
        if last is None:  # else it is rejected for good: its cloud may be gone
            yield from self._step("reconstruct", video, source, scene)

    def postprocess(self, video: VideoItem, source: Source, scene: SceneItem) -> Flow:
        """The cloud to a scene folder of the data set."""
        try:
            yield from self._step("postprocess", video, source, scene)
        except EndedError as error:
            if error.row.status == "rejected":
                self.leave(scene, is_finished=False)
            raise

    def leave(self, scene: SceneItem, is_finished: bool = True) -> None:
        """What happens to the work of a settled scene, where it was not made to be kept.

        The cloud of a finished one goes. Of scenes beyond those that the report has pages of, the frames go too, and
        the clouds of rejected ones.
        """
        self.left += 1
        row = self.planner.journal.get("reconstruct", scene.scene_id)
        if row is None or not row.passing:
            return
        if self.planner.settings.keep_clouds:  # from here on it is one that was kept
            self.planner.journal.amend(replace(row, passing=False))
            return
        has_page = self.left <= PAGES
        names = ([] if has_page else [FRAMES]) + ([CLOUD] if is_finished or not has_page else [])
        discard(scene.scene_id, self.planner.places, names)

    def _source(self, video: VideoItem) -> Source:
        try:
            return self.planner.source(video)
        except OSError as error:
            reason = f"{error.filename or video.path}: cannot be read ({error.strerror}); check the path and its rights"
            raise EndedError(Row("segment", video.video_id, video.video_id, "failed", reason)) from None

    def _step(self, stage: str, video: VideoItem, source: Source | None = None, scene: SceneItem | None = None) -> Flow:
        row = self.planner.look(stage, video, source, scene)
        if row is None:
            if stage in ("segment", "reconstruct") and source is not None and not source.path.exists():
                source = yield from self._fetch_again(video, source)
            call = self.planner.call(stage, video, source, scene)
            if call.frames is not None:
                yield call.ahead()  # what goes wrong there is done, and told, by the stage itself
            row = yield call
        if row.status != "done":
            raise EndedError(row)

    def _fetch_again(self, video: VideoItem, source: Source) -> Generator[Call | After, Row, Source]:
        """A fetched video was deleted (for space, say) and is needed again."""
        if video.path is not None:
            return source  # the stage says what is wrong with the path
        row = yield self.planner.call("collect", video)
        if row.status != "done":
            raise EndedError(row)
        return self._source(video)


class DryRun(Steps):
    """Counts what a run would do now, by stage; scenes of videos that are not yet segmented are not known."""

    def __init__(self, planner: Planner) -> None:
        super().__init__(planner)
        self.counts: Counter[str] = Counter(settled=0)

    def carry_out(self, tour: Callable[[VideoItem], Flow], videos: Sequence[VideoItem]) -> None:
        """Look at every video."""
        for video in videos:
            self.begin(tour(video), video)

    def begin(self, flow: Flow, video: VideoItem, scene: SceneItem | None = None) -> None:
        """Count the call that a flow comes to, and what follows it."""
        try:
            call = next(flow)
        except (StopIteration, EndedError):
            self.counts["settled"] += scene is not None
            return
        assert isinstance(call, Call)  # without copies, nothing waits
        stage = call.part_of
        following = SCENE_STAGES[SCENE_STAGES.index(stage) :] if call.scene is not None else [stage]
        self.counts.update(following)

    def leave(self, scene: SceneItem, is_finished: bool = True) -> None:
        """Nothing is thrown away."""

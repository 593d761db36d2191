"""Scenes overlap: a GPU never waits for frames, raw clouds never pile up. Fake stages, a clock that does not sleep."""

import heapq
import itertools
from dataclasses import replace

import numpy as np
import pytest

from data_tools.chain import engine, run, stages
from data_tools.chain.items import Call, Places, SceneItem, VideoItem
from data_tools.chain.plan import ChainSettings
from data_tools.chain.recorded import Settings
from data_tools.chain.run import RunOptions, run_chain
from data_tools.chain.sources import read_videos
from data_tools.chain.worker import execute
from data_tools.reconstruction.base import ReconstructSettings
from data_tools.reconstruction.frames import frames_for
from data_tools.stages.record import StageError
from data_tools.video.sampling import write_video
from tests.data_tools.chain.chain_fakes import CALLS, FAKES, fake_settings
from tests.data_tools.chain.chain_run import make_videos


class Clocked:
    """One GPU and two CPU workers whose calls take the seconds given, on a clock of its own."""

    rooms = 2 * 1 + 2

    def __init__(self, seconds, functions=FAKES.functions):
        self.functions = functions
        self.seconds, self.stopped, self.now, self.count = seconds, {}, 0.0, itertools.count()
        self.free, self.queues, self.running = {"cpu": 2, "gpu": 1}, {"cpu": [], "gpu": []}, []
        self.spans = []  # (stage, scene, submitted, begun, ended)

    @property
    def is_busy(self):
        return bool(self.running or self.waiting)

    @property
    def waiting(self):
        return sum(map(len, self.queues.values()))

    def submit(self, call):
        heapq.heappush(self.queues[call.kind], (call.priority, next(self.count), self.now, call))

    def wait(self, seconds):
        for kind, queue in self.queues.items():
            while queue and self.free[kind]:
                _, _, asked, call = heapq.heappop(queue)
                self.free[kind] -= 1
                end = self.now + self.seconds.get(call.stage, 0.0)
                heapq.heappush(self.running, (end, next(self.count), kind, call))
                self.spans.append((call.stage, call.name, asked, self.now, end))
        if not self.running:
            return []
        self.now, _, kind, call = heapq.heappop(self.running)
        self.free[kind] += 1
        return [execute(self.functions, call)]

    def drop_waiting(self, stage=""):
        pass

    def close(self):
        pass


def overlap(tmp_path, monkeypatch, *texts, functions=FAKES.functions, **seconds):
    """The chain over fake videos; returns spans (submitted, begun, ended) by stage and scene, and the data set."""
    executor = Clocked(seconds, functions)
    (tmp_path / "calls").mkdir()
    monkeypatch.setenv(CALLS, str(tmp_path / "calls"))
    monkeypatch.setattr(run, "build_executor", lambda options, places, functions: executor)
    videos, _ = read_videos([str(make_videos(tmp_path / "videos", **dict(zip("abcdefgh", texts, strict=False))))])
    out = tmp_path / "out"
    settings = ChainSettings(Settings.of(fake_settings()), gpu_stages=frozenset({"reconstruct"}))
    options = RunOptions(report=False, quiet=True, alike=3)
    code = run_chain(videos, Places(out, out / "_work"), settings, options, FAKES)
    assert not (out / "_work/.attempts").exists()
    return {(stage, name): tuple(times) for stage, name, *times in executor.spans}, out, code


def ahead(tmp_path):
    """Scenes whose reconstruction found its frames."""
    return {path.name.split("~")[1] for path in (tmp_path / "calls").glob("ahead~*")}


def test_frames_decoded_ahead_are_those_that_the_stage_would_decode(tmp_path):
    video = tmp_path / "v.mp4"
    write_video(video, [np.full((48, 64, 3), 8 * i, np.uint8) for i in range(30)], fps=10)
    settings = ReconstructSettings(backend="pi3", min_frames=5, max_frames=5)
    scene, folder = SceneItem("v_001", ((0.0, 1.0), (2.0, 3.0))), tmp_path / "clouds/v_001"
    frames = tmp_path / "attempts/frames/v_001.pickle"
    call = Call("reconstruct", "v_001", VideoItem("v"), scene, folder, tmp_path, video, None, settings, "key", True)
    ahead = replace(call, frames=frames).ahead()
    assert (ahead.kind, call.kind) == ("cpu", "gpu")
    assert execute(stages.FUNCTIONS, ahead).record.status == "done"
    found, plain = stages._read_frames(frames), frames_for(video, scene.intervals, settings)
    assert np.array_equal(found.frames.images, plain.frames.images)
    assert np.array_equal(found.frames.time, plain.frames.time)
    assert (found.size, found.seen, found.notes) == (plain.size, plain.seen, plain.notes)
    assert not folder.exists()


def at_once(begins, ends):
    """The most that were there at a time."""
    events = sorted([(time, 1) for time in begins] + [(time, -1) for time in ends])
    return max(itertools.accumulate(step for _, step in events))


def test_the_gpu_has_the_next_scenes_frames_while_the_last_cloud_is_cleaned(tmp_path, monkeypatch):
    spans, out, code = overlap(tmp_path, monkeypatch, "room 8 1", frames=4, reconstruct=5, postprocess=3)
    assert code == 0
    assert len(list((out / "train").iterdir())) == 8
    assert ahead(tmp_path) == {f"a_{scene:03d}" for scene in range(8)}
    gpu = sorted(times for (stage, _), times in spans.items() if stage == "reconstruct")
    assert [begun for _, begun, _ in gpu[1:]] == [ended for *_, ended in gpu[:-1]]  # it never waits
    for scene in range(1, 7):
        _, begun, ended = spans["reconstruct", f"a_{scene:03d}"]
        assert spans["frames", f"a_{scene + 1:03d}"][2] <= ended  # the next is ready
        assert begun <= spans["postprocess", f"a_{scene - 1:03d}"][1] < ended  # the last is cleaned


@pytest.mark.parametrize("slow", ["frames", "reconstruct", "postprocess"])
def test_whatever_is_slow_frames_and_clouds_do_not_pile_up(tmp_path, monkeypatch, slow):
    seconds = {"frames": 1, "reconstruct": 1, "postprocess": 1} | {slow: 20}
    spans, out, _ = overlap(tmp_path, monkeypatch, "room 12 1", **seconds)
    assert len(list((out / "train").iterdir())) == 12

    def times(stage, place):
        return [found[place] for (name, _), found in spans.items() if name == stage]

    assert at_once(times("frames", 1), times("postprocess", 2)) <= Clocked.rooms  # under way
    assert at_once(times("reconstruct", 2), times("postprocess", 2)) <= Clocked.rooms - (slow != "postprocess")
    waits = [(asked, begun) for (stage, _), (asked, begun, _) in spans.items() if stage == "postprocess"]
    begins = times("frames", 1)  # post-processing goes first
    assert not any(asked < begin < begun for asked, begun in waits for begin in begins)


def test_frames_that_could_not_be_decoded_ahead_are_the_stages_own_business(tmp_path, monkeypatch):
    _, out, code = overlap(tmp_path, monkeypatch, "room 3 1 no-frames:1 bug:2")
    assert ahead(tmp_path) == {"a_000", "a_002"}
    assert sorted(path.name for path in (out / "train").iterdir()) == ["a_000", "a_001"]
    assert code == 1  # a_002 failed by itself


@pytest.mark.parametrize(("broken", "clouds"), [("reconstruct", 0), ("postprocess", 3 + 1 + Clocked.rooms)])
def test_a_stage_that_stops_ends_the_run_and_clouds_do_not_pile_up_for_it(tmp_path, monkeypatch, broken, clouds):
    def fail(call):
        raise StageError("the library is broken", permanent=False)

    monkeypatch.setattr(engine, "WINDOW", 4)
    texts = [f"room 4 {number}" for number in range(8)]
    spans, out, code = overlap(tmp_path, monkeypatch, *texts, functions={**FAKES.functions, broken: fail})
    assert code == 1
    assert sum(stage == "segment" for stage, _ in spans) == 8
    assert len(list((out / "_work/clouds").glob("*/cloud.ply"))) <= clouds  # of 32

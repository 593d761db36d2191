"""The chain's own stages over real video files, good and faulty; only the reconstruction is a made-up room."""

import json

import numpy as np
import pytest

from data_tools.chain import run, stages
from data_tools.chain.items import Places
from data_tools.chain.options import usual_settings, with_changes
from data_tools.chain.plan import ChainSettings
from data_tools.chain.recorded import Settings, settle
from data_tools.chain.run import RunOptions, StageTable, run_chain
from data_tools.chain.sources import read_videos
from data_tools.clouds.io import Cloud, write_ply
from data_tools.packaging.clouds import fingerprint
from data_tools.stages.record import run_stage, text_hash
from data_tools.video.sampling import sample_raw
from tests.data_tools.chain.chain_run import InProcess, states, tree
from tests.data_tools.video import videos
from tests.rooms import box_room


def box_cloud(seed):
    """A box room turned and scaled as a reconstruction is."""
    room = box_room(20_000, (4.0, 5.0, 2.6), seed)
    turn = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)  # cameras' y is down
    return Cloud(room.coord @ turn.T / 3, room.color, room.normal @ turn.T)


def reconstruct(call):
    """A box room for every scene whose frames can be read."""

    def work(folder, record):
        ((start, end),) = call.scene.intervals
        frames = list(sample_raw(call.source, 1.0, start, end))
        assert frames
        write_ply(folder / "cloud.ply", box_cloud(len(call.name)))
        record.result = {"frames": len(frames)}

    inputs = text_hash(fingerprint(call.source), call.scene.intervals)
    return run_stage("reconstruct", call.folder, call.settings.digest(), inputs, work)


FUNCTIONS = {**stages.FUNCTIONS, "reconstruct": reconstruct}


def noise(seed):
    """Points anywhere."""
    rng = np.random.default_rng(seed)
    coord, color = rng.random((20_000, 3), np.float32) * 4, rng.integers(0, 255, (20_000, 3), np.uint8)
    return Cloud(coord, color, np.tile(np.float32([0, 0, 1]), (20_000, 1)))


def asked_settings(labels):
    return with_changes(usual_settings("sfm", str(labels)), ["postprocess.preview=false"])


def run_stages(monkeypatch, inputs, labels, out, **more):
    monkeypatch.setattr(run, "build_executor", lambda options, places, functions: InProcess(functions))
    found, _ = read_videos([str(inputs)], str(labels))
    settings = ChainSettings(Settings.of(asked_settings(labels)), facts={"backend": "sfm"}, **more)
    table = StageTable(FUNCTIONS, stages.read_scenes)
    return run_chain(found, Places(out, out / "_work"), settings, RunOptions(quiet=True), table)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with every kind of file, and labels for each."""
    folder = tmp_path_factory.mktemp("files")
    videos.write_tour(folder / "good.mp4", [(1, 13.0), (2, 13.0)])
    videos.write_truncated(folder / "truncated.mp4", seconds=4)
    videos.write_truncated(folder / "cut short.mkv", seconds=18, keep=0.75)
    videos.write_audio_only(folder / "audio.mp4")
    videos.write_empty(folder / "empty.mp4")
    videos.write_one_frame(folder / "one.mp4")
    videos.write_variable_rate(folder / "variable.mp4")
    videos.write_4k(folder / "large.mp4")
    videos.write_rotated(folder / "rotated.mp4")
    videos.write_no_room(folder / "meadow.mp4")
    (folder.parent / "labels").mkdir(exist_ok=True)
    for file in folder.iterdir():
        label = "outdoor" if file.stem == "meadow" else "living room"
        (folder.parent / "labels" / f"{file.stem}.csv").write_text(f"time,label\n0,{label}\n60,{label}\n")
    return folder


def test_every_faulty_file_is_recorded_and_the_others_finish(files, tmp_path, monkeypatch, capsys):
    out, labels = tmp_path / "out", files.parent / "labels"
    assert run_stages(monkeypatch, files, labels, out) == 1
    rows = states(out)
    failed = {name: rows[name, "segment"] for name in ("truncated", "audio", "empty")}
    assert all(row.status == "failed" and row.permanent and row.reason for row in failed.values())
    assert rows["one", "segment"].status in ("failed", "rejected")
    assert rows["meadow", "segment"].status == "rejected"
    for name in ("good", "cut short", "variable", "large", "rotated"):
        assert rows[name, "segment"].status == "done", rows[name, "segment"].reason
    done = {path.name.rpartition("_")[0] for path in (out / "train").iterdir()}
    assert done == {"good", "cut short", "variable", "large", "rotated"}
    meta = json.loads((out / "train/good_001/meta.json").read_text())
    assert meta["video"] == "good"
    assert meta["label"] == "living room"
    assert str(tmp_path) not in (out / "train/good_001/meta.json").read_text()
    text, bars = capsys.readouterr()
    assert "why not:" in text
    assert "thumbnails" not in bars  # quiet, the report too
    assert (out / "report/index.html").is_file()
    assert run_stages(monkeypatch, files, labels, out) == 1
    assert "nothing to do" in capsys.readouterr().out
    again = tmp_path / "elsewhere"
    assert run_stages(monkeypatch, files / "good.mp4", labels, again) == 0
    for area in ("train", "_work/segments", "_work/clouds"):
        assert tree(again / area).items() <= tree(out / area).items()


@pytest.mark.parametrize("is_alone", [True, False])
def test_the_only_room_of_a_person_is_shown_whatever_its_quality(tmp_path, monkeypatch, capsys, is_alone):
    video, out = tmp_path / "room.mp4", tmp_path / "out"
    videos.write_tour(video, [(1, 12.0)])
    if not is_alone:
        (out / "train/another_001").mkdir(parents=True)
    monkeypatch.setattr("tests.data_tools.chain.test_chain_real.box_cloud", noise)
    assert run_stages(monkeypatch, video, "none", out, is_one_room=True) == 0
    assert (out / "train/room_001/coord.npy").is_file() is is_alone
    assert ("room_001" in capsys.readouterr().out.partition("why not:")[0]) is is_alone  # with size and verdict
    (out / "_work/run.json").unlink()  # the same settings, given again, are those that it was made with
    asked = asked_settings("none")
    settle(Places(out, out / "_work"), dict.fromkeys(asked, "best"), asked, lambda base: base, {})

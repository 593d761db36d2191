"""Nothing finished goes because something else failed; what does go is listed, and can be brought back."""

import json
import shutil
import subprocess

import pytest

from data_tools import build_roomtours
from data_tools.chain import engine
from data_tools.chain.items import Places
from data_tools.chain.removed import Removed
from data_tools.stages.record import StageError, run_stage
from tests.data_tools.chain import chain_fakes
from tests.data_tools.chain.chain_run import make_videos, run_here, run_process, states, tree


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Two videos, three scenes, built once; returns (videos, out, run)."""
    videos, out = make_videos(tmp_path / "videos", a="room 1 1", b="room 2 2"), tmp_path / "out"

    def run(*more):
        return run_here(monkeypatch, videos, "--out", out, *more)

    assert run() == 0
    return videos, out, run


def scenes_of(out, split="train"):
    return sorted(path.name for path in (out / split).iterdir())


def finished(out):
    """The finished results: data set and work, without the notes beside them."""
    kept = {name: data for name, data in tree(out).items() if not name.endswith(("dataset_card.md", "stats.json"))}
    notes = ("_work/log", "_work/locks", "_work/run.json", "_work/rejected")
    return {name: data for name, data in kept.items() if not name.startswith(notes)}


@pytest.mark.parametrize("stage", ["segment", "reconstruct", "postprocess"])
@pytest.mark.parametrize("permanent", [True, False])
def test_a_stage_that_fails_after_a_setting_changed_leaves_what_is_finished(built, monkeypatch, stage, permanent):
    _, out, run = built
    before = finished(out)
    real = chain_fakes.FAKES.functions[stage]

    def broken(call):
        def work(folder, record):
            raise StageError(f"{call.name}: a library is missing", permanent=permanent)

        return run_stage(stage, call.folder, call.settings.digest(), "x", work)

    monkeypatch.setitem(chain_fakes.FAKES.functions, stage, broken)
    change = ("--redo", stage, "--set", f"{stage}.points=1999")
    assert run(*change) == 1
    assert run() == 1
    assert finished(out) == before
    assert {row.status for row in states(out).values() if row.stage == stage} == {"failed"}
    monkeypatch.setitem(chain_fakes.FAKES.functions, stage, real)
    assert run("--redo", stage) == 0  # the old settings again: all is there
    assert finished(out) == before
    assert run(*change, "--retry-failed") == 0


def test_a_worker_that_dies_after_a_setting_changed_leaves_what_is_finished(tmp_path):
    videos, out = make_videos(tmp_path / "videos", a="room 1 1"), tmp_path / "out"
    assert run_process(videos, "--out", out).returncode == 0
    before = finished(out)
    more = ("--redo", "postprocess", "--set", "postprocess.value=1")
    done = run_process(videos, "--out", out, *more, CHAIN_FAKE_CRASH="postprocess")
    assert done.returncode == 1
    assert "killed twice" in done.stdout
    assert finished(out) == before
    assert run_process(videos, "--out", out, *more).returncode == 0


def test_a_video_that_turned_private_keeps_its_scenes(tmp_path, monkeypatch):
    manifest, out = tmp_path / "list.csv", tmp_path / "out"
    manifest.write_text("video_id,url\nx,https://example.org/tour.mp4\n")
    assert run_here(monkeypatch, manifest, "--out", out) == 0
    before = finished(out)

    def private(call):
        def work(folder, record):
            raise StageError(f"{call.name}: video is private")

        return run_stage("collect", call.folder, call.settings.digest(), "x", work)

    monkeypatch.setitem(chain_fakes.FAKES.functions, "collect", private)
    for _ in range(2):
        assert run_here(monkeypatch, manifest, "--out", out, "--redo", "collect", "--set", "collect.value=1") == 1
        assert finished(out) == before
        assert json.loads((out / "stats.json").read_text())["splits"]["train"]["scenes"] == 1


@pytest.mark.parametrize("change", ["gone", "emptied"])
def test_a_source_that_vanishes_takes_nothing_with_it(built, change):
    videos, out, run = built
    before = finished(out)
    if change == "gone":
        (videos / "b.mp4").unlink()
    else:
        (videos / "b.mp4").write_text("")
    assert run() == (0 if change == "gone" else 1)
    assert run("--retry-failed") == (0 if change == "gone" else 1)
    assert finished(out) == before


def test_what_a_new_segmentation_lacks_is_listed_moved_and_can_be_brought_back(built, capsys):
    _, out, run = built
    before = tree(out / "train" / "b_001")
    again = ("--redo", "segment", "--set", "segment.value=1", "--set", "segment.points=1")
    assert run(*again) == 0
    assert "moved to WORK/removed" in capsys.readouterr().out
    assert scenes_of(out) == ["b_000"]
    area = out / "_work/removed/all"
    assert sorted(path.name for path in (area / "train").iterdir()) == ["a_000", "b_001"]
    assert "no longer a scene of its video" in (area / "undo.sh").read_text()
    subprocess.run(["sh", area / "undo.sh"], check=True, cwd="/")
    assert tree(out / "train" / "b_001") == before
    assert (out / "_work/clouds/a_000/cloud.ply").is_file()
    assert run(*again) == 0  # and stays: nothing was segmented anew
    assert scenes_of(out) == ["a_000", "b_000", "b_001"]


def test_settings_that_were_lost_redo_nothing(built, capsys):
    _, out, run = built
    assert run("--redo", "postprocess", "--set", "postprocess.value=1") == 0
    before = finished(out)
    (out / "_work/run.json").unlink()
    capsys.readouterr()
    assert run() == 2
    assert "run.json has no settings of postprocess, and what is finished was made" in capsys.readouterr().err
    assert run("--set", "postprocess.value=1") == 0
    assert finished(out) == before
    (out / "_work/run.json").unlink()
    assert run("--redo", "postprocess") == 0
    assert finished(out) != before


def test_what_is_rejected_anew_is_moved_and_clean_deletes_it(built, capsys):
    videos, out, run = built
    (videos / "a.mp4").write_text("room 1 no-room")
    (videos / "b.mp4").write_text("room 2 2 reject:1")
    assert run() == 0
    assert scenes_of(out) == ["b_000"]
    removed = {str(p.relative_to(out / "_work/removed/all")) for p in (out / "_work/removed/all").glob("*/*")}
    assert {"segments/a", "train/a_000", "train/b_001"} <= removed
    assert build_roomtours.main(["--clean", "--out", str(out)]) == 0
    assert f"{len(removed)} folders deleted" in capsys.readouterr().out
    assert not (out / "_work/removed").exists()
    assert scenes_of(out) == ["b_000"]


def test_a_new_segmentation_that_cannot_be_published_moves_nothing(built, monkeypatch):
    _, out, run = built

    def full(*args):
        raise OSError(28, "No space left on device")

    before = finished(out)
    monkeypatch.setattr(engine.Removed, "take", full)
    assert run("--redo", "segment", "--set", "segment.value=1", "--set", "segment.points=1") == 1
    assert finished(out) == before


def test_a_scene_taken_out_twice_has_two_places(tmp_path):
    removed = Removed(Places(tmp_path, tmp_path / "_work"), "all")
    for text in ("one", "two"):
        (tmp_path / "train/it's a_000").mkdir(parents=True)
        (tmp_path / "train/it's a_000/meta.json").write_text(text)
        removed.take([tmp_path / "train/it's a_000"], "why\nnot")
    subprocess.run(["sh", removed.area / "undo.sh"], check=True)
    assert (tmp_path / "train/it's a_000/meta.json").read_text() == "one"
    assert (removed.area / "train/it's a_000~2").is_dir()


def test_another_file_system_gets_a_copy(tmp_path, monkeypatch):
    from data_tools.chain import removed

    folder, target = tmp_path / "a", tmp_path / "b"
    folder.mkdir()
    (folder / "coord.npy").write_text("x")
    real = type(folder).replace

    def across(self, other):
        if other == target:
            raise OSError(18, "Invalid cross-device link")
        return real(self, other)

    monkeypatch.setattr(type(folder), "replace", across)
    removed._move(folder, target)
    assert (target / "coord.npy").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_stage_of_its_own_keeps_a_finished_folder_when_it_fails(tmp_path):
    def good(folder, record):
        (folder / "cloud.ply").write_text("points")

    def bad(folder, record):
        raise StageError("no memory")

    assert run_stage("postprocess", tmp_path / "s", "old", "x", good).status == "done"
    before = tree(tmp_path)
    record = run_stage("postprocess", tmp_path / "s", "new", "x", bad)
    assert (record.status, record.reason) == ("failed", "no memory; the earlier result stays")
    assert tree(tmp_path) == before
    shutil.rmtree(tmp_path / "s")
    assert run_stage("postprocess", tmp_path / "s", "new", "x", bad).reason == "no memory"
    assert (tmp_path / "s/record.json").is_file()

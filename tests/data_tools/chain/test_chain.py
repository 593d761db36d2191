"""The chain over fake stages: what is done once, what is redone, what is removed, what is said."""

import json
import shutil

import pytest

from data_tools.chain import build
from tests.data_tools.chain import chain_fakes
from tests.data_tools.chain.chain_fakes import CALLS
from tests.data_tools.chain.chain_run import calls_made, make_videos, run_here, states, tree


@pytest.fixture
def noted(tmp_path, monkeypatch):
    folder = tmp_path / "calls"
    folder.mkdir()
    monkeypatch.setenv(CALLS, str(folder))
    return folder


@pytest.fixture
def built(tmp_path, monkeypatch, noted):
    """Two videos, three scenes, built once; returns (videos, out, run)."""
    videos, out = make_videos(tmp_path / "videos", a="room 1 1", b="room 2 2"), tmp_path / "out"

    def run(*more, **settings):
        return run_here(monkeypatch, videos, "--out", out, *more, **settings)

    assert run() == 0
    assert calls_made(noted) == {"segment": 2, "reconstruct": 3, "postprocess": 3}
    return videos, out, run


def scenes_of(out, split="train"):
    return sorted(path.name for path in (out / split).iterdir()) if (out / split).is_dir() else []


def test_a_second_run_does_nothing(built, noted, capsys):
    _, out, run = built
    (log,) = (out / "_work/log").iterdir()
    before, stamp = tree(out), log.stat().st_mtime_ns
    assert run() == 0
    assert not calls_made(noted)
    assert tree(out) == before
    assert log.stat().st_mtime_ns == stamp
    assert "nothing to do (2 videos, 3 scenes; 5 settled before)" in capsys.readouterr().out


def test_a_scene_says_where_it_comes_from_and_the_card_names_the_license(built):
    _, out, _ = built
    meta = json.loads((out / "train/b_001/meta.json").read_text())
    assert (meta["video"], meta["scene"], meta["backend"]) == ("b", "b_001", "sfm")
    assert meta["intervals"] == [[10.0, 18.0]]
    assert str(out) not in json.dumps(meta)
    assert "no terms of a model apply" in (out / "dataset_card.md").read_text()
    assert json.loads((out / "stats.json").read_text())["splits"]["train"]["scenes"] == 3


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        ("postprocess.value=1", {"postprocess": 3}),
        ("reconstruct.value=1", {"reconstruct": 3, "postprocess": 3}),
        ("segment.points=1", {"segment": 2}),  # the same scenes come out: nothing after it is touched
    ],
)
def test_settings_stay_until_a_redo_asks_for_others(built, noted, change, redone, capsys):
    _, out, run = built
    stage, before = change.partition(".")[0], tree(out)
    assert run("--set", change) == 2
    said = capsys.readouterr().err
    name, value = change.split("=")
    assert said.startswith(f"build_roomtours: {name} is ")
    assert f"{value} is asked for: --redo {stage} does" in said
    assert len(said.splitlines()) == 1
    assert tree(out) == before
    for _ in range(2):  # started again after a kill, say: the new settings are on record
        assert run("--redo", stage, "--set", change) == 0
        assert calls_made(noted) == redone
        redone = {}
    assert f"new setting: {name}: " in capsys.readouterr().out
    assert run() == 0  # without a word: as it is on record
    assert run("--set", change) == 0
    assert not calls_made(noted)


def test_a_data_set_keeps_its_recipe(tmp_path, monkeypatch, noted, capsys):
    videos, out = make_videos(tmp_path / "videos", a="room 3 1"), tmp_path / "out"

    def run(*more):
        return run_here(monkeypatch, videos, "--out", out, *more)

    assert run("--recipe", "release", "--backend", "sfm") == 0
    assert calls_made(noted) == {"segment": 1, "reconstruct": 2, "postprocess": 2}
    assert run() == run("--recipe", "release") == 0
    assert run("--recipe", "best") == 2
    assert "segment.value is 1 in" in capsys.readouterr().err
    assert not calls_made(noted)
    assert run("--recipe", "best", "--redo", "segment") == 0
    assert calls_made(noted) == {"segment": 1, "reconstruct": 1, "postprocess": 1}
    assert run() == 0
    assert run("--recipe", "release") == 2
    assert not calls_made(noted)


def test_a_changed_default_and_a_new_field_redo_nothing(built, noted, monkeypatch, tmp_path):
    videos, out, run = built
    recorded = out / "_work/run.json"
    text = json.loads(recorded.read_text())
    for entry in text["stages"].values():
        del entry["settings"]["points"]  # as if the field had come later
        entry["settings"]["dropped"] = 3
    recorded.write_text(json.dumps(text))
    monkeypatch.setattr(chain_fakes.FakeSettings, "digest", lambda self: "another")
    before = tree(out / "train")
    assert run() == 0
    assert not calls_made(noted)
    assert tree(out / "train") == before
    make_videos(videos, c="room 1 3")
    assert run() == 0
    assert calls_made(noted) == {"segment": 1, "reconstruct": 1, "postprocess": 1}


def test_settings_of_a_stage_without_a_result_are_free(tmp_path, monkeypatch, noted):
    videos, out = make_videos(tmp_path / "videos", a="room 1 no-room", b="room 2 2 reject:0 reject:1"), tmp_path / "out"
    assert run_here(monkeypatch, videos, "--out", out) == 0
    calls_made(noted)
    assert run_here(monkeypatch, videos, "--out", out, "--set", "postprocess.value=1") == 0
    assert calls_made(noted) == {"postprocess": 2}
    assert run_here(monkeypatch, videos, "--out", out, "--set", "segment.value=1") == 2


def test_settings_that_cannot_be_read_are_said(built, capsys):
    _, out, run = built
    (out / "_work/run.json").write_text("{")
    assert run() == 2
    assert "run.json: cannot be read" in capsys.readouterr().err


def test_scenes_that_a_new_segmentation_lacks_leave_nothing(built, noted):
    _, out, run = built
    (out / "train/b_007").mkdir()  # a person's own scene that happens to be called so
    (out / "train/b_007/meta.json").write_text("{}")
    assert run("--redo", "segment", "--set", "segment.value=1") == 0
    assert scenes_of(out) == ["b_000", "b_007"]
    assert sorted(path.name for path in (out / "_work/clouds").iterdir()) == ["b_000"]
    assert ("a_000", "postprocess") not in states(out)
    assert json.loads((out / "stats.json").read_text())["splits"]["train"]["scenes"] == 2


def test_a_scene_that_is_now_rejected_leaves_the_data_set(built, noted):
    videos, out, run = built
    (videos / "b.mp4").write_text("room 2 2 reject:1")
    assert run() == 0
    assert scenes_of(out) == ["a_000", "b_000"]
    assert calls_made(noted) == {"segment": 1, "reconstruct": 2, "postprocess": 2}
    row = states(out)["b_001", "postprocess"]
    assert (row.status, row.permanent, row.reason) == ("rejected", True, "b_001: score 0.1 is under 0.25")
    assert run() == 0
    assert not calls_made(noted)


def test_a_touched_or_copied_video_is_the_same_video(built, noted, tmp_path):
    videos, _, run = built
    (videos / "a.mp4").touch()
    assert run() == 0
    shutil.move(videos / "b.mp4", videos / "moved.mp4")
    shutil.move(videos / "moved.mp4", videos / "b.mp4")
    assert run() == 0
    assert not calls_made(noted)


def test_without_logs_the_folders_say_all(built, noted):
    videos, out, run = built
    (videos / "b.mp4").write_text("room 2 2 reject:1")
    assert run() == 0
    calls_made(noted)
    before = {item: (row.status, row.key, row.reason) for item, row in states(out).items()}
    assert len(before) == 2 + 3 + 3
    for damage in (
        lambda p: p.unlink(),
        lambda p: p.write_bytes(b"rubbish\n{\n" + p.read_bytes()[: p.stat().st_size // 2]),
    ):
        (log,) = (out / "_work/log").iterdir()
        damage(log)
        assert {item: (row.status, row.key, row.reason) for item, row in states(out).items()} == before
        assert run() == 0
        assert not calls_made(noted)
        assert {item: (row.status, row.key, row.reason) for item, row in states(out).items()} == before


def test_a_folder_that_is_gone_is_made_again(built, noted):
    _, out, run = built
    before = tree(out)
    shutil.rmtree(out / "train/b_001")
    assert run() == 0
    assert calls_made(noted) == {"postprocess": 1}
    assert tree(out) == before


def test_clouds_made_from_now_on_go_and_those_that_were_kept_stay(built, noted, capsys):
    videos, out, run = built
    kept = {name: data for name, data in tree(out / "_work/clouds").items() if name.endswith("cloud.ply")}
    assert len(kept) == 3
    make_videos(videos, c="room 2 3 reject:1")
    assert run(keep=False) == 0
    assert {name: data for name, data in tree(out / "_work/clouds").items() if "/cloud.ply" in name} == {
        **kept,
        "c_001/cloud.ply": (out / "_work/clouds/c_001/cloud.ply").read_bytes(),  # rejected, and it has a page
    }
    assert (out / "_work/clouds/c_000/frames/0.jpg").is_file()
    calls_made(noted)
    assert run(keep=False) == 0
    assert not calls_made(noted)
    assert run("--redo", "postprocess", "--set", "postprocess.value=2", keep=False) == 0
    assert calls_made(noted) == {"reconstruct": 1, "postprocess": 5}
    assert "\n1 scenes have no cloud as reconstructed (it goes" in capsys.readouterr().out
    assert {name for name in tree(out / "_work/clouds") if name.endswith("cloud.ply")} == {*kept, "c_001/cloud.ply"}


def test_a_cloud_that_waited_for_its_postprocessing_goes_too(tmp_path, monkeypatch, noted):
    videos, out = make_videos(tmp_path / "videos", a="room 1 1"), tmp_path / "out"
    work = chain_fakes.FAKES.functions["postprocess"]
    monkeypatch.setitem(chain_fakes.FAKES.functions, "postprocess", lambda call: 1 / 0)
    assert run_here(monkeypatch, videos, "--out", out, keep=False) == 1
    assert (out / "_work/clouds/a_000/cloud.ply").is_file()
    monkeypatch.setitem(chain_fakes.FAKES.functions, "postprocess", work)
    assert run_here(monkeypatch, videos, "--out", out, keep=False) == 0
    assert calls_made(noted) == {"segment": 1, "reconstruct": 1, "postprocess": 1}
    assert not list((out / "_work").rglob("cloud.ply"))


def test_a_cloud_that_a_later_run_keeps_stays_kept(tmp_path, monkeypatch):
    videos, out = make_videos(tmp_path / "videos", a="room 1 1"), tmp_path / "out"
    work = chain_fakes.FAKES.functions["postprocess"]
    monkeypatch.setitem(chain_fakes.FAKES.functions, "postprocess", lambda call: 1 / 0)
    assert run_here(monkeypatch, videos, "--out", out, keep=False) == 1
    monkeypatch.setitem(chain_fakes.FAKES.functions, "postprocess", work)
    for keep in (True, False):
        assert run_here(monkeypatch, videos, "--out", out, keep=keep) == 0
        assert (out / "_work/clouds/a_000/cloud.ply").is_file()


def test_frames_stay_where_the_report_has_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "PAGES", 2)
    videos, out = make_videos(tmp_path / "videos", a="room 4 1 reject:3"), tmp_path / "out"
    assert run_here(monkeypatch, videos, "--out", out, keep=False) == 0
    left = {name for name in tree(out / "_work/clouds") if name.endswith(("ply", "jpg"))}
    assert left == {"a_000/frames/0.jpg", "a_001/frames/0.jpg"}


def test_a_record_made_by_a_stages_own_script_is_taken(built, noted):
    _, out, run = built
    before = tree(out / "train")
    shutil.rmtree(out / "_work/log")
    for file in out.rglob("record.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "key": ""}))
    assert run() == 0
    assert not calls_made(noted)
    assert tree(out / "train") == before


def test_a_share_of_the_videos_goes_to_val_and_what_is_written_stays(built, noted):
    videos, out, run = built
    make_videos(videos, c="room 1 3")
    assert run("--val-share", "0.99") == 0
    assert scenes_of(out) == ["a_000", "b_000", "b_001"]
    assert scenes_of(out, "val") == ["c_000"]
    shutil.rmtree(out / "train/b_001")
    assert run("--val-share", "0.99") == 0  # the rooms of one video never lie on both sides
    assert scenes_of(out) == ["a_000", "b_000", "b_001"]


def test_dry_run_and_status_touch_nothing(built, noted, capsys):
    videos, out, run = built
    make_videos(videos, c="room 1 3")
    before = tree(out)
    assert run("--dry-run", "--redo", "postprocess", "--set", "postprocess.value=3") == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert sorted(said.split(", ")) == ["postprocess: 3", "segment: 1", "settled: 0"]
    assert run("--status") == 0
    assert "postprocess" in capsys.readouterr().out
    assert tree(out) == before
    assert not calls_made(noted)


def test_passing_failures_are_tried_again_and_permanent_ones_on_request(tmp_path, monkeypatch, noted):
    videos = make_videos(tmp_path / "videos", bug="room 1 1 bug:0", empty="")
    out = tmp_path / "out"
    for more, calls in (([], 1), ([], 0), (["--retry-failed"], 1)):
        assert run_here(monkeypatch, videos, "--out", out, *more) == 1
        made = calls_made(noted)
        assert made["reconstruct"] == 1  # a bug may be gone with the next version
        assert made["segment"] == calls + (not more and calls == 1)
    rows = states(out)
    assert rows["bug_000", "reconstruct"].attempts == 3
    assert "IndexError" in rows["bug_000", "reconstruct"].reason
    assert not rows["bug_000", "reconstruct"].permanent
    assert rows["empty", "segment"].permanent


def test_addresses_are_collected_and_private_videos_recorded(tmp_path, monkeypatch, noted):
    manifest = tmp_path / "list.csv"
    manifest.write_text("video_id,url\nx,https://example.org/tour.mp4\ny,https://example.org/gone.mp4\n")
    out = tmp_path / "out"
    assert run_here(monkeypatch, manifest, "--out", out) == 1
    assert calls_made(noted) == {"collect": 2, "segment": 1, "reconstruct": 1, "postprocess": 1}
    assert len(scenes_of(out)) == 1
    assert [row.reason.partition(": ")[2] for row in states(out).values() if row.status == "failed"] == [
        "video is private"
    ]
    assert run_here(monkeypatch, manifest, "--out", out) == 1
    assert not calls_made(noted)


def test_a_fetched_video_that_was_deleted_is_fetched_again_when_it_is_needed(tmp_path, monkeypatch, noted):
    manifest, out = tmp_path / "list.csv", tmp_path / "out"
    manifest.write_text("video_id,url\nx,https://example.org/tour.mp4\n")
    assert run_here(monkeypatch, manifest, "--out", out) == 0
    calls_made(noted)
    (video,) = (out / "_work/videos").glob("*/video.mp4")
    video.unlink()
    assert run_here(monkeypatch, manifest, "--out", out) == 0
    more = ("--redo", "postprocess", "--set", "postprocess.value=1")
    assert run_here(monkeypatch, manifest, "--out", out, *more) == 0
    assert calls_made(noted) == {"postprocess": 1}
    more = ("--redo", "reconstruct", "--set", "reconstruct.value=1")
    assert run_here(monkeypatch, manifest, "--out", out, *more) == 0
    assert calls_made(noted) == {"collect": 1, "reconstruct": 1, "postprocess": 1}


def test_scenes_that_cannot_be_read_are_said(built, capsys):
    _, out, run = built
    (out / "_work/segments/b/scenes.json").write_text("{")
    assert run() == 1
    assert "delete the folder" in capsys.readouterr().out
    assert states(out)["b", "segment"].status == "failed"


def test_shards_part_the_videos_and_meet_in_one_data_set(tmp_path, monkeypatch, noted):
    videos = make_videos(tmp_path / "videos", **{f"v{i}": "room 1 0" for i in range(8)})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run_here(monkeypatch, videos, "--out", whole) == 0
    calls_made(noted)
    for shard in ("0/3", "1/3", "2/3"):
        assert run_here(monkeypatch, videos, "--out", parts, "--shard", shard) == 0
    assert calls_made(noted)["postprocess"] == 8
    assert not (parts / "stats.json").exists()  # a run over all writes it, when no shard is at work
    assert len(list((parts / "_work/log").iterdir())) == 3
    assert tree(parts / "train") == tree(whole / "train")
    assert states(parts).keys() == states(whole).keys()
    assert run_here(monkeypatch, videos, "--out", parts) == 0
    assert not calls_made(noted)
    assert (parts / "stats.json").read_bytes() == (whole / "stats.json").read_bytes()


def test_known_videos_are_not_read_again(tmp_path, monkeypatch, noted):
    videos = make_videos(tmp_path / "videos", **{f"v{i}": "room 1 0" for i in range(30)})
    out = tmp_path / "out"
    assert run_here(monkeypatch, videos, "--out", out, "--set", "reconstruct.points=50") == 0
    calls_made(noted)
    monkeypatch.setattr("data_tools.chain.plan.fingerprint", None)  # not one video is read again
    assert run_here(monkeypatch, videos, "--out", out, "--set", "reconstruct.points=50") == 0
    assert not calls_made(noted)

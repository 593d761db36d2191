"""The small parts of the chain: words of the command line, names, tables, tallies."""

from dataclasses import dataclass, field

import pytest

from data_tools import build_roomtours
from data_tools.chain import finish, options, recorded
from data_tools.chain.items import Places, SceneItem, VideoItem, shard_of
from data_tools.chain.journal import Journal, Print, Row, read_events
from data_tools.chain.local import LocalExecutor
from data_tools.chain.plan import within
from data_tools.chain.recorded import differences, restored
from data_tools.chain.run import _overlap
from data_tools.chain.sources import apart_from_earlier, parse_shard, read_videos
from data_tools.packaging.card import BACKEND_LICENSES, license_of
from data_tools.packaging.clouds import fingerprint
from data_tools.stages.locks import BusyError, run_lock
from data_tools.stages.splits import split_of
from tests.data_tools.chain.chain_fakes import FAKES
from tests.data_tools.chain.chain_run import make_videos


@pytest.mark.parametrize(
    ("text", "slots"), [("auto", ["4", "7"]), ("0", []), ("1", ["4"]), ("0,0,1", ["0", "0", "1"]), ("3,", ["3"])]
)
def test_gpu_slots(text, slots):
    assert options.gpu_slots(text, ["4", "7"]) == slots


@pytest.mark.parametrize("text", ["3", "many", ","])
def test_gpu_slots_that_are_not_there(text):
    with pytest.raises(ValueError, match="--gpus"):
        options.gpu_slots(text, ["4", "7"])


@pytest.mark.parametrize("text", ["4/4", "1", "-1/4", "a/b", "1/0"])
def test_a_shard_is_i_of_n(text):
    assert parse_shard("3/4") == (3, 4)
    with pytest.raises(ValueError, match="from 0 to n-1"):
        parse_shard(text)


def test_settings_are_set_by_name():
    settings = options.usual_settings("sfm", "none")
    words = options.given_changes(settings, "vggt", "auto", True)
    assert words == ["reconstruct.backend=vggt", "reconstruct.deterministic=true"]
    assert options.with_changes(settings, words)["reconstruct"].deterministic
    changes = ["postprocess.limits.min_score=0.1", "reconstruct.max_frames=250", "postprocess.scale=none"]
    changed = options.with_changes(
        settings, [*changes, "segment.rooms=('bedroom', 'kitchen')", "postprocess.preview=false"]
    )
    assert changed["postprocess"].limits.min_score == 0.1
    assert changed["postprocess"].scale == "none"
    assert changed["reconstruct"].max_frames == 250
    assert changed["segment"].rooms == ("bedroom", "kitchen")
    assert changed["postprocess"].preview is False
    assert settings["reconstruct"].max_frames == 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("reconstruct.frames=3", "no field 'frames'; there are: backend"),
        ("render.size=3", "STAGE of collect, segment"),
        ("reconstruct", "STAGE.FIELD=VALUE"),
        ("segment.rate=1000", "rate 1000"),
        ("postprocess.preview=3", "yes/no"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        options.with_changes(options.usual_settings("sfm", "none"), [change])


def test_auto_says_what_it_took_and_why(monkeypatch):
    monkeypatch.setattr(options, "has_backend", lambda name: True)
    assert options.choose_backend("auto", ["0"])[0] == "pi3"
    assert options.choose_backend("auto", []) == ("sfm", "there is no GPU; sfm needs neither weights nor a GPU")
    assert options.choose_backend("vggt", []) == ("vggt", "given")
    monkeypatch.setattr(options, "has_backend", lambda name: False)
    assert "not installed" in options.choose_backend("auto", ["0"])[1]
    with pytest.raises(ValueError, match="not installed here"):
        options.choose_backend("vggt", ["0"])
    assert options.choose_backend("vggt", [], is_ray=True)[0] == "vggt"
    monkeypatch.setattr(options.importlib.util, "find_spec", lambda name: None)
    assert options.choose_labels("auto")[0] == "none"
    assert options.choose_labels("clip") == ("clip", "given")


@pytest.mark.parametrize(
    "argv",
    [
        ["no_such_file.mp4"],
        ["{v}", "--shard", "4/4"],
        ["{v}", "--split", "../x"],
        ["{v}", "--val-share", "1"],
        ["{v}", "--set", "x=1"],
        ["{v}", "--gpus", "many"],
        ["{v}", "--labels", "nowhere.csv"],
    ],
)
def test_wrong_arguments_end_with_2_and_one_line(tmp_path, capsys, argv):
    make_videos(tmp_path, v="room 1 1")
    words = [word.format(v=tmp_path / "v.mp4") for word in argv]
    assert build_roomtours.main(words if "--labels" in words else [*words, "--labels", "none"], FAKES) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("word", ["--status", "--clean"])
def test_a_data_set_that_is_not_there_is_one_line(tmp_path, capsys, word):
    assert build_roomtours.main([word, "--out", str(tmp_path / "typo")]) == 1
    assert "typo/_work: no such folder; check --out" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


def test_equal_names_are_told_apart_and_copies_go_once(tmp_path):
    for name, text in (("x", "one"), ("y", "two"), ("z", "one")):
        make_videos(tmp_path / name, tour=text)
    videos, problems = read_videos([str(tmp_path / name) for name in ("x", "y", "z")] + [str(tmp_path / "nothing")])
    assert len({video.video_id for video in videos}) == len(videos) == 2
    assert all(video.video_id.startswith("tour-") for video in videos)
    assert "nothing" in problems[0]
    twice, _ = read_videos([str(tmp_path / "x"), str(tmp_path / "z")])
    assert [video.video_id for video in twice] == ["tour"]


def test_a_folder_of_photos_with_a_short_video_among_them_is_said(tmp_path):
    folder = make_videos(tmp_path / "phone", live="one")
    for number in range(2):
        (folder / f"{number}.jpg").write_text("thumbnail")
    assert read_videos([str(folder)])[1] == []
    (folder / "3.jpg").write_text("photo")
    videos, problems = read_videos([str(folder)])
    assert [video.video_id for video in videos] == ["live"]
    assert "its 3 photos are not" in problems[0]


def test_videos_know_the_set_they_come_from(tmp_path):
    folder = make_videos(tmp_path / "tours", a="one")
    (tmp_path / "roomtours.csv").write_text("video_id,url\nabcdefghijk,https://www.youtube.com/watch?v=abcdefghijk\n")
    (tmp_path / "camera").mkdir()
    line = "1000000 0.5 0.9 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0"
    (tmp_path / "camera/0a.txt").write_text(f"https://www.youtube.com/watch?v=bbbbbbbbbbb\n{line}\n{line}\n")
    inputs = [folder, tmp_path / "roomtours.csv", tmp_path / "camera", make_videos(tmp_path / "x", b="two") / "b.mp4"]
    videos, _ = read_videos([str(path) for path in inputs])
    assert [video.origin for video in videos] == ["tours", "roomtours", "RealEstate10K", ""]


def test_a_name_that_another_file_has_is_not_taken_over(tmp_path):
    first = make_videos(tmp_path / "x", tour="one") / "tour.mp4"
    second = make_videos(tmp_path / "y", tour="two") / "tour.mp4"
    states = Journal(tmp_path)
    states.put_print(Print(str(first), 3, 0, "print of one", "tour"))
    (video,) = apart_from_earlier([VideoItem("tour", second)], states)
    assert video.video_id.startswith("tour-")
    assert apart_from_earlier([VideoItem("tour", first)], states)[0].video_id == "tour"
    first.unlink()  # moved away: the name is free, but where its scenes would be lost
    assert apart_from_earlier([VideoItem("tour", second)], states)[0].video_id == "tour"
    states.put(Row("postprocess", "tour_000", "tour", "done"))
    assert apart_from_earlier([VideoItem("tour", second)], states)[0].video_id.startswith("tour-")


def test_folders_of_one_name_are_told_apart_and_a_file_browser_changes_nothing(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name / "photos").mkdir(parents=True)
        (tmp_path / name / "photos" / "1.jpg").write_text(name)
    states, (first, second) = Journal(tmp_path), (tmp_path / name / "photos" for name in ("x", "y"))
    before = fingerprint(first)
    states.put_print(Print(str(first), 3, 0, before, "photos"))
    assert apart_from_earlier([VideoItem("photos", second)], states)[0].video_id.startswith("photos-")
    (first / ".DS_Store").write_text("icons")
    assert fingerprint(first) == before
    (first / "camera.npy").write_text("no scene's array")
    (first / "1.jpg").write_text("another")
    assert fingerprint(first) != before


def test_ranges_of_a_manifest_cut_scenes():
    video = VideoItem("v", ranges=((50.0, 70.0), (0.0, 12.0), (19.0, 20.5)))
    scenes = [SceneItem("v_000", ((5.0, 7.0), (8.0, 20.0)), "bedroom"), SceneItem("v_001", ((40.0, None),))]
    parts = within(scenes, video)
    assert [(p.scene_id, p.intervals) for p in parts] == [
        ("v_000", ((5.0, 7.0), (8.0, 12.0))),
        ("v_001", ((50.0, 70.0),)),
    ]
    assert parts[0].label == "bedroom"


def test_shards_and_splits_depend_on_the_name_alone():
    names = [f"video{i}" for i in range(400)]
    counts = [sum(shard_of(name, 4) == i for name in names) for i in range(4)]
    assert sum(counts) == 400
    assert min(counts) > 60
    assert 10 < sum(split_of(name, "train", 0.1) == "val" for name in names) < 80


def test_logs_of_shards_are_read_as_one(tmp_path):
    first, second = Journal(tmp_path, "0_of_2"), Journal(tmp_path, "1_of_2")
    first.put(Row("reconstruct", "v_000", "v", "failed", "because", key="k", seconds=2.0))
    assert first.put(Row("reconstruct", "v_000", "v", "failed", "again", key="k", seconds=1.0)).attempts == 2
    second.put(Row("reconstruct", "w_000", "w", "done", key="k", mark="1:2", seconds=4.0))
    second.put(Row("reconstruct", "w_001", "w", "done", key="k"))
    second.drop([("reconstruct", "w_001"), ("reconstruct", "never there")])
    second.note("killed", stage="reconstruct", name="w_000")
    second.put_print(Print("/x.mp4", 3, 5, "print", "x"))
    assert first.save()
    assert second.save()
    found = Journal(tmp_path)
    assert {name: row.status for (_, name), row in found.rows.items()} == {"v_000": "failed", "w_000": "done"}
    assert (found.get("reconstruct", "v_000").attempts, found.get("reconstruct", "v_000").reason) == (2, "again")
    assert found.rows["reconstruct", "w_000"] == second.rows["reconstruct", "w_000"]
    assert found.prints["/x.mp4"].fingerprint == "print"
    assert found.seconds["reconstruct"] == 7.0
    assert [event["name"] for event in read_events(tmp_path, ["killed"])] == ["w_000"]


def test_a_torn_line_costs_itself_alone(tmp_path):
    for number in range(3):
        journal = Journal(tmp_path, "all")
        assert len(journal.rows) == number
        journal.put(Row("segment", f"v{number}", f"v{number}", "done"))
        assert journal.save()
        with journal.file.open("ab") as handle:
            handle.write(b'{"stage":"segment","name":"v9","vid')
    journal.file.write_bytes(
        b"\xff\xfe\n[1]\n" + b'{"status":"done","from":"another version"}\n' + journal.file.read_bytes()
    )
    assert [name for _, name in Journal(tmp_path).rows] == ["v0", "v1", "v2"]


def test_a_log_that_cannot_be_written_keeps_its_lines(tmp_path):
    journal = Journal(tmp_path / "log", "all")
    (tmp_path / "log").write_text("a file in the way")
    journal.put(Row("segment", "v", "v", "done"))
    assert not journal.save()
    assert journal.get("segment", "v").status == "done"
    (tmp_path / "log").unlink()
    assert journal.save()
    assert len(Journal(tmp_path / "log").rows) == 1


@dataclass(frozen=True)
class Inner:
    low: float = 1.0
    late: int = 5


@dataclass(frozen=True)
class Outer:
    rooms: tuple = ("a",)
    inner: Inner = field(default_factory=Inner)


def test_settings_on_record_come_back_and_new_fields_have_their_default():
    found = restored(Outer(), {"rooms": ["b", "c"], "inner": {"low": 2.0}, "gone": 1})
    assert found == Outer(("b", "c"), Inner(2.0, 5))
    assert differences(Outer(), found) == [("rooms", ("a",), ("b", "c")), ("inner.low", 1.0, 2.0)]
    assert restored(found, {}) == found


def test_a_setting_on_record_that_no_longer_goes_may_be_given_anew(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("time,label\n0,bedroom\n")
    places = Places(tmp_path / "out", tmp_path / "out/_work")
    usual = options.usual_settings("sfm", "none")

    def settle(*words):
        given = {"segment": ["labels"]} if words else {}
        recipes = recorded.recipes_of(recorded.read_recorded(places.work), "", "")
        return recorded.settle(places, recipes, usual, lambda base: options.with_changes(base, words), given)

    recorded.record(places, settle(f"segment.labels={labels}"))
    assert settle().stages["segment"].labels == str(labels)
    moved = labels.rename(tmp_path / "moved.csv")
    with pytest.raises(ValueError, match="labels"):
        settle()
    assert settle(f"segment.labels={moved}").stages["segment"].labels == str(moved)


def test_an_explicit_option_wins_over_the_recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(options, "has_backend", lambda name: True)
    places = Places(tmp_path / "out", tmp_path / "out/_work")

    def settings(*words):
        args = build_roomtours.parse_args(["v.mp4", "--recipe", "release", "--gpus", "0", *words])
        return build_roomtours.stage_settings(args, places, []).stages

    plain = settings()
    assert (plain["reconstruct"].backend, plain["segment"].labels, plain["segment"].rate) == ("pi3", "clip", 5.0)
    other = settings("--backend", "sfm", "--labels", "none", "--set", "segment.rate=2")
    assert (other["reconstruct"].backend, other["segment"].labels, other["segment"].rate) == ("sfm", "none", 2.0)
    assert other["postprocess"] == plain["postprocess"]


def test_a_lock_names_its_holder(tmp_path):
    with (
        run_lock(tmp_path / "a.lock"),
        pytest.raises(BusyError, match="is at work here"),
        run_lock(tmp_path / "a.lock"),
    ):
        raise AssertionError("both hold it")
    with run_lock(tmp_path / "a.lock"):
        pass


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [("all", "0_of_4", True), ("0_of_4", "all", True), ("0_of_4", "1_of_4", False), ("0_of_4", "1_of_2", True)],
)
def test_shards_of_one_division_do_not_overlap(one, other, overlap):
    assert _overlap(one, other) == overlap
    assert not _overlap(one, one)  # its own lock


def test_counts_and_reasons_without_names():
    rows = [
        Row("postprocess", f"v_00{i}", "v", "rejected", f"/data/v_00{i}/cloud.ply: score 0.{i} is under 0.25", True)
        for i in range(3)
    ]
    rows += [Row("segment", "v", "v", "done"), Row("segment", "w", "w", "failed", "w: broken: pip install 'av>=17'")]
    text = finish.counts_table(rows, {"segment": 1800.0})
    assert "0.50" in text
    assert "     3  postprocess rejected: score N is under N" in text
    assert "     1  segment failed: w: broken: pip install 'av>=17'" in text  # of one alone, as it is
    assert "CC BY-NC" in license_of(["pi3", "sfm"])
    assert "CC BY-NC" not in license_of(["sfm"])
    assert set(options.BACKENDS) - {"auto"} == BACKEND_LICENSES.keys()


def test_gpu_workers_see_one_gpu_and_the_others_none():
    executor = LocalExecutor({}, 2, ["0", "1"], threads=3)
    seen = {slot.name: slot.env["CUDA_VISIBLE_DEVICES"] for slot in executor._slots}
    assert seen == {"cpu0": "", "cpu1": "", "net0": "", "gpu0": "0", "gpu1": "1"}
    assert {slot.env["OMP_NUM_THREADS"] for slot in executor._slots} == {"3"}

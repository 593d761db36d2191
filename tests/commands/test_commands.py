import json
import re

import numpy as np
import pytest

from data_tools.clouds.io import read_cloud, write_ply
from lam3c_plugin.cli import build_parser
from lam3c_plugin.commands.shared import files
from lam3c_plugin.commands.shared.inputs import input_paths, output_names
from lam3c_plugin.errors import DataError
from tests.commands.run import run
from tests.rooms import box_room, put_rooms, put_scene

TINY = ("--random", "tiny", "--size", "80x60")


@pytest.fixture(autouse=True)
def no_browser(monkeypatch):
    opened = []
    monkeypatch.setattr(files, "has_display", lambda: True)
    monkeypatch.setattr(files.webbrowser, "open", lambda address: not opened.append(address))
    return opened


def test_pca_writes_picture_points_and_page(tmp_path, no_browser):
    file = write_ply(tmp_path / "room.ply", box_room())
    out = tmp_path / "out"
    assert run("pca", file, *TINY, "--out", out, "--view") == 0
    assert sorted(p.name for p in out.iterdir()) == ["room_pca.html", "room_pca.ply", "room_pca.png"]
    points = read_cloud(out / "room_pca.ply")
    assert (points.coord == read_cloud(file).coord).all()
    assert points.color.std(axis=0).min() > 10
    assert no_browser == [(out / "room_pca.html").as_uri()]
    before = (out / "room_pca.ply").read_bytes()
    assert run("pca", file, *TINY, "--out", out, "--view", "--no-open") == 0
    assert (out / "room_pca.ply").read_bytes() == before
    assert len(no_browser) == 1


@pytest.mark.parametrize("words", [(), ("--format", "ply"), ("--per", "cell")])
def test_encode_shows_what_it_wrote(tmp_path, no_browser, words):
    file, out = write_ply(tmp_path / "room.ply", box_room(count=400)), tmp_path / "out"
    words = ("encode", file, "--random", "tiny", "--grid-size", "0.05", "--out", out, *words)
    assert run(*words) == 0
    assert not list(out.glob("*.html"))
    assert run(*words, "--view", "--size", "80x60") == 0  # also of what was there already
    assert {p.suffix for p in out.glob("room.*")} == {".html", ".png", ".ply" if "ply" in words else ".npz"}
    assert no_browser == [(out / "room.html").as_uri()]
    assert [layer["name"] for layer in _spec((out / "room.html").read_text())["layers"]] == ["components", "colours"]


def test_joint_components_over_a_folder(tmp_path, capsys):
    for i in range(2):
        put_scene(tmp_path / f"rooms/scene_{i}", box_room(seed=i))
    assert run("pca", tmp_path / "rooms", *TINY, "--joint", "--out", tmp_path / "out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("scene_0: 1,500 points")
    assert len(set(re.findall(r"shown: ([\d% ]+);", "\n".join(lines)))) == 1


def test_similarity_of_picks(tmp_path, capsys):
    file, out = write_ply(tmp_path / "room.ply", box_room()), tmp_path / "out"
    picks = ("--pick", "1.0,1.0,0.0", "--pick", "0.0,1.0,1.0")
    assert run("similarity", file, *TINY, *picks, "--out", out, "--view", "--no-open") == 0
    with np.load(out / "room_similarity.npz") as found:
        assert found["similarity"].shape == (2, 1500)
        assert np.allclose(found["similarity"][[0, 1], found["picked"]], 1, atol=1e-5)
        assert np.linalg.norm(found["coord"][found["picked"]] - [[1, 1, 0], [0, 1, 1]], axis=1).max() < 0.2
    html = (out / "room_similarity.html").read_text()
    assert [layer["name"] for layer in _spec(html)["layers"]] == ["similarity", "colours", "pick 1", "pick 2"]
    assert "pick 2: point" in capsys.readouterr().out
    assert run("similarity", file, *TINY, "--pick", "9,9,9") == 1
    assert re.fullmatch(r"error: --pick 9,9,9: [^\n]+\n", capsys.readouterr().err)
    assert run("similarity", file, *TINY, "--pick", "a,b") == 2


def test_coordinates_far_from_the_origin_are_those_of_the_input(tmp_path):
    cloud = box_room()
    far = cloud.coord.astype(np.float64) + np.array([400_000, 5_000_000, 30])
    np.savez(tmp_path / "far.npz", coord=far, color=cloud.color)
    picked = far[17]
    word = "--pick=" + ",".join(f"{v:.4f}" for v in picked)
    assert run("similarity", tmp_path / "far.npz", *TINY, word, "--out", tmp_path / "out") == 0
    with np.load(tmp_path / "out/far_similarity.npz") as found:
        assert np.abs(found["coord"][found["picked"][0]] - picked).max() < 1e-3


def test_probe_then_segment_with_its_head(tmp_path, capsys):
    data, out = put_rooms(tmp_path / "data", {"train": 3, "val": 1}), tmp_path / "out"
    head = tmp_path / "head.pth"
    words = ("probe", "--data", data, *TINY, "--out", out, "--seeds", 2, "--save-head", head, "--view", "--no-open")
    assert run(*words) == 0
    text = capsys.readouterr().out
    assert "encoding room0 (1 of 3)" in text
    result = json.loads((out / "probe.json").read_text())
    best = {row["probe"]: row["m_iou"][0] for row in result["rows"] if row["share"] == 1.0}
    assert min(best.values()) > 0.8  # colours give the classes away
    assert [row["seeds"] for row in result["rows"]] == [[0, 1]] * 4 + [[0]] * 2
    assert len(_spec((out / "probe.html").read_text())["layers"]) == 4
    before = (out / "probe.json").read_bytes()
    assert run(*words) == 0
    assert "encoding" not in capsys.readouterr().out
    assert (out / "probe.json").read_bytes() == before

    assert run("segment", data / "val", *TINY, "--head", head, "--out", out, "--view", "--no-open") == 0
    points = read_cloud(out / "room0_segment.ply")
    assert (points.segment == box_room(seed=100).segment).mean() > 0.9
    with np.load(out / "room0_segment.npz") as found:
        assert (found["segment"] == points.segment).all()
        assert list(found["names"]) == ["class 0", "class 1", "class 2"]
    assert re.search(r"class 1 +\d+ +\d+\.\d% +0\.\d+", capsys.readouterr().out)
    assert len(_spec((out / "room0_segment.html").read_text())["layers"][0]["legend"]) == 3


def test_export_writes_the_inputs_of_a_cloud(tmp_path, capsys):
    file = write_ply(tmp_path / "room.ply", box_room())
    assert run("export", "--random", "tiny", "--tables", file, "--tables-out", tmp_path / "t.npz") == 0
    with np.load(tmp_path / "t.npz") as found:
        assert found["output"].shape == (len(found["feat"]), 360)
        assert found["inverse"].shape == (1500,)
        assert found["neighbours_0"].shape == (len(found["feat"]), 27)
    assert run("export", "--random", "tiny") == 1
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pca", "ROOM", "--random", "tiny", "--checkpoint", "x"), "exclude each other"),
        (("pca", "none.ply", "--random", "tiny"), "none.ply does not exist"),
        (("pca", "ROOM", "--random", "tiny", "--level", "9"), "level=9"),
        (("pca", "ROOM", "--random", "tiny", "--first", "-1"), "--first -1"),
        (("pca", "TEXT", "--random", "tiny"), "is not a PLY file"),
        (("pca", "ROOM", "--random", "tiny", "--out", "ROOM"), "cannot write"),
        (("segment", "ROOM", "--random", "tiny"), "no head: give --head"),
        (("segment", "ROOM", "--random", "tiny", "--head", "TEXT"), "not weights"),
        (("probe", "--data", "none", "--random", "tiny"), "--data none: is not a folder"),
        (("probe", "--data", "FOLDER", "--random", "tiny", "--seeds", "0"), "--seeds"),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, words, message):
    room, text = write_ply(tmp_path / "room.ply", box_room(count=200)), tmp_path / "text.ply"
    text.write_text("hello")
    names = {"ROOM": room, "TEXT": text, "FOLDER": tmp_path}
    assert run(*(names.get(word, word) for word in words)) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: [^\n]+\n", error)
    assert message in error


def test_a_bad_file_among_several_is_said_and_the_rest_goes_on(tmp_path, capsys):
    folder = tmp_path / "rooms"
    folder.mkdir()
    write_ply(folder / "a.ply", box_room(count=300))
    (folder / "b.ply").write_text("hello")
    np.savez(folder / "c.npz", coord=np.random.default_rng(0).random((50, 3)) * 1e6)
    write_ply(folder / "d.ply", box_room(count=300))
    assert run("pca", folder, *TINY, "--out", tmp_path / "out") == 1
    errors = capsys.readouterr().err.splitlines()
    assert [line.startswith("error: ") for line in errors[:2]] == [True, True]
    assert "b.ply" in errors[0]
    assert "c.npz: the cloud extends over" in errors[1]
    assert sorted(p.name for p in (tmp_path / "out").glob("*.ply")) == ["a_pca.ply", "d_pca.ply"]


def test_a_bad_file_among_joint_ones_is_left_out(tmp_path, capsys):
    write_ply(tmp_path / "a.ply", box_room(count=300))
    (tmp_path / "b.ply").write_text("hello")
    write_ply(tmp_path / "c.ply", box_room(count=300, seed=1))
    assert run("pca", tmp_path, *TINY, "--joint", "--out", tmp_path / "out") == 1
    assert "b.ply" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "out").glob("*.ply")) == ["a_pca.ply", "c_pca.ply"]


def test_a_place_with_a_negative_coordinate_is_no_option():
    for words, pick in ((("--pick", "-1,2,0.5"), (-1, 2, 0.5)), (("--pick=-.5,0,-1",), (-0.5, 0, -1))):
        assert build_parser().parse_args(["similarity", "room.ply", *words]).pick == [pick]


def test_labels_are_looked_for_before_anything_is_encoded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lam3c_plugin.encode.Encoder.random", lambda *_, **__: pytest.fail("an encoder was made"))
    data = put_rooms(tmp_path / "data", {"train": 1, "val": 2})
    words = ("probe", "--data", data, *TINY, "--out", tmp_path / "out")
    last = sorted((data / "val").iterdir())[-1] / "segment.npy"
    assert run(*words, *(word for label in range(24) for word in ("--ignore", label))) == 1
    assert "no point of the 1 training scenes has a label that counts" in capsys.readouterr().err
    last.unlink()
    assert run(*words) == 1
    assert "has no segment.npy; say with --labels" in capsys.readouterr().err


def test_a_damaged_cache_is_made_again(tmp_path, capsys):
    data = put_rooms(tmp_path / "data", {"train": 1, "val": 1})
    words = ("probe", "--data", data, *TINY, "--seeds", "1", "--out", tmp_path / "out")
    assert run(*words) == 0
    whole = capsys.readouterr().out.split("encoding")[-1].split("\n", 1)[1]
    files = sorted((tmp_path / "out/cache").glob("*.npz"))
    files[0].write_bytes(files[0].read_bytes()[:-30])
    files[1].write_bytes(b"PK\x03\x04")
    assert run(*words) == 0
    again = capsys.readouterr().out
    assert again.count("encoding") == 2
    assert again.split("encoding")[-1].split("\n", 1)[1] == whole


def test_inputs_and_names(tmp_path):
    put_scene(tmp_path / "a/room", box_room(50))
    write_ply(tmp_path / "a/other.ply", box_room(count=50))
    assert [p.name for p in input_paths([tmp_path / "a"])] == ["other.ply", "room"]
    assert output_names([tmp_path / "x/room.ply", tmp_path / "y/room.ply"]) == ["room", "room_2"]
    put_scene(tmp_path / "rooms/train/one", box_room(50))
    put_scene(tmp_path / "rooms/val/two", box_room(50))
    (tmp_path / "rooms/out").mkdir()
    write_ply(tmp_path / "rooms/out/one_pca.ply", box_room(count=50))
    assert [p.name for p in input_paths([tmp_path / "rooms"], tmp_path / "rooms/out")] == ["one", "two"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"neither cloud files \(.*\) nor scene folders"):
        input_paths([tmp_path / "empty"])


def test_no_display_means_no_browser(tmp_path, monkeypatch, no_browser):
    monkeypatch.setattr(files, "has_display", lambda: False)
    assert "no display here" in files.show_page(tmp_path / "page.html", "<p>")
    assert no_browser == []


def _spec(html):
    return json.loads(re.search(r'class="pv-data"[^>]*>(.*?)</script>', html, re.S).group(1))

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_tools.clouds.io import read_cloud, write_ply
from data_tools.stages.scene_folder import write_scene
from lam3c_plugin.cli import main
from lam3c_plugin.encode.files import RECORD, FileSettings, encode_files, find_items, read_record
from lam3c_plugin.errors import DataError
from tests.encode.rooms import GRID, inputs, room, tiny

SETTINGS = FileSettings("tiny", grid_size=GRID)


@pytest.fixture
def data(tmp_path):
    """A scene folder in a split, a PLY and a broken file."""
    folder = tmp_path / "data"
    write_scene(folder / "train" / "scene0", room(2000, 0), {})
    write_ply(folder / "scan.ply", room(1500, 1))
    (folder / "broken.pcd").write_text("<html>Not found</html>")
    (folder / "notes.md").write_text("nothing to encode")
    return folder


def test_items_keep_their_places(data):
    names = [item.name for item in find_items([data], "npz")]
    assert names == ["broken.npz", "scan.npz", "train/scene0.npz"]
    assert [item.name for item in find_items([data / "train" / "scene0", data / "scan.ply"], "ply")] == [
        "scene0.ply",
        "scan.ply",
    ]
    assert find_items([data], "npz", out=data / "train")[-1].name == "scan.npz"  # results are no inputs
    with pytest.raises(DataError, match="both become scan"):
        find_items([data, data / "scan.ply"], "npz")
    with pytest.raises(DataError, match="does not exist"):
        find_items([data / "nowhere.ply"], "npz")
    (data / "empty").mkdir()
    with pytest.raises(DataError, match="holds neither cloud files"):
        find_items([data / "empty"], "npz")


def test_data_linked_from_elsewhere(data, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (data / "scan.ply").rename(store / "other.ply")
    (data / "scan.ply").symlink_to(store / "other.ply")
    (data / "train" / "again").symlink_to(data)  # a link to what is above it
    (data / "gone.ply").symlink_to(store / "gone.ply")
    names = [item.name for item in find_items([data], "npz")]
    assert names == ["broken.npz", "gone.npz", "scan.npz", "train/scene0.npz"]
    counts = encode_files(tiny(), find_items([data], "npz"), tmp_path / "out", SETTINGS, say=lambda text: None)
    assert counts == {"done": 2, "skipped": 0, "failed": 2}
    assert "does not exist" in read_record(tmp_path / "out")["gone.npz"]["error"]


def test_what_fails_is_recorded_and_what_is_done_is_skipped(data, tmp_path):
    out, said = tmp_path / "out", []
    items = find_items([data], "npz")
    assert encode_files(tiny(), items, out, SETTINGS, say=said.append) == {"done": 2, "skipped": 0, "failed": 1}
    assert len(said) == 1
    assert "broken.pcd" in said[0]
    record = read_record(out)
    assert record["broken.npz"]["ok"] is False
    assert record["scan.npz"]["channels"] == 360
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*")) == [RECORD, "scan.npz", "train/scene0.npz"]
    before = (out / "scan.npz").stat().st_mtime_ns
    assert encode_files(tiny(), items, out, SETTINGS, say=said.append) == {"done": 0, "skipped": 2, "failed": 1}
    assert (out / "scan.npz").stat().st_mtime_ns == before
    # other settings, an other input, a missing output, or the wish: done again
    other = FileSettings("tiny", grid_size=GRID, level=0)
    assert encode_files(tiny(), items[1:], out, other) == {"done": 2, "skipped": 0, "failed": 0}
    write_ply(data / "scan.ply", room(1200, 1))
    (out / "train" / "scene0.npz").unlink()
    assert encode_files(tiny(), items[1:], out, other) == {"done": 2, "skipped": 0, "failed": 0}
    assert encode_files(tiny(), items[1:], out, other, overwrite=True)["done"] == 2


def test_a_killed_run_leaves_a_record_that_can_be_read(data, tmp_path):
    out = tmp_path / "out"
    items = find_items([data / "scan.ply"], "npz")
    encode_files(tiny(), items, out, SETTINGS)
    with (out / RECORD).open("a") as file:
        file.write('{"output": "sc')
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = out / f".scan~{socket.gethostname()}-{dead.pid}.npz"
    left.write_bytes(b"half")
    other = out / f".scan~another.host-{dead.pid}.npz"
    other.write_bytes(b"still being written")
    assert encode_files(tiny(), items, out, SETTINGS)["skipped"] == 1
    assert encode_files(tiny(), items, out, SETTINGS, overwrite=True)["done"] == 1
    assert read_record(out)["scan.npz"]["ok"]
    assert not left.exists()
    assert other.exists()


def test_the_file_holds_the_features_of_the_points(data, tmp_path):
    items = find_items([data / "train" / "scene0"], "npz")
    cloud = room(2000, 0)
    expected = tiny().encode(*inputs(cloud), grid_size=GRID, level=1, dtype="float16")
    for per in ("point", "cell"):
        settings = FileSettings("tiny", grid_size=GRID, level=1, per=per)
        encode_files(tiny(), items, tmp_path / per, settings)
        with np.load(tmp_path / per / "scene0.npz") as stored:
            assert json.loads(str(stored["meta"]))["level"] == 1
            assert np.array_equal(stored["coord"], cloud.coord)
            assert np.array_equal(stored["segment"], cloud.segment)
            feat = stored["feat"] if per == "point" else stored["feat"][stored["inverse"]]
            assert feat.dtype == np.float16
            assert np.allclose(feat, expected, atol=0.01)  # reading files sets normals to length one again


def test_a_ply_has_the_colours_of_the_components(data, tmp_path):
    settings = FileSettings("tiny", grid_size=GRID, format="ply")
    encode_files(tiny(), find_items([data / "scan.ply"], "ply"), tmp_path, settings)
    cloud = read_cloud(tmp_path / "scan.ply")
    assert len(cloud) == len(room(1500, 1))
    assert cloud.color.std(axis=0).min() > 5


def test_the_command(data, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--random", "tiny", "--grid-size", str(GRID), "--device", "cpu", "--level", "0", "--chunk", "none"]
    assert main(["encode", str(data), "--out", str(out), *options]) == 1  # one is broken
    shown = capsys.readouterr()
    assert "2 encoded, 0 there already, 1 failed" in shown.out
    assert "broken.pcd" in shown.err
    assert "random weights" in shown.out
    name = re.search(r'numpy\.load\("(.*?)"\)', shown.out)[1]
    assert Path(name).is_file()  # of one that went well
    assert main(["encode", str(data / "scan.ply"), str(data / "train"), "--out", str(out), *options]) == 0
    with np.load(out / "scan.npz") as stored:
        assert stored["feat"].shape[1] == 128


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--random", "tiny", "--checkpoint", "x.pth"], "exclude each other"),
        (["--random", "tiny", "--chunk", "lots"], "give auto, none, or a number"),
        (["--random", "tiny", "--level", "9"], "give 'full' or a number"),
        (["--random", "tiny", "--grid-size", "0"], "give metres"),
        (["--random", "tiny", "--device", "abacus"], "unknown"),
        (["--checkpoint", "no/such/file.pth"], "no/such/file.pth"),
    ],
)
def test_wrong_options_are_one_line(data, tmp_path, capsys, options, message):
    assert main(["encode", str(data / "scan.ply"), "--out", str(tmp_path / "out"), *options]) == 1
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_told(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write to"):
        encode_files(tiny(), find_items([data / "scan.ply"], "npz"), tmp_path / "file", SETTINGS)

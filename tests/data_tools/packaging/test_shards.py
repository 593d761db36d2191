"""A data set to tar files and to the hub: whole, resumable, the same bytes, with its licence."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from data_tools import package
from data_tools.packaging import upload as upload_module
from data_tools.packaging.shards import parse_size
from data_tools.packaging.upload import parse_address
from data_tools.stages.files import write_json
from tests.data_tools.packaging.hub_server import serve_hub
from tests.rooms import box_room, put_scene

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def rooms(tmp_path):
    """A data set of ten scenes as the chain leaves it, in two splits, with a list."""
    folder = tmp_path / "rooms"
    for number in range(10):
        split = "val" if number == 9 else "train"
        scene = put_scene(folder / split / f"tour_{number:03d}", box_room(2000, seed=number))
        write_json(scene / "meta.json", {"backend": "pi3", "num_points": 2000, "arrays": ["coord"]})
        (scene / "preview.png").write_bytes(bytes(number))
    (folder / "_work" / "clouds").mkdir(parents=True)
    (folder / "train" / "empty").mkdir()
    write_json(folder / "few.json", ["val/tour_009"])
    write_json(folder / "package_failures.json", [{"source": "x"}])
    return folder


def shard(folder, *more, size="250KB"):
    return package.main(["--shards", size, str(folder), *map(str, more)])


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "train").iterdir()}


def test_tar_files_hold_the_folders_with_index_checksums_and_licence(rooms, tmp_path, capsys):
    assert shard(rooms) == 0
    out = tmp_path / "rooms-shards"
    assert "1 folders without coord.npy" in capsys.readouterr().out
    files = tree(out)
    assert set(files) == {
        *(f"train/{number:05d}.{ending}" for number in range(3) for ending in ("tar", "json")),
        *("val/00000.tar", "val/00000.json", "README.md", "SHA256SUMS", "stats.json", "few.json"),
    }
    for name in filter(lambda name: name.endswith(".tar"), files):
        index = json.loads(files[name.replace(".tar", ".json")])
        assert index["size"] == len(files[name])
        for scene, places in index["scenes"].items():
            for file, (start, size) in places.items():
                assert files[name][start : start + size] == (rooms / Path(name).parent / scene / file).read_bytes()
        with tarfile.open(out / name) as tar:
            tar.extractall(tmp_path / "again" / Path(name).parent, filter="data")
    ours = {name: data for name, data in tree(rooms).items() if name.startswith(("train", "val"))}
    assert tree(tmp_path / "again") == ours
    assert subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=out, check=False).returncode == 0
    assert "license: cc-by-nc-4.0" in files["README.md"].decode()
    assert "whose weights are CC BY-NC 4.0" in files["README.md"].decode()


def test_what_is_whole_stays_and_what_is_damaged_or_changed_is_written_again(rooms, tmp_path, capsys):
    assert shard(rooms) == 0
    out = tmp_path / "rooms-shards"
    before, first = stamps(out), tree(out)
    assert shard(rooms, "--jobs", 2) == 0
    assert "0 done, 0 rejected, 0 failed, 4 as before" in capsys.readouterr().out
    assert stamps(out) == before
    tar = out / "train" / "00001.tar"
    tar.write_bytes(tar.read_bytes()[:-20000] + bytes(20000))  # a bad sector
    (out / "train" / "00002.json").unlink()
    assert shard(rooms) == 0
    assert "2 done" in capsys.readouterr().out
    assert tree(out) == first
    put_scene(rooms / "train" / "another")
    np.save(rooms / "train" / "tour_000" / "coord.npy", box_room(2000, seed=50).coord)
    (rooms / "train" / "tour_008" / "coord.npy").unlink()
    before = stamps(out)
    assert shard(rooms) == 0
    after, held = stamps(out), {path.name: read_scenes(path) for path in sorted((out / "train").glob("*.json"))}
    assert sorted(name for names in held.values() for name in names) == sorted(
        ["another", *(f"tour_{number:03d}" for number in range(8))]
    )
    kept = next(name for name, names in held.items() if "tour_004" in names)
    assert after[kept] == before[kept]
    assert not {name for name in after if after[name] != before.get(name)} & before.keys()  # a training may read those


def test_tar_files_of_other_scenes_stay(rooms, tmp_path, capsys):
    assert shard(rooms) == 0
    out = tmp_path / "rooms-shards"
    (out / "elsewhere").mkdir()
    (out / "elsewhere" / "00000.tar").write_bytes(b"not ours")
    before = tree(out)
    put_scene(tmp_path / "others" / "train" / "flat_000", box_room(2000))
    assert shard(tmp_path / "others", "--out", out) == 2
    assert "has none of its" in capsys.readouterr().err
    (rooms / "val").rename(tmp_path / "val")  # a disk that is not mounted, scenes deleted for space
    assert shard(rooms) == 2
    assert tree(out) == before


def read_scenes(path):
    return list(json.loads(path.read_text())["scenes"])


def test_a_kill_loses_nothing_and_the_next_call_goes_on(rooms, tmp_path):
    assert shard(rooms) == 0
    whole = tree(tmp_path / "rooms-shards")
    code = (
        "import sys, time; from data_tools import package; from data_tools.packaging import shards\n"
        "add = shards._add\n"
        "shards._add = lambda *given: (time.sleep(0.15), add(*given))[1]\n"
        f"sys.exit(package.main(['--shards', '250KB', {str(rooms)!r}, '--out', {str(tmp_path / 'torn')!r}]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    train = tmp_path / "torn" / "train"
    while not list(train.glob(".00001~*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sorted(path.name for path in train.glob("[!.]*")) == ["00000.json", "00000.tar"]
    before = stamps(tmp_path / "torn")["00000.tar"]
    assert shard(rooms, "--out", tmp_path / "torn") == 0
    assert tree(tmp_path / "torn") == whole
    assert stamps(tmp_path / "torn")["00000.tar"] == before


def test_wrong_sizes_addresses_and_folders_are_one_line(rooms, tmp_path, capsys):
    assert [parse_size(text) for text in ("2GB", "1.5 MB", "500kb")] == [2 * 10**9, 1_500_000, 500_000]
    assert parse_address("hf://datasets/me/rooms/a/b/") == ("me/rooms", "a/b")
    cases = {
        ("--shards", "2"): "number and a unit",
        ("--shards", "0GB"): "number and a unit",
        ("--shards", "2GB", "--out", str(rooms)): "a folder of their own",
        ("--shards", "2GB", "--out", str(rooms / "train")): "a folder of their own",
        ("--upload", "hf://me/rooms"): "hf://datasets/USER/NAME",
        ("--upload", "hf://datasets/me/rooms/../x"): "hf://datasets/USER/NAME",
        (str(tmp_path), "--shards", "2GB"): "one folder",
    }
    for argv, words in cases.items():
        assert package.main([str(rooms), *argv]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1
    (tmp_path / "nothing").mkdir()
    assert package.main(["--shards", "2GB", str(tmp_path / "nothing")]) == 2
    assert not (tmp_path / "nothing-shards").exists()


@pytest.fixture
def hub(monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    with serve_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setenv("NO_PROXY", "*")
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        yield server


def test_a_card_that_names_another_licence_than_the_scenes_is_said(rooms, hub, capsys):
    for scene in rooms.glob("*/tour_*"):
        write_json(scene / "meta.json", {"backend": "sfm"})
    send = [str(rooms), "--upload", "hf://datasets/me/rooms"]
    assert package.main([*send, "--license", "LIMITED USE"]) == 0
    assert "license: other" in (rooms / "README.md").read_text()  # not mit
    assert "another licence" not in capsys.readouterr().out
    write_json(rooms / "train" / "tour_000" / "meta.json", {"backend": "pi3"})
    assert package.main(send) == 0
    assert "README.md names another licence than the scenes have" in capsys.readouterr().out


def test_an_upload_sends_all_once_and_goes_on_where_it_stopped(rooms, tmp_path, hub, capsys):
    hub.fail_after = 2
    send = [str(rooms), "--shards", "250KB", "--upload", "hf://datasets/me/rooms/v1"]
    assert package.main(send) == 1
    assert "start it again: what is there stays" in capsys.readouterr().err
    sent = set(hub.stored)
    assert len(sent) == 2
    hub.fail_after = None
    hub.requests.clear()
    assert package.main(send) == 0
    files = {f"v1/{name}": data for name, data in tree(tmp_path / "rooms-shards").items()}
    assert hub.files == files
    assert {path.rpartition("/")[2] for method, path in hub.requests if method == "PUT"} == set(hub.stored) - sent
    hub.requests.clear()
    assert package.main(send) == 0
    assert hub.count("POST", "/commit/") == hub.count("PUT", "") == 0
    assert "license: cc-by-nc-4.0" in hub.files["v1/README.md"].decode()


def test_folders_are_sent_as_they_are_without_work_and_hidden_files(rooms, tmp_path, hub, monkeypatch, capsys):
    (rooms / "train" / ".hidden").mkdir()
    for name in ("_work/clouds/a.ply", "train/.hidden/a.npy", ".lock"):
        (rooms / name).write_bytes(b"x")
    assert package.main([str(rooms), "--upload", "hf://datasets/me/rooms", "--license", "mit"]) == 0
    ours = {name: data for name, data in tree(rooms).items() if not name.startswith(("_work", ".", "train/."))}
    assert hub.files == ours
    assert "license: mit" in hub.files["README.md"].decode()
    (rooms / "_work").rename(tmp_path / "elsewhere")
    (rooms / "_work").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(upload_module, "MANY", len(ours))
    capsys.readouterr()
    assert package.main([str(rooms), "--upload", "hf://datasets/me/rooms"]) == 0  # what is not sent may be a link
    assert "files; the hub takes" not in capsys.readouterr().out  # and does not count
    (rooms / "train" / "linked").symlink_to(tmp_path)
    assert package.main([str(rooms), "--upload", "hf://datasets/me/rooms"]) == 1
    assert "linked: a link to a folder is not sent" in capsys.readouterr().err


def test_nobody_logged_in_and_a_hub_that_is_not_there_are_one_line(rooms, hub, monkeypatch, capsys):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert package.main([str(rooms), "--upload", "hf://datasets/me/rooms"]) == 1
    assert "check name, rights and connection" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert package.main([str(rooms), "--upload", "hf://datasets/me/rooms"]) == 1
    assert "hf auth login" in capsys.readouterr().err

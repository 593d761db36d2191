"""The atomic write: whole or not there, whoever writes and whatever happens."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from data_tools.stages.files import (
    PARTIAL,
    clean_partial,
    remove_leftovers,
    replacing,
    replacing_folder,
    take_place,
    write_json,
    write_text,
)


def test_a_file_is_replaced_whole_and_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_json(path, {"b": "ü", "a": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1, "b": "ü"}
    assert path.read_text(encoding="utf-8").endswith("\n")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["b.json"]


@pytest.mark.parametrize("durable", [False, True])
def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, durable):
    path = tmp_path / "kept.npy"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="halfway"), replacing(path, durable) as partial:  # noqa: PT012
        partial.write_bytes(b"half")
        assert partial.suffix == ".npy"
        raise RuntimeError("halfway")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_hosts_do_not_meet(tmp_path, monkeypatch):
    names = []
    for host in ("one", "two"):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        with replacing(tmp_path / "x") as partial:
            names.append(partial.name)
            partial.write_text(host)
    assert len(set(names)) == 2


def test_a_folder_is_replaced_whole_or_stays(tmp_path):
    folder = tmp_path / "train" / "room"
    for text in ("old", "new"):
        with replacing_folder(folder, tmp_path) as partial:
            assert partial.parent == tmp_path / PARTIAL
            (partial / text).write_text(text)
    with pytest.raises(RuntimeError, match="halfway"), replacing_folder(folder, tmp_path) as partial:  # noqa: PT012
        (partial / "half").write_text("half")
        raise RuntimeError("halfway")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "train",
        "train/room",
        "train/room/new",
    ]


def test_only_what_the_dead_left_is_removed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    here, dead, mine = socket.gethostname(), process.pid, os.getpid()
    left = [f".x~{here}-{dead}.npz", f".x~far.example.org-{mine}.npz"]
    stay = [f".x~{here}-{mine}.npz", f".y~other-host-{dead}.npz", ".mine~notes.txt", "x~y.npz"]
    for name in (*left, *stay):
        (tmp_path / name).touch()
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(tmp_path / left[1], (long_ago, long_ago))
    (tmp_path / PARTIAL / f"room~{here}-{dead}~old").mkdir(parents=True)
    assert remove_leftovers(tmp_path) == 2
    assert clean_partial(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(stay)
    assert remove_leftovers(tmp_path / "nowhere") == 0


def test_a_leftover_under_the_own_name_is_not_written_into(tmp_path):
    """Process numbers come again in containers; the leftover may be a second name of a checkpoint."""
    kept = tmp_path / "kept.pth"
    kept.write_text("kept")
    with replacing(tmp_path / "last.pth") as partial:
        name = partial.name
        partial.write_text("old")
    os.link(kept, tmp_path / name)
    with replacing(tmp_path / "last.pth") as partial:
        partial.write_text("new")
    assert kept.read_text() == "kept"


def test_what_was_there_comes_back_where_the_new_one_cannot_take_its_place(tmp_path):
    folder = tmp_path / "room"
    folder.mkdir()
    (folder / "coord.npy").touch()
    with pytest.raises(FileNotFoundError):
        take_place(tmp_path / "gone", folder, tmp_path / "old")
    assert [path.name for path in folder.iterdir()] == ["coord.npy"]

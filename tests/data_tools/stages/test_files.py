"""The atomic write: whole or not there, whoever writes and whatever happens."""

import json

import pytest

from data_tools.stages.files import replacing, write_json, write_text


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

"""Index files: what they may say, where from, and that they cannot take over names or files."""

import json

import pytest
import torch

from lam3c_plugin.checkpoints.weights import read
from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.zoo import add, added, entries, open_weights, resolve
from lam3c_plugin.zoo.card import Card
from lam3c_plugin.zoo.index import FORMAT, parse_entry
from lam3c_plugin.zoo.publish import write_folder
from tests.zoo.samples import TINY, same, tiny_state
from tests.zoo.servers import COMMIT, Site, serve

ENTRY = {
    "name": "their-base",
    "kind": "backbone",
    "summary": "theirs",
    "licence": "mit",
    "source": {"url": "https://example.invalid/a.safetensors"},
    "sha256": "AB" * 32,
    "scores": {"ScanNet LP": 70.5},
}


def index(path, *entries_, **extra):
    path.write_text(json.dumps({"format": FORMAT, "entries": list(entries_), **extra}))
    return str(path)


def test_an_entry_survives_its_json():
    entry = parse_entry(ENTRY, "x")
    assert entry.sha256 == "ab" * 32
    assert entry.free
    assert parse_entry(entry.to_json(), "x") == entry


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "Their Base"}, "lower-case"),
        ({"name": "../x"}, "lower-case"),
        ({"kind": "model"}, "not one of backbone, head"),
        ({"licence": ""}, "licence is missing"),
        ({"sha256": None}, "sha256 is missing; `sha256sum FILE`"),
        ({"sha256": "abc"}, "64 hexadecimal"),
        ({"source": None}, "has no source"),
        ({"source": {}}, "must be one of"),
        ({"source": {"url": "ftp://x/a"}}, "https://"),
        ({"source": {"hub": "a/b"}}, "with files"),
        ({"source": {"hub": "a/b", "files": ["../../x.pth"]}}, "names inside the repository"),
        ({"source": {"url": "https://x/a", "hub": "a/b", "files": ["c"]}}, "must be one of"),
        ({"source": {"uri": "https://x/a"}}, "unknown field 'uri'; did you mean 'url'"),
        ({"path": "/etc/passwd"}, "unknown field 'path'"),
        ({"licens": "mit"}, "did you mean 'licence'"),
        ({"config": [1]}, "config .* is not a dictionary"),
        ({"size": "big"}, "size 'big' is not a whole number"),
        ({"scores": {"ScanNet LP": "high"}}, "the score 'ScanNet LP' is 'high'"),
        ({"page": 5}, "page 5 is not a text"),
        ({"summary": "two\nlines"}, "in one line"),
        ({"summary": "\x1b[2Jgone"}, "control characters"),
        ({"source": {"hub": "a/b", "files": "c.pth"}}, "files 'c.pth' is not a list"),
        ({"source": {"hub": "a/b", "files": 5}}, "files 5 is not a list"),
    ],
)
def test_wrong_entries(change, said):
    content = {key: value for key, value in {**ENTRY, **change}.items() if value is not None}
    with pytest.raises(CheckpointError, match=said):
        parse_entry(content, "theirs.json")


def test_wrong_indexes(tmp_path):
    for text, said in (("<html>", "not a zoo index"), ("{}", '"format": "lam3c-zoo/1"'), ("[]", "not a zoo index")):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(CheckpointError, match=said):
            add(str(tmp_path / "a.json"))
    for place, said in (
        (index(tmp_path / "b.json"), "lists no entries"),
        (index(tmp_path / "c.json", ENTRY, ENTRY), "has their-base twice"),
        (index(tmp_path / "d.json", {**ENTRY, "name": "lam3c-ptv3-base"}), r"is taken \(shipped\)"),
        (index(tmp_path / "e.json", {**ENTRY, "source": {"path": "/etc/passwd"}}), "beside the index"),
        (index(tmp_path / "f.json", {**ENTRY, "source": {"file": "../x.pth"}}), "must be a name beside"),
        (index(tmp_path / "g.json", "x"), "not an object"),
        ("nothing here", "no file, folder"),
    ):
        with pytest.raises(CheckpointError, match=said):
            add(place)
    assert all(entry.origin == "shipped" for entry in entries())


def test_add_again_and_remove(tmp_path):
    place = index(tmp_path / "a.json", ENTRY)
    kept, _ = add(place)
    assert "their-base" in [entry.name for entry in entries()]
    index(tmp_path / "a.json", {**ENTRY, "summary": "better"})
    add(place)
    assert next(entry for entry in entries() if entry.name == "their-base").summary == "better"
    with pytest.raises(CheckpointError, match=r"their-base is taken \(.*a.json\)"):
        add(index(tmp_path / "b.json", ENTRY))
    assert added.remove("their-base") == kept
    with pytest.raises(CheckpointError, match="no added index"):
        added.remove("their-base")
    kept.write_text("{")
    with pytest.raises(CheckpointError, match="is damaged"):
        entries()


def test_an_index_in_a_hub_repository_is_pinned(tmp_path, monkeypatch):
    torch.save({"config": TINY, "state_dict": tiny_state()}, tmp_path / "a.pth")
    write_folder(read(tmp_path / "a.pth"), tmp_path / "hub", Card("their-model"))
    files = {path.name: path.read_bytes() for path in (tmp_path / "hub").iterdir()}
    with serve(Site(files, hub=True)) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        _, made = add("someone/their-model")
        assert (made[0].hub, made[0].revision, made[0].files) == ("someone/their-model", COMMIT, ("model.safetensors",))
        assert same(open_weights("their-model", yes=True).backbone, tiny_state())


def test_an_index_beside_its_files(tmp_path):
    torch.save({"config": TINY, "state_dict": tiny_state()}, tmp_path / "a.pth")
    write_folder(read(tmp_path / "a.pth"), tmp_path / "hub", Card("mine", licence="mit"))
    add(str(tmp_path / "hub"))
    path = resolve("mine")
    assert path == tmp_path / "hub/model.safetensors"  # where it lies, not a copy
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="is not the file that mine was at first"):
        resolve("mine")

"""Names become verified local files: Hub, mirror, folder, address; offline; locked to what came first."""

import io

import pytest
import torch

from lam3c_plugin.checkpoints.weights import read
from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.zoo import add, entries, open_weights, resolve, store
from lam3c_plugin.zoo.card import Card
from lam3c_plugin.zoo.publish import write_folder
from tests.zoo.samples import TINY, same, tiny_head, tiny_state
from tests.zoo.servers import COMMIT, Site, serve

BASE, PROBE = "lam3c-ptv3-base", "lam3c-ptv3-base-scannet-probe"
FILE = "lam3c_ptv3-base_roomtours49k.pth"
OLD = "lam3c_ptv3-base_roomtours49k_probe-head_scennet.pth"
NEW = OLD.replace("scennet", "scannet")


def packed(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


BACKBONE = packed({"config": TINY, "state_dict": tiny_state()})
OTHER = packed({"config": TINY, "state_dict": tiny_state(3)})
HEAD = packed({"config": {}, "state_dict": tiny_head()})


@pytest.fixture
def hub():
    site = Site({FILE: BACKBONE, OLD: HEAD}, hub=True)
    with serve(site) as site.address:
        yield site


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "usb"
    place.mkdir()
    (place / FILE).write_bytes(BACKBONE)
    (place / OLD).write_bytes(HEAD)
    return place


# --------------------------------------------------------------------------------------------------------------- names
def test_the_shipped_names():
    names = {entry.name: entry for entry in entries()}
    assert {BASE, PROBE, "lam3c-ptv3-large", "lam3c-ptv3-large-scannet-probe", "sonata-ptv3-base"} <= names.keys()
    assert names[PROBE].files == (NEW, OLD)
    assert names.pop("lam3c-tiny").licence == "mit"
    assert all(entry.licence == "cc-by-nc-4.0" for entry in names.values())
    assert "unpinned" in names[BASE].where


def test_paths_and_wrong_names(tmp_path, folder):
    assert resolve(folder / FILE) == folder / FILE
    assert resolve(folder / NEW) == folder / OLD  # the other spelling lies there
    for name, said in (
        ("lam3c-ptv3-bas", "did you mean 'lam3c-ptv3-base'"),
        ("backbone.pth", "checkpoint not found: backbone.pth"),
        (folder / "lam3c_ptv3.pth", f"did you mean {FILE}"),
        ("x/y", "lam3c zoo list"),
    ):
        with pytest.raises(CheckpointError, match=said):
            resolve(name)


# ----------------------------------------------------------------------------------------------------------------- Hub
def test_download_lock_and_cache(hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    path = resolve(BASE, yes=True)
    assert path.read_bytes() == BACKBONE
    assert "CC-BY-NC-4.0" in capsys.readouterr().err
    lock = store.read_lock(BASE)
    assert (lock.commit, lock.sha256, lock.size) == (COMMIT, store.sha256_of(path), len(BACKBONE))
    asked = len(hub.requests)
    assert resolve(BASE) == path  # no question, no request
    assert resolve(FILE) == path
    assert resolve(BASE, offline=True) == path
    assert len(hub.requests) == asked
    assert same(open_weights(BASE).backbone, tiny_state())
    (store.home() / f"locks/{BASE}.json").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve(BASE, ask=False) == path  # out of the Hub's own cache
    assert len(hub.requests) == asked


def test_the_old_spelling_is_found(hub):
    path = resolve(PROBE, source=hub.address, yes=True)  # --from URL: a mirror
    assert path.name == OLD
    assert read(path).kind == "head"


def test_a_dropped_connection(hub):
    hub.breaks, hub.break_at = 1, 5000
    assert resolve(BASE, source=hub.address, yes=True).read_bytes() == BACKBONE


def test_a_damaged_file_is_fetched_again_at_the_same_commit(hub, capsys):
    path = resolve(BASE, source=hub.address, yes=True)
    path.resolve().write_bytes(BACKBONE[:-5])
    again = resolve(BASE, source=hub.address, yes=True)
    assert again.read_bytes() == BACKBONE
    assert "is damaged" in capsys.readouterr().err
    assert any(f"/resolve/{COMMIT}/" in item[1] for item in hub.requests)


def test_a_changed_repository_is_not_taken_unasked(hub):
    path = resolve(BASE, source=hub.address, yes=True)
    path.unlink()
    hub.files[FILE] = OTHER
    with pytest.raises(CheckpointError, match=r"the first download had .* --update"):
        resolve(BASE, source=hub.address, yes=True)
    hub.commit = "b" * 40
    assert resolve(BASE, source=hub.address, yes=True, update=True).read_bytes() == OTHER
    assert store.read_lock(BASE).commit == "b" * 40


def test_an_update_that_fails_forgets_nothing(hub, zoo_home):
    path = resolve(BASE, source=hub.address, yes=True)
    lock = zoo_home / f"zoo/locks/{BASE}.json"
    known = lock.read_text()
    hub.files.clear()
    with pytest.raises(CheckpointError):
        resolve(BASE, source=hub.address, yes=True, update=True)
    assert lock.read_text() == known
    assert resolve(BASE) == path


def test_what_a_hub_can_answer(hub):
    def fails(said, **options):
        with pytest.raises(CheckpointError) as caught:
            resolve(BASE, **{"source": hub.address, "yes": True, **options})
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)

    hub.html = True
    fails("does not answer as a Hub does")
    hub.html, content = False, hub.files.pop(FILE)
    fails(f"has no {FILE}")
    hub.files[FILE] = b"<html>log in</html>"
    fails("HTML page")
    hub.files[FILE] = content
    assert resolve(BASE, source=hub.address, yes=True).read_bytes() == BACKBONE


def test_nobody_answers_and_offline(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's own tries
    with pytest.raises(CheckpointError, match=r"cannot reach .*127.0.0.1:9; check the connection.*--from DIR"):
        resolve(BASE, yes=True)
    with pytest.raises(CheckpointError, match="forbids the network"):
        resolve(BASE, offline=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE"):
        resolve(BASE, yes=True)


# ------------------------------------------------------------------------------------------------------------- licence
def test_nobody_there_to_agree(hub):
    with pytest.raises(CheckpointError, match=f"lam3c zoo download {BASE} --yes"):
        resolve(BASE, source=hub.address)
    assert hub.requests == []


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_person_is_asked_once(hub, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", Terminal("n\ny\n"))
    with pytest.raises(CheckpointError, match="was not agreed to"):
        resolve(BASE, source=hub.address)
    assert resolve(BASE, source=hub.address).exists()
    assert resolve(BASE, source=hub.address).exists()
    assert capsys.readouterr().err.count("Do you agree") == 2
    with pytest.raises(CheckpointError, match="nobody is here"):
        resolve(PROBE, source=hub.address, ask=False)


# ------------------------------------------------------------------------------------------------- folders, addresses
def test_from_a_folder(folder, zoo_home):
    path = resolve(BASE, source=folder)
    assert path.is_relative_to(zoo_home)
    assert path.read_bytes() == BACKBONE
    assert resolve(PROBE, source=folder, offline=True).name == OLD
    (folder / FILE).write_bytes(OTHER)
    assert resolve(BASE, source=folder).read_bytes() == BACKBONE  # it is here already
    path.unlink()
    with pytest.raises(CheckpointError, match="the first download had"):
        resolve(BASE, source=folder)
    with pytest.raises(CheckpointError, match=r"has no sonata\.pth"):
        resolve("sonata-ptv3-base", source=folder)


def test_an_index_over_https(tmp_path, zoo_home):
    weights = read(_file(tmp_path, BACKBONE))
    weights.head, weights.head_config = tiny_head(), {"backbone_out_channels": 96, "num_classes": 20}
    write_folder(weights, tmp_path / "hub", Card("their-model", licence="apache-2.0"))
    site = Site({path.name: path.read_bytes() for path in (tmp_path / "hub").iterdir()}, breaks=0)
    with serve(site) as address:
        _, made = add(f"{address}/lam3c-zoo.json")
        assert [entry.name for entry in made] == ["their-model", "their-model-head"]
        site.breaks = 1
        path = resolve("their-model")  # a free licence: nobody is asked
        assert path.is_relative_to(zoo_home)
        assert same(open_weights("their-model").backbone, tiny_state())
        assert same(open_weights("their-model-head").head, tiny_head())
        path.write_bytes(b"damage")
        assert same(open_weights("their-model").backbone, tiny_state())
        site.files["model.safetensors"] = OTHER
        path.unlink()
        with pytest.raises(CheckpointError, match=r"were expected|was expected"):
            resolve("their-model")
        assert list(path.parent.iterdir()) == []
    with pytest.raises(CheckpointError, match="forbids the network"):
        resolve("their-model", offline=True)


def test_a_page_without_a_type_is_no_checkpoint(tmp_path):
    from lam3c_plugin.zoo.index import Entry
    from lam3c_plugin.zoo.resolve import obtain

    with serve(Site({"a.pth": b"<html>log in</html>"})) as address:
        entry = Entry("page", "backbone", "x", "mit", url=f"{address}/a.pth")
        with pytest.raises(CheckpointError, match="HTML page"):
            obtain(entry)
    assert store.read_lock("page") is None


def _file(folder, content):
    path = folder / "a.pth"
    path.write_bytes(content)
    return path


def test_a_damaged_lock_is_said(zoo_home):
    (zoo_home / "zoo/locks").mkdir(parents=True)
    (zoo_home / f"zoo/locks/{BASE}.json").write_text("{")
    with pytest.raises(CheckpointError, match="is damaged"):
        resolve(BASE)

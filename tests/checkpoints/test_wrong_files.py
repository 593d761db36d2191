"""What is no checkpoint, through every command that takes one: one line, not 0, nothing run, nothing half-written."""

import pickle
import zipfile

import numpy as np
import pytest
import torch

from data_tools.clouds.io import write_ply
from lam3c_plugin import cli
from lam3c_plugin.checkpoints.weights import read
from lam3c_plugin.zoo.publish import write
from tests.checkpoints.test_weights import Evil
from tests.rooms import box_room, put_rooms
from tests.zoo.samples import TINY, tiny_head, tiny_state

#: a config's wrong arguments; each is refused before memory is taken for it
CONFIGS = (
    {"enc_depths": [10**9, 1, 1]},
    {"enc_depths": [1, 1, 1]},  # a network that fits in, and is not the one trained
    {"enc_depths": None},
    {"enc_num_head": [0, 0, 0]},
    {"enc_num_head": [1, 2, 3.0]},
    {"enc_channels": [-3, 2, 1]},
    {"enc_patch_size": "x"},
    {"in_channels": 10**12},
    {"mlp_ratio": 1e30},
    {"qkv_bias": {}},
    {"stride": ["a", "b"]},
    {"order": ["spiral"]},
    {"mask_token": torch.ones(4)},
)


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    """A folder of wrong files beside a good checkpoint, a room and labelled rooms."""
    root = tmp_path_factory.mktemp("wrong")
    bad = root / "bad"
    bad.mkdir()
    write_ply(root / "room.ply", box_room(count=300))
    put_rooms(root / "data", {"train": 1, "val": 1})
    state = tiny_state()
    good = {"config": TINY, "state_dict": {**state, **tiny_head()}}
    torch.save(good, root / "good.pth")
    write(read(root / "good.pth"), root / "good.safetensors", "safetensors")
    whole, other = (root / "good.pth").read_bytes(), (root / "good.safetensors").read_bytes()
    texts = {"text.pth": b"hello\n" * 99, "page.pth": b"<html>404</html>", "empty.pth": b"", "zeros.pth": b"\0" * 999}
    cut = {"cut.pth": whole[: len(whole) // 2], "cut.safetensors": other[: len(other) // 2], "head.bin": other[:99]}
    deep = (200_001).to_bytes(8, "little") + b'{"a":' + b"[" * 199_996
    raw = {"deep.safetensors": deep, "raw.pth": pickle.dumps(Evil(root / "trap")), **texts, **cut}
    for name, content in raw.items():
        (bad / name).write_bytes(content)
    some = dict(list(state.items())[:20])
    less = {key: value for key, value in state.items() if key != "enc.enc2.block1.mlp.0.fc1.weight"}
    made = {
        "evil": {**good, "extra": Evil(root / "trap")},
        "resnet": {"state_dict": {"conv1.weight": torch.zeros(3, 3)}},
        "none": {"config": TINY, "state_dict": {}},
        "lacking": {"config": TINY},
        "list": [1, 2],
        "some": {"config": TINY, "state_dict": some},
        "less": {"config": TINY, "state_dict": less},
        "scalars": {"config": TINY, "state_dict": {key: torch.ones(()) for key in state}},
        "nan": {"config": TINY, "state_dict": {key: value * float("nan") for key, value in state.items()}},
        **{f"config{i}": {"config": {**TINY, **c}, "state_dict": state} for i, c in enumerate(CONFIGS)},
    }
    for name, content in made.items():
        torch.save(content, bad / f"{name}.pth")
    np.savez(bad / "arrays.npz", a=np.zeros(3))
    with zipfile.ZipFile(root / "good.pth") as source, zipfile.ZipFile(bad / "norecord.pth", "w") as target:
        for name in source.namelist():
            if not name.endswith("/data/3"):
                target.writestr(name, source.read(name))
    (bad / "folder").mkdir()
    (bad / "folder/notes.txt").write_text("no weights")
    (bad / "page").mkdir()
    (bad / "page/model.safetensors").write_text("<html>")
    (bad / "dangling.pth").symlink_to(root / "nowhere.pth")
    return root


SMALL = ("--grid-size", "0.2")
COMMANDS = {
    "info": ("zoo", "info", "BAD"),
    "verify": ("zoo", "verify", "BAD"),
    "convert": ("zoo", "convert", "BAD", "OUT/a.safetensors"),
    "publish": ("zoo", "publish", "BAD", "--out", "OUT/hub"),
    "publish-head": ("zoo", "publish", "GOOD", "--head", "BAD", "--out", "OUT/hub"),
    "add": ("zoo", "add", "BAD"),
    "encode": ("encode", "ROOM", "--checkpoint", "BAD", "--out", "OUT/e", *SMALL),
    "pca": ("pca", "ROOM", "--checkpoint", "BAD", "--out", "OUT/e", *SMALL),
    "similarity": ("similarity", "ROOM", "--checkpoint", "BAD", "--out", "OUT/e", *SMALL),
    "segment": ("segment", "ROOM", "--checkpoint", "BAD", "--out", "OUT/e", *SMALL),
    "segment-head": ("segment", "ROOM", "--checkpoint", "GOOD", "--head", "BAD", "--out", "OUT/e", *SMALL),
    "probe": ("probe", "--data", "DATA", "--checkpoint", "BAD", "--out", "OUT/e", *SMALL),
    "export": ("export", "--checkpoint", "BAD", "--torch-export", "OUT/a.pt2", *SMALL),
}
#: that only read what is there: a file with too few or NaN tensors is shown or converted as it is, and that is said
READERS = {"info", "convert"}
READABLE = {"less.pth", "nan.pth", "config7.pth", "config9.pth"}  # 95 % of the tensors fit


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_files_are_one_line_and_leave_nothing(wrong, tmp_path, capsys, monkeypatch, command):
    monkeypatch.setenv("LAM3C_TRUST_CHECKPOINTS", "1")  # for a run's own checkpoints; not for these
    names = {"GOOD": wrong / "good.pth", "ROOM": wrong / "room.ply", "DATA": wrong / "data"}
    files = sorted((wrong / "bad").iterdir())
    assert len(files) > 30
    for file in files:
        if command in READERS and file.name in READABLE:
            continue
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        words = [str({**names, "BAD": file}.get(word, word)) for word in COMMANDS[command]]
        code = cli.main([word.replace("OUT", str(out)) for word in words])
        printed = capsys.readouterr()
        text = printed.out if command == "verify" else printed.err
        assert code == 1, file.name
        assert len(text.strip().splitlines()) == 1, (file.name, text)
        assert text.startswith("wrong  " if command == "verify" else "error: "), (file.name, text)
        assert len(text) < 700, (file.name, text)
        assert file.stem in text, (file.name, text)
        assert not list(out.rglob("*")), file.name
    assert not (wrong / "trap").exists()


def test_what_readers_show_of_them(wrong, tmp_path, capsys):
    bad = wrong / "bad"
    assert cli.main(["zoo", "convert", str(bad / "nan.pth"), str(tmp_path / "a.pth")]) == 0
    assert "tensors hold NaN or infinite values" in capsys.readouterr().err
    assert cli.main(["zoo", "info", str(bad / "less.pth")]) == 0
    assert "1 missing" in capsys.readouterr().out

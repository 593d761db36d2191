"""Conversions keep every number and type; what cannot be written is said and leaves nothing behind."""

import itertools
import json

import pytest
import torch

from lam3c_plugin.checkpoints.architecture import guess_config
from lam3c_plugin.checkpoints.convert import tensors_digest
from lam3c_plugin.checkpoints.weights import read
from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.zoo.card import Card, entry_name
from lam3c_plugin.zoo.publish import check_sums, write, write_folder
from tests.zoo.samples import TINY, finetuned, same, shaped, tiny_head, tiny_state, training

CARD = Card("tiny", "a tiny one", scores={"ScanNet LP": 66.0})
NAMES = {"backbone": "a.pth", "safetensors": "a.safetensors", "folder": "hub", "segmentor": "s.pth"}


@pytest.fixture
def tuned(tmp_path):
    state = tiny_state()
    state["enc.enc0.block0.mlp.0.fc1.bias"] = state["enc.enc0.block0.mlp.0.fc1.bias"].bfloat16()
    state["embedding.stem.norm.weight"][0] = -0.0
    torch.save(finetuned(state, tiny_head()), tmp_path / "tuned.pth")
    return read(tmp_path / "tuned.pth", config=TINY)


def layout_parts(folder, layout):
    weights = read(folder / NAMES[layout], config=TINY)
    beside = {"backbone": "a_head.pth", "safetensors": "a_head.safetensors"}.get(layout)
    return weights.backbone, read(folder / beside).head if beside else weights.head


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(NAMES, 2)))
def test_round_trips_are_bit_exact(tmp_path, tuned, first, second):
    write(tuned, tmp_path / NAMES[first], first, CARD)
    middle = read(tmp_path / NAMES[first], config=TINY)
    middle.head, middle.head_config = layout_parts(tmp_path, first)[1], tuned.head_config
    write(middle, tmp_path / NAMES[second], second, CARD)
    backbone, head = layout_parts(tmp_path, second)
    assert same(backbone, tuned.backbone)
    assert same(head, tuned.head)
    assert torch.equal(backbone["embedding.stem.norm.weight"].view(torch.int32)[:1], torch.tensor([-(2**31)]).int())
    assert tensors_digest(middle) == tensors_digest(tuned)


def test_training_and_back(tmp_path):
    student, teacher = tiny_state(0), tiny_state(1)
    torch.save(training(student, teacher), tmp_path / "run.pth")
    for part, wanted in (("student", student), ("teacher", teacher)):
        weights = read(tmp_path / "run.pth", part=part, config=TINY)
        write(weights, tmp_path / "b.safetensors", "safetensors")
        write(read(tmp_path / "b.safetensors"), tmp_path / "again.pth", "training")
        content = torch.load(tmp_path / "again.pth", weights_only=True)["state_dict"]
        for owner in ("student", "teacher"):
            prefix = f"module.{owner}.backbone."
            assert same({key.removeprefix(prefix): content[key] for key in content if key.startswith(prefix)}, wanted)


def test_base_in_bfloat16_through_safetensors(tmp_path):
    state = {key: value.bfloat16() for key, value in shaped("ptv3_base_backbone_keys.json").items()}
    torch.save({"config": guess_config(state), "state_dict": state}, tmp_path / "a.pth")
    write(read(tmp_path / "a.pth"), tmp_path / "b.safetensors", "safetensors")
    weights = read(tmp_path / "b.safetensors")
    assert same(weights.backbone, state)
    assert weights.backbone_config == guess_config(state)


def test_the_hub_folder_is_complete(tmp_path, tuned):
    write_folder(tuned, tmp_path / "hub", CARD)
    names = ["model.safetensors", "head.safetensors", "config.json", "README.md", "lam3c-zoo.json"]
    assert check_sums(tmp_path / "hub") == names
    card = (tmp_path / "hub/README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-nc-4.0\nlibrary_name: lam3c-plugin\n")
    assert "| ScanNet LP | 66 |" in card
    assert "not for commercial use" in card
    config = json.loads((tmp_path / "hub/config.json").read_text())
    assert config["backbone"] == tuned.backbone_config
    assert config["head"] == {"backbone_out_channels": 96, "num_classes": 20}
    assert (tmp_path / "hub/model.safetensors").stat().st_mode & 0o077 == (
        tmp_path / "hub/README.md"
    ).stat().st_mode & 0o077
    write_folder(tuned, tmp_path / "hub", CARD)  # again over itself
    (tmp_path / "hub/config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="differs from SHA256SUMS"):
        check_sums(tmp_path / "hub")
    (tmp_path / "hub/config.json").unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        check_sums(tmp_path / "hub")
    (tmp_path / "hub/mine.txt").write_text("x")
    with pytest.raises(CheckpointError, match=r"holds other files \(mine.txt\)"):
        write_folder(tuned, tmp_path / "hub", CARD)


def test_what_cannot_be_written(tmp_path, tuned):
    config = {"num_classes": 20, "backbone_out_channels": 96, "class_names": tuple("abcdefghijklmnopqrst")}
    torch.save({"config": config, "state_dict": tiny_head()}, tmp_path / "head.pth")
    head = read(tmp_path / "head.pth")
    with pytest.raises(CheckpointError, match="a head without a backbone"):
        write(head, tmp_path / "a.pth", "backbone")
    write(head, tmp_path / "head.safetensors", "safetensors")
    again = read(tmp_path / "head.safetensors")
    assert same(again.head, tiny_head())
    assert again.head_config == head.head_config == {**config, "class_names": list("abcdefghijklmnopqrst")}
    tuned.head = None
    with pytest.raises(CheckpointError, match="has no head"):
        write(tuned, tmp_path / "a.pth", "segmentor")
    with pytest.raises(CheckpointError, match="not one of backbone"):
        write(tuned, tmp_path / "a.pth", "onnx")
    (tmp_path / "file").write_text("x")
    for layout, target in (("safetensors", "file/a.safetensors"), ("backbone", "file/a.pth"), ("folder", "file")):
        with pytest.raises(CheckpointError, match="file"):
            write(tuned, tmp_path / target, layout)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.endswith("tmp")) == []


def test_names():
    assert entry_name("My LAM3C (v2).pth") == "my-lam3c-v2-.pth"
    with pytest.raises(CheckpointError, match="--name"):
        entry_name("?")

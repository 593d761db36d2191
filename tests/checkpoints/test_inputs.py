"""Weights carry what they are fed with: the grid, the features, the names of classes; and everything reads it."""

import json
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_tools.clouds.io import write_ply
from lam3c_plugin.checkpoints.convert import save_tensors
from lam3c_plugin.checkpoints.run_config import checked_inputs, inputs_of
from lam3c_plugin.checkpoints.weights import read
from lam3c_plugin.encode import LAM3CBackbone, load
from lam3c_plugin.encode.heads import read_head, write_head
from lam3c_plugin.zoo import entries, shipped
from lam3c_plugin.zoo.publish import write
from tests.commands.run import run
from tests.rooms import box_room
from tests.zoo.samples import TINY, finetuned, tiny_head, tiny_state, training

ALL = ["coord", "color", "normal"]
TRANSFORM = [dict(type="GridSample", grid_size=0.04), dict(type="Collect", feat_keys=("coord", "color", "normal"))]


@pytest.fixture(autouse=True)
def zoo_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LAM3C_HOME", str(tmp_path / "home"))


@pytest.fixture
def checkpoint(tmp_path):
    """A run of 4 cm cells that ended in a fine-tuned model of 20 classes."""
    (tmp_path / "run/model").mkdir(parents=True)
    data = {"names": [f"thing {i}" for i in range(20)], "train": {"transform": TRANSFORM}}
    backbone = {**TINY, "enc_channels": TINY["enc_channels"]}
    (tmp_path / "run/config.py").write_text(f"data = {data!r}\nmodel = {dict(backbone=backbone)!r}\n")
    path = tmp_path / "run/model/model_last.pth"
    torch.save(finetuned(tiny_state(), tiny_head()), path)
    return path


def test_a_config_says_what_its_model_is_fed_with():
    nested = {"data": {"train": {"datasets": [{"transform": TRANSFORM}]}}}
    assert inputs_of(nested) == {"grid_size": 0.04, "features": ALL}
    views = [dict(type="Update", keys_dict=dict(grid_size=0.03)), dict(global_feat_keys=("global_color",))]
    assert inputs_of({"data": {"train": {"transform": views}}}) == {"grid_size": 0.03, "features": ["color"]}
    assert inputs_of({}) == inputs_of({"data": 3}) == {}
    assert checked_inputs({"grid_size": "0.02", "features": ["depth"], "class_names": 3}) == {}


@pytest.mark.parametrize("name", ["b.pth", "b.safetensors", "folder"])
def test_every_format_keeps_it(checkpoint, tmp_path, name):
    weights = read(checkpoint)
    assert weights.inputs == {"grid_size": 0.04, "features": ALL, "class_names": [f"thing {i}" for i in range(20)]}
    target = tmp_path / "elsewhere" / name
    target.parent.mkdir()
    layout = {"b.pth": "backbone", "folder": "folder"}.get(name, "safetensors")
    write(weights, target, layout)
    again = read(target)
    assert again.inputs == weights.inputs
    head = read(target.with_name(f"b_head{target.suffix}")) if name != "folder" else again
    assert head.head_config["class_names"][3] == "thing 3"
    assert load(target, device="cpu").grid_size == LAM3CBackbone(target).grid_size == 0.04


def test_a_training_layout_keeps_it(checkpoint, tmp_path):
    write(read(checkpoint), tmp_path / "start.pth", "training")
    assert read(tmp_path / "start.pth").inputs["grid_size"] == 0.04


def test_an_encoder_takes_its_own_grid_and_warns_of_another(checkpoint):
    encoder, room = load(checkpoint, device="cpu"), box_room(count=900)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = encoder.encode(room.coord, room.color, room.normal)
        assert np.array_equal(own, encoder.encode(room.coord, room.color, room.normal, grid_size=0.04))
    with pytest.warns(UserWarning, match=r"grid_size=0.02: these weights were trained on cells of 0.04 m"):
        encoder.encode(room.coord, room.color, room.normal, grid_size=0.02)
    assert "0.2 M parameters, 96 channels, cells of 0.04 m (as they were trained), on cpu" in repr(encoder)


def test_an_encoder_of_coordinates_and_colours(tmp_path):
    torch.save({"config": {**TINY, "in_channels": 6}, "state_dict": tiny_state(in_channels=6)}, tmp_path / "six.pth")
    encoder, room = load(tmp_path / "six.pth", device="cpu"), box_room(count=300)
    assert "taken as coord and color" in encoder.info.notes[0]
    feat = encoder.encode(room.coord, room.color, room.normal, grid_size=0.1)
    assert np.array_equal(feat, encoder.encode(room.coord, room.color, normals="zero", grid_size=0.1))


def test_commands_take_it_and_say_so(checkpoint, tmp_path, capsys):
    file, out = write_ply(tmp_path / "room.ply", box_room(count=900)), tmp_path / "out"
    words = ("segment", file, "--checkpoint", checkpoint, "--size", "80x60", "--out", out)
    assert run(*words) == 0
    shown = capsys.readouterr()
    assert "cells of 0.04 m (as they were trained)" in shown.out
    assert "thing " in shown.out
    assert shown.err == ""
    assert run(*words, "--grid-size", "0.02") == 0
    shown = capsys.readouterr()
    assert "warning: --grid-size 0.02: these weights were trained on cells of 0.04 m" in shown.err
    assert "cells of 0.02 m (they were trained on 0.04 m)" in shown.out


def test_a_head_keeps_its_grid(checkpoint, tmp_path, capsys):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 96)).astype(np.float32)
    head = write_head(tmp_path / "head.pth", weight, np.zeros(3, np.float32), ["a", "b", "c"], 0.02)
    assert read_head(str(head)).grid_size == 0.02
    file = write_ply(tmp_path / "room.ply", box_room(count=300))
    words = ("--checkpoint", checkpoint, "--head", head, "--size", "80x60", "--out", tmp_path / "out")
    assert run("segment", file, *words) == 0
    assert "was trained on features of cells of 0.02 m, and these are of 0.04 m" in capsys.readouterr().err


def test_weights_of_the_package_are_there_by_name(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "weights"
    folder.mkdir()
    save_tensors(tiny_state(), {"config": TINY}, folder / "lam3c-tiny.safetensors")
    (folder / "lam3c-tiny.json").write_text(json.dumps({"licence": "mit", "grid_size": 0.05, "plan": {}}))
    monkeypatch.setattr(shipped, "WEIGHTS", folder)
    assert entries()[0].free
    encoder = load(device="cpu")
    assert encoder.grid_size == load("lam3c-tiny", device="cpu").grid_size == 0.05
    assert encoder.backbone.state_dict().keys() <= load_file(folder / "lam3c-tiny.safetensors").keys()
    file = write_ply(tmp_path / "room.ply", box_room(count=300))
    assert run("pca", file, "--size", "80x60", "--out", tmp_path / "out") == 0
    assert "no --checkpoint given: the small weights of this package" in capsys.readouterr().out
    assert run("zoo", "list") == run("zoo", "verify") == run("zoo", "info", "lam3c-tiny") == 0
    assert "lam3c-tiny: SHA-256" in capsys.readouterr().out
    assert not (tmp_path / "home").exists()  # nothing is downloaded, nothing written


def test_a_pretraining_checkpoint_carries_it(tmp_path):
    content = training(tiny_state(), tiny_state(1))
    carried = inputs_of(
        {"model": {"backbone": {**TINY, "type": "PT-v3m2"}}, "data": {"train": {"transform": TRANSFORM}}}
    )
    torch.save({**content, "inputs": carried}, tmp_path / "copied.pth")
    weights = read(tmp_path / "copied.pth")  # away from its run: patches and curves leave no trace in tensors
    assert weights.inputs == {"grid_size": 0.04, "features": ALL}
    assert weights.backbone_config["enc_patch_size"] == list(TINY["enc_patch_size"])
    assert weights.backbone_config["order"] == list(TINY["order"])

"""The whole way on the embedded engine: pre-train, probe the encoder, test through scripts/test.sh."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data_tools.synthetic.rooms.generate import main as generate
from lam3c_plugin.checkpoints.weights import read
from lam3c_plugin.embedded.train import main as train
from lam3c_plugin.errors import Interrupted

ROOT = Path(__file__).resolve().parents[2]
SMALL = """
_base_ = ["{base}"]
save_path = "{run}"
max_steps = {steps}
device = "cpu"
num_threads = 2
epoch = eval_epoch = 3
"""
BACKBONE = "backbone=dict(enc_channels=(8, 16, 16, 24, 32), enc_num_head=(1, 1, 1, 2, 2), enc_depths=(1, 1, 1, 1, 1))"
PRETRAIN = f"""
from lam3c_plugin.recipes.pretrain import layerwise_learning_rates, view_transforms
param_dicts = layerwise_learning_rates((1, 1, 1, 1, 1), 0.002)
scheduler = dict(max_lr=[0.002] + [group["lr"] for group in param_dicts])
model = dict({BACKBONE}, head=dict(in_channels=72, hidden_channels=32, embed_channels=16, num_prototypes=32))
data = dict(train=dict(data_root="{{data}}", transform=view_transforms(0.1, max_size=800), loop=7))
epoch = eval_epoch = 10
del layerwise_learning_rates, view_transforms
"""
PROBE = f"""
from lam3c_plugin.recipes.downstream import train_transforms, val_transforms, vote_config
model = dict({BACKBONE}, backbone_out_channels=96)
data = dict(
    train=dict(data_root="{{data}}", transform=train_transforms(1.0, point_max=800, grid_size=0.1)),
    val=dict(data_root="{{data}}", transform=val_transforms(grid_size=0.1)),
    test=dict(data_root="{{data}}", test_cfg=vote_config(grid_size=0.1, turns=(0,), scales=())),
)
del train_transforms, val_transforms, vote_config
"""


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rooms")
    for split, number in (("train", 2), ("val", 1)):
        options = f"--num {number} --seed {number} --split {split} --points 3000 --noise clean --workers 1"
        generate(["--out", str(folder), *options.split()])
    return folder


def write(path, base, text, **names):
    names["base"] = ROOT / f"configs/lam3c/{base}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((SMALL + text).format(**names))
    return ["--config-file", str(path)]


def test_pretrain_probe_test(rooms, tmp_path):
    pretrained, probe = tmp_path / "pretrained", tmp_path / "exp/lam3c/probe"
    config = write(
        tmp_path / "pretrain.py", "pretrain-lam3c-v1m1-2-tiny", PRETRAIN, run=pretrained, data=rooms, steps=10
    )
    assert train(config) == 0
    weight = pretrained / "model/model_last.pth"
    student = torch.load(weight, weights_only=True)["state_dict"]
    copied = shutil.copy(weight, tmp_path / "copied.pth")  # away from its config.py
    assert read(copied).inputs == {"grid_size": 0.1, "features": ["coord", "color", "normal"]}

    config = write(
        tmp_path / "probe.py", "semseg-lam3c-v1m1-9a-tiny-synthetic-lin", PROBE, run=probe, data=rooms, steps=3
    )
    with pytest.raises(Interrupted):
        train([*config, "--options", f"weight={weight}", "stop_after_steps=2"])
    assert train(["--resume", str(probe)]) == 0  # EncoderLoader hands the whole run to the CheckpointLoader
    probed = torch.load(probe / "model/model_best.pth", weights_only=True)["state_dict"]
    kept = [name for name in probed if name.startswith("backbone.")]
    assert len(kept) > 50
    assert all(torch.equal(probed[name], student[f"student.{name}"]) for name in kept)  # frozen, and the student's
    log = (probe / "train.log").read_text()
    assert log.count("encoder tensors from") == 1
    assert "after 2 steps" in log

    # test.sh works in its own checkout: one with the runs of this test
    (tmp_path / "scripts").mkdir()
    for name in ("test.sh", "launch_env.sh"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts")
    for name in ("lam3c_plugin", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {**os.environ, "PYTHON": sys.executable, "LAM3C_ENGINE": "embedded"}
    done = subprocess.run(
        ["sh", str(tmp_path / "scripts/test.sh"), "-d", "lam3c", "-n", "probe", "-g", "1"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    scores = json.loads((probe / "result/scores.json").read_text())
    assert 0 < scores["allAcc"] <= 1
    assert scores["scenes"] == 1
    assert sum(entry["points"] for entry in scores["classes"].values()) > 1000
    assert f"allAcc {scores['mIoU']:.4f}/" in done.stderr
    assert scores["weight"].endswith("model_best.pth")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-h"], "usage: sh scripts/test.sh -n NAME"),
        (["-n", "none"], "error: there is no run exp/scannet/none"),
        (["-c", "lam3c/semseg-lam3c-v1m1-0a-scannet-li"], "near it: lam3c/semseg-lam3c-v1m1-0a-scannet-lin"),
        (["-c", "lam3c/semseg-lam3c-v1m1-0a-scannet-lin", "-w", "no.pth"], "error: -w no.pth: no such file or folder"),
    ],
)
def test_test_sh_says_what_is_wrong(arguments, words):
    environment = {**os.environ, "PYTHON": sys.executable, "LAM3C_ENGINE": "embedded"}
    done = subprocess.run(
        ["sh", str(ROOT / "scripts/test.sh"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert words in done.stdout + done.stderr
    assert (done.returncode == 0) == (arguments == ["-h"])

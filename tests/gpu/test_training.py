"""Two steps of the embedded engine on a device, hooks and checkpoint included, and a run that goes on."""

import json
import math

import numpy as np
import pytest
import torch

from benchmarks._clouds import furnished_room
from lam3c_plugin.embedded.train import main as train
from lam3c_plugin.errors import Interrupted
from tests.embedded.test_end_to_end import PRETRAIN, ROOT, SMALL

BASE = """
from lam3c_plugin.recipes.pretrain import view_transforms
data = dict(train=dict(data_root="{data}", transform=view_transforms(0.02, max_size=6000), loop=4))
epoch = eval_epoch = 4
batch_size = 2
num_worker = 2
del view_transforms
"""


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rooms")
    for number in range(4):
        scene, place = furnished_room(12_000, seed=number, spacing=0.03), folder / "train" / f"room{number}"
        place.mkdir(parents=True)
        for key in ("coord", "color", "normal"):
            np.save(place / f"{key}.npy", scene[key])
    return folder


def config(folder, rooms, device, steps=2, size="base"):
    """Base on a GPU, a network of a few thousand weights on the CPU."""
    full = device == "cuda" and size == "base"
    base = "pretrain-lam3c-v1m1-0-base" if full else "pretrain-lam3c-v1m1-2-tiny"
    names = dict(base=ROOT / f"configs/lam3c/{base}.py", run=folder / "run", steps=steps, data=rooms)
    text = (SMALL + (BASE if full else PRETRAIN)).format(**names)
    path = folder / "config.py"
    path.write_text(text.replace('device = "cpu"', f'device = "{device}"'))
    return ["--config-file", str(path)]


def state(folder):
    return torch.load(folder / "run/model/model_last.pth", weights_only=True)


@pytest.mark.parametrize("amp", [False, True], ids=["fp32", "bf16"])
def test_two_steps(device, rooms, tmp_path, amp):
    options = ["--options", f"enable_amp={amp}", "amp_dtype=bfloat16", "model.laplacian_loss.max_distance=0.2"]
    assert train([*config(tmp_path, rooms, device), *options]) == 0
    log = (tmp_path / "run/train.log").read_text()
    assert f"device: {device}" in log
    for trouble in ("no picture", "OnlineProbe is off", "no probe", "not finite", "skipped"):
        assert trouble not in log
    saved = state(tmp_path)
    assert saved["lam3c"]["step"] == 2
    assert all(bool(torch.isfinite(value).all()) for value in saved["state_dict"].values() if value.is_floating_point())
    first = json.loads((tmp_path / "run/monitor.jsonl").read_text().splitlines()[0])
    assert 0 < first["target_entropy"] <= 1
    assert first["edge_share"] > 0
    assert math.isfinite(first["effective_rank"])


def test_a_stopped_run_goes_on(device, rooms, tmp_path):
    """With the same batches, masks and rates; flash attention's gradients are not the same to the bit on a GPU."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    assert train(config(whole, rooms, device, 4, "tiny")) == 0
    with pytest.raises(Interrupted):
        train([*config(parts, rooms, device, 4, "tiny"), "--options", "stop_after_steps=2"])
    assert train(["--resume", str(parts / "run")]) == 0
    one, other = state(whole), state(parts)
    assert one["lam3c"]["step"] == other["lam3c"]["step"] == 4
    assert one["scheduler"]["last_epoch"] == other["scheduler"]["last_epoch"]
    wanted, found = (
        torch.cat([value.flatten().float() for value in item["state_dict"].values()]) for item in (one, other)
    )
    assert float((found - wanted).norm() / wanted.norm()) < (1e-7 if device == "cpu" else 1e-3)

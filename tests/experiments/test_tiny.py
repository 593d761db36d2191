"""``experiments/tiny``: rooms, trial, training, export and probes in one command, at sizes of seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from experiments.tiny import probe, rooms, run
from lam3c_plugin import load
from lam3c_plugin.embedded.config import Config
from lam3c_plugin.encode.heads import read_head
from lam3c_plugin.encode.models import build_encoder


def test_encoder_fits_five_megabytes():
    config = Config.fromfile(run.CONFIG)
    backbone = {key: value for key, value in config.model.backbone.items() if key != "type"}
    assert 2 * sum(p.numel() for p in build_encoder(backbone).parameters()) < 4.9e6  # the file's header has 0.02e6
    assert config.model.head.in_channels == sum(backbone["enc_channels"][2:])
    assert len(config.param_dicts) == sum(backbone["enc_depths"]) == len(config.scheduler.max_lr) - 1


def test_noise_and_density_are_mixed_over_all_kinds_of_rooms():
    made = rooms.pretrain_rooms(6 * 4 * 3)
    cells = {(room.index % 6, room.settings.noise, room.settings.points) for room in made}
    assert len(cells) == 6 * 3 * 3
    assert [room.settings.noise for room in made].count("pi3") == len(made) // 2
    seeds = {room.settings.seed for kind in rooms.PROBE_NOISE for room in rooms.probe_rooms(kind, "val", 3)}
    assert seeds == {rooms.SEEDS["val"]}


def test_raw_inputs_tell_a_plane_from_a_line():
    axis = np.linspace(0, 2, 60, dtype=np.float32)
    floor = np.stack(np.meshgrid(axis, axis, [0.0]), -1).reshape(-1, 3)
    pole = np.stack(np.meshgrid([5.0], [5.0], axis), -1).reshape(-1, 3)
    coord = np.concatenate([floor, pole]).astype(np.float32)
    normal = np.tile(np.float32([0, 0, 1]), (len(coord), 1))
    feat, cell = probe.raw_inputs((coord, np.full_like(coord, 255), normal))
    np.testing.assert_allclose(feat[cell, 0], coord[:, 2], atol=0.04)  # height above the floor, to a cell
    np.testing.assert_allclose(feat[:, 1:4], 1)
    spread = feat[cell, 7:]
    assert (spread[: len(floor), 0] < 1e-3).all()
    assert np.median(spread[: len(floor), 1]) > 0.03
    assert (spread[len(floor) + 20 :, 1] < 1e-3).all()


def test_card_says_what_the_committed_scores_say():
    root = Path(run.__file__).parents[2]
    scores = json.loads((root / "lam3c_plugin/weights/lam3c-tiny.json").read_text(encoding="utf-8"))["scores"]
    page = (root / "docs/lam3c-tiny.md").read_text(encoding="utf-8")
    assert probe.table(scores, "test") in page


@pytest.mark.slow
def test_one_command_makes_encoder_and_table(tmp_path, monkeypatch):
    for owner, name, value in (
        (rooms, "POINTS", (400, 600)),
        (rooms, "PROBE_POINTS", 600),
        (run, "PROBE_ROOMS", {"train": 32, "val": 2, "test": 2}),
        (run, "WARM_UP", 1),
        (run, "TRIAL", 3),
    ):
        monkeypatch.setattr(owner, name, value)
    argv = ["--out", str(tmp_path), "--minutes", "0.02", "--rooms", "3", "--workers", "1", "--device", "cpu"]
    argv += ["--options", "data.train.transform.2.max_size=300", "hooks.5.interval=1"]
    assert run.main(argv) == 0
    result = tmp_path / "result"
    files = {path.name: path for path in result.iterdir()}
    assert len(files) == 8
    assert all(path.stat().st_size < 16e6 for path in files.values())
    assert files["lam3c-tiny.safetensors"].stat().st_size < 5e6
    card = json.loads(files["lam3c-tiny.json"].read_text())
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert card["steps"] == plan["steps"] == max(1, int(1.2 * run.MARGIN / plan["seconds_per_step"]))
    found = card["scores"]["student"]["clean"]["test"]
    assert found["m_iou"] == pytest.approx(np.mean([value for value in found["iou"] if value is not None]))

    last = torch.load(tmp_path / "run" / "model" / "model_last.pth", weights_only=False)["state_dict"]
    for name, part in (("lam3c-tiny", "student"), ("lam3c-tiny-teacher", "teacher")):
        tensors = load_file(result / f"{name}.safetensors")
        assert {value.dtype for value in tensors.values()} == {torch.float16}
        key = "enc.enc2.block1.attn.qkv.weight"
        kept = next(value for full, value in last.items() if full.endswith(f"{part}.backbone.{key}"))
        torch.testing.assert_close(tensors[key], kept.half())
    encoder = load(result / "lam3c-tiny.safetensors", device="cpu")
    assert encoder.channels() == 400
    assert read_head(str(result / "head.pth")).weight.shape == (24, 400)

    before = {path.name: path.stat().st_mtime_ns for path in result.iterdir()}
    assert run.main(argv) == 0
    shutil.rmtree(tmp_path / "run")  # a result that was brought here from another machine
    assert run.main(argv) == 0
    assert {path.name: path.stat().st_mtime_ns for path in result.iterdir()} == before

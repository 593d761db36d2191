"""The table and verdict of the quick start, on logs made by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from lam3c_plugin import summary
from lam3c_plugin.host import Config, build_model
from lam3c_plugin.summary import LOSSES, print_summary, read_monitor, read_scalars
from tests.rooms import box_room, put_scene

ROOT = Path(__file__).resolve().parent.parent


def write_run(folder, steps=20, **changes):
    """Losses that fall from 2 to 1; ``changes`` gives a loss other values."""
    writer = SummaryWriter(folder)
    for step in range(1, steps + 1):
        for name in LOSSES:
            values = changes.get(name, np.linspace(2, 1, steps))
            writer.add_scalar(f"train_batch/{name}", values[step - 1], step)
    writer.close()


def write_monitor(folder, coverage):
    lines = [json.dumps({"step": step + 1, "coverage": value}) for step, value in enumerate(coverage)]
    (folder / "monitor.jsonl").write_text("\n".join(lines) + "\n")


def test_a_healthy_run(tmp_path, capsys):
    write_run(tmp_path)
    write_monitor(tmp_path, [0.2, 0.7])
    assert print_summary(tmp_path, 20, 10.0, 1.5)
    text = capsys.readouterr().out
    assert "NOT OK" not in text
    assert "20 steps, 10 s with start-up" in text
    assert "peak memory 1.50 GB" in text
    row = next(line for line in text.splitlines() if line.startswith("laplacian_loss"))
    ends = [float(value) for value in row.split()[1:]]
    assert ends == pytest.approx([np.linspace(2, 1, 20)[:2].mean(), np.linspace(2, 1, 20)[-2:].mean()], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "coverage", "verdict"),
    [
        ({"loss": np.linspace(1, 2, 20)}, [0.9], "total loss lower at the end"),
        ({"laplacian_loss": np.zeros(20)}, [0.9], "Laplacian term above 0 at every step"),
        ({"mask_loss": np.array([1.0] * 19 + [math.nan])}, [0.9], "mask_loss finite at every step"),
        ({}, [0.9, 0.5], "prototypes in use over the last steps: 50% > 50%"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, capsys, changes, coverage, verdict):
    write_run(tmp_path, **changes)
    write_monitor(tmp_path, coverage)
    assert not print_summary(tmp_path, 20, 10.0, 1.5)
    bad = [line.strip() for line in capsys.readouterr().out.splitlines() if "NOT OK" in line]
    assert bad == [f"[NOT OK] {verdict}"]


def test_a_resumed_run_is_one_series(tmp_path):
    for first in (1, 3):
        writer = SummaryWriter(tmp_path, filename_suffix=f".{first}")
        for step in range(first, first + 3):
            writer.add_scalar("train_batch/loss", step + 10 * first, step)
        writer.close()
    steps, values = read_scalars(tmp_path)["train_batch/loss"]
    assert steps.tolist() == [1, 2, 3, 4, 5]
    assert values[:2].tolist() == [11, 12]


def test_a_folder_without_logs_is_named(tmp_path):
    assert read_monitor(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="holds no TensorBoard events"):
        read_scalars(tmp_path)


def test_pictures_of_rooms_before_and_after(tmp_path):
    config = Config.fromfile(ROOT / "configs/lam3c/pretrain-lam3c-v1m1-2-tiny.py")
    run_dir = tmp_path / "run"
    put_scene(tmp_path / "data/train/room", box_room(300))
    (run_dir / "model").mkdir(parents=True)
    config.dump(run_dir / "config.py")
    torch.manual_seed(1)  # the picture before is of the weights of seed 0
    torch.save({"state_dict": build_model(config.model).state_dict()}, run_dir / "model/model_last.pth")
    ((cloud, before, after),) = summary._scene_pictures(run_dir, tmp_path / "data", 3).values()
    assert cloud.shape == before.shape == after.shape
    assert not np.array_equal(before, after)

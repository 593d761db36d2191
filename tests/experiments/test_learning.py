"""The path from rooms to results through the engine, at sizes of seconds; a killed pre-training; the command line."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.learning import engine, pretrain, results, terms, worker
from experiments.learning.jobs import prepare
from experiments.learning.plan import Job, digests, make_jobs
from experiments.learning.presets import PRESETS
from lam3c_plugin.embedded.config import Config, parse_value
from lam3c_plugin.embedded.registry import build_dataset
from lam3c_plugin.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {  # a network of a few thousand weights
    "model.backbone.enc_depths": (1, 1, 1, 1, 1),
    "model.backbone.enc_channels": (8, 8, 8, 16, 16),
    "model.backbone.enc_num_head": (1, 1, 1, 2, 2),
}
TINY = replace(
    PRESETS["smoke"],
    rows=("random", "full"),
    seeds=(3,),
    rooms=2,
    room_points=500,
    train_rooms=2,
    val_rooms=1,
    test_rooms=1,
    curve_rooms=(),
    shares=(0.5,),
    finetune_rows=("full", "scratch"),
    pretrain_options={
        "batch_size": 2,
        "model.head.in_channels": 40,
        "model.head.hidden_channels": 16,
        "param_dicts": [{"keyword": "block", "lr": 0.001}],
        "scheduler.max_lr": [0.001, 0.001],
        **OPTIONS,
    },
    finetune_options={
        "batch_size": 2,
        "model.backbone_out_channels": 8 + 8 + 8 + 16 + 16,
        **OPTIONS,
    },
    save_steps=1,
)


def do(out: Path, jobs: list[Job]) -> None:
    """The jobs one after the other in this process."""
    for job in jobs:
        prepare(out, job, digests(make_jobs(TINY))[job.id])
        assert worker.work(out, job.id) == 0


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("learning")
    do(folder, make_jobs(TINY))
    return folder


@pytest.fixture(scope="module")
def found(out) -> dict:
    return json.loads(json.dumps(results.collect(TINY, make_jobs(TINY), out, "python experiments/learning/run.py")))


def weights(out: Path, name: str = "model_last.pth", job: str = "full-3") -> dict[str, torch.Tensor]:
    return torch.load(out / "jobs" / job / "run/model" / name, weights_only=False)["state_dict"]


def test_the_results_have_the_schema(found):
    assert found["version"] == 1
    assert found["preset"] == "smoke"
    assert found["settings"]["pretrain_steps"] == 4
    assert found["settings"]["grid_size"] == 0.04
    assert len(found["classes"]) == 24
    assert found["machine"]["cores"] >= 1
    assert found["versions"]["torch"] == torch.__version__
    assert found["failed"] == found["open"] == []
    (run,) = found["pretrain"]
    assert (run["id"], run["row"], run["seed"], run["rooms"], run["noise"]) == ("full-3", "full", 3, 2, "pi3")
    assert run["steps"] == 4
    assert run["checkpoint"] == "jobs/full-3/run/model/model_last.pth"
    kinds = {(entry["source"], entry["step"], entry["probe"], entry["split"]) for entry in found["probe"]}
    sources = [("random-3", 0), ("full-3", 2), ("full-3", 4)]
    assert kinds == {
        (*source, probe, split) for source in sources for probe in ("linear", "knn") for split in ("val", "test")
    }
    tuned = {(entry["row"], entry["seed"], entry["share"], entry["split"]) for entry in found["finetune"]}
    assert tuned == {(row, 3, 0.5, split) for row in ("full", "scratch") for split in ("val", "test")}
    for entry in (*found["probe"], *found["finetune"]):
        present = [value for value in entry["iou"] if value is not None]
        assert len(entry["iou"]) == 24
        assert entry["m_iou"] == pytest.approx(np.mean(present))
        assert 0 <= entry["m_iou"] <= 1
        assert 0 <= entry["accuracy"] <= 1


def test_the_decay_in_the_results_is_the_best_on_validation(found):
    for entry in found["probe"]:
        if entry["probe"] == "linear":
            best = max(entry["decays"].values())
            assert entry["decays"][f"{entry['decay']:g}"] == best
            if entry["split"] == "val":
                assert entry["m_iou"] == best


def test_the_monitor_has_every_step_and_the_losses(found):
    monitor = found["pretrain"][0]["monitor"]
    assert monitor["step"] == [1, 2, 3, 4]
    for name in ("loss", "laplacian_loss", "consistency_loss", "coverage", "target_entropy", "effective_rank", "lr"):
        assert len(monitor[name]) == 4
        assert all(value is not None for value in monitor[name]), name


def test_the_random_row_is_where_the_pretraining_of_its_seed_starts(out, tmp_path):
    """Weights before the first step: one step at a learning rate of 0 changes nothing but the optimiser's state."""
    spec = next(job.spec for job in make_jobs(TINY) if job.id == "full-3")
    options = {**spec["options"], "scheduler.max_lr": [0.0, 0.0], "optimizer.lr": 0.0}
    spec = {**spec, "options": options, "steps": 2, "stops": []}
    pretrain.run(spec, tmp_path / "x", out=_linked(out, tmp_path))
    start = torch.load(tmp_path / "x/run/model/model_last.pth", weights_only=False)["state_dict"]
    random = weights(out, job="random-3")
    assert random.keys() == start.keys()
    assert all(torch.equal(random[key], start[key]) for key in random if key.startswith("student"))


def _linked(out: Path, folder: Path) -> Path:
    (folder / "data").symlink_to(out / "data")
    return folder


def test_a_killed_pretraining_goes_on_to_the_same_weights(out, tmp_path):
    """SIGKILL once the first checkpoints are there; what is left of it is done in this process."""
    _linked(out, tmp_path)
    job = next(job for job in make_jobs(TINY) if job.id == "full-3")
    folder = prepare(tmp_path, job, digests(make_jobs(TINY))[job.id])
    threads = str(torch.get_num_threads())  # sums of other threads are not the same to the bit
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LAM3C_ENGINE": "embedded", "OMP_NUM_THREADS": threads}
    command = [sys.executable, "-m", "experiments.learning.worker", str(tmp_path), job.id]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (folder / "run/model/model_last.pth").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "result.json").exists()
    assert 1 <= pretrain.steps_done(folder / "run") < 4
    assert worker.work(tmp_path, job.id) == 0
    for name in ("model_last.pth", "step_2.pth"):
        whole, torn = weights(out, name), weights(tmp_path, name)
        assert all(torch.equal(whole[key], torn[key]) for key in whole), name
    assert json.loads((folder / "result.json").read_text())["monitor"]["step"] == [1, 2, 3, 4]


@pytest.mark.parametrize(("rooms", "epochs"), [(200, 4), (50, 4), (7, 5)])
def test_few_rooms_are_passed_several_times_an_epoch(tmp_path, rooms, epochs):
    """400 steps of 2, a checkpoint every 100: as many epochs, give or take one, and not one for every pass."""
    spec = {"seed": 0, "steps": 400, "rooms": rooms, "noise": "pi3", "save_steps": 100, "options": {"batch_size": 2}}
    options = pretrain.run_options(spec, tmp_path / "run", tmp_path)
    steps = rooms * options["epoch"] // 2
    assert steps >= 97
    assert -(-400 // steps) == epochs


def test_a_finetuning_starts_from_its_source_and_scores_all_points(out):
    log = (out / "jobs/finetune-full-3-50/run/train.log").read_text()
    assert re.search(r"Started from \S+finetune-full-3-50/start.pth: (\d+) weights matched$", log, re.M)  # head too
    scratch = (out / "jobs/finetune-scratch-3-50/run/train.log").read_text()
    assert re.search(r"weights matched, 2 missing \(seg_head", scratch)  # the encoder alone
    assert "1 x 4 samples" in log  # half of two rooms, over and over for two steps of two
    config = Config.fromfile(out / "jobs/finetune-full-3-50/run/config.py")
    config.data.test.update(data_root=str(out / "data/labelled"), split="test")
    dataset = build_dataset(config.data.test)
    assert len(dataset) == 1
    scene = dataset[0]
    assert len(scene["fragment_list"]) == 1  # one pass a room
    (room,) = (out / "data/labelled/test").iterdir()
    assert len(scene["origin_segment"]) == len(np.load(room / "coord.npy"))
    assert sorted(np.unique(scene["inverse"])) == sorted(scene["fragment_list"][0]["index"].tolist())


def test_no_secret_place_of_this_machine_is_in_the_commands(out, found):
    (run,) = found["pretrain"]
    assert str(out) not in run["command"]
    assert str(ROOT) not in run["command"]
    assert "save_path=OUT/jobs/full-3/run" in run["command"]


@pytest.mark.parametrize(
    "value", ["a b", "train", "", "None", "true", "1e-3", "a,b", "x/y.json", 0.1, None, (1, 2), [{"a": 1}]]
)
def test_options_come_through_the_command_line(value):
    (word,) = engine.arguments("config.py", {"key": value})[3:]
    assert parse_value(word.partition("=")[2]) == value


@pytest.fixture
def learning():
    spec = importlib.util.spec_from_file_location("learning", ROOT / "experiments/learning/run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_says_what_is_done(learning, out, monkeypatch, capsys):
    monkeypatch.setitem(learning.PRESETS, "smoke", TINY)
    assert learning.main(["--preset", "smoke", "--out", str(out), "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{len(lines) - 1} done"
    assert learning.main(["--preset", "smoke", "--out", str(out), "--list", "--set", "pretrain_steps=5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "open    pretrain  full-3" in lines
    assert any(line.startswith("done    finetune  finetune-scratch-3-50") for line in lines)


def test_what_is_done_is_not_done_again_and_the_tables_are_written(learning, out, monkeypatch, capsys):
    monkeypatch.setitem(learning.PRESETS, "smoke", TINY)
    before = (out / "jobs/full-3/result.json").read_bytes()
    assert learning.main(["--preset", "smoke", "--out", str(out), "--tables"]) == 0
    said = capsys.readouterr().out
    assert f"{len(make_jobs(TINY))} of {len(make_jobs(TINY))} jobs were done before" in said
    assert (out / "jobs/full-3/result.json").read_bytes() == before
    assert "| full LAM3C |" in (out / "tables.md").read_text(encoding="utf-8")
    assert (
        json.loads((out / "results.json").read_text())["command"] == "python experiments/learning/run.py --preset smoke"
    )


@pytest.mark.parametrize("words", [["--jobs", "0"], ["--threads", "0"], ["--time-limit", "0"]])
def test_impossible_options(learning, tmp_path, words):
    with pytest.raises(ConfigError, match="at least 1"):
        learning.main(["--preset", "smoke", "--out", str(tmp_path), *words])


def test_two_runs_in_one_folder(learning, tmp_path):
    with learning.run_lock(tmp_path / ".lock"), pytest.raises(ConfigError, match=r"is at work here; .* another --out"):
        learning.main(["--preset", "smoke", "--out", str(tmp_path)])


def test_terms_are_measured_at_every_checkpoint_of_a_full_run(out, found):
    (entry,) = found["terms"]
    assert entry["row"] == "full"
    assert [item["step"] for item in entry["steps"]] == [2, 4]
    for item in entry["steps"]:
        assert set(item["terms"]) == {*terms.CLUSTERING, *terms.REGULARISERS}
        for value in item["terms"].values():
            assert value["share"] > 0
            assert -1 <= value["cosine"] <= 1

"""Whole runs as processes: one and two ranks, signals from outside, and errors of one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lam3c_plugin.checkpoints import keys
from lam3c_plugin.checkpoints.keys import read_checkpoint
from lam3c_plugin.embedded import train
from lam3c_plugin.embedded.engine import load_config, run_rank
from lam3c_plugin.embedded.engine.defaults import read_config
from lam3c_plugin.embedded.logger import get_root_logger
from lam3c_plugin.errors import run_main
from tests.embedded.fake_run import write_config

ROOT = Path(__file__).resolve().parents[2]


def environment(**extra):
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1", **extra}


def command(*arguments):
    return [sys.executable, "-m", "lam3c_plugin.embedded.train", *map(str, arguments)]


def run(*arguments, code=0, launcher=(), **extra):
    line = [*launcher, *command(*arguments)[1 if launcher else 0 :]]
    done = subprocess.run(line, env=environment(**extra), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr[-3000:]
    return done.stderr


def losses(folder):
    return (folder / "losses.txt").read_text().splitlines()


def weights(folder):
    state = read_checkpoint(folder / "run/model/model_last.pth")["state_dict"]
    return {key.removeprefix("module."): value for key, value in state.items()}


def stop_after(folder, lines, arguments, number):
    """Start a run, send it a signal once it has written so many losses; the exit code and what it said."""
    process = subprocess.Popen(
        command(*arguments), env=environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / "losses.txt").exists() and len(losses(folder)) >= lines:
            break
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def slow_hooks(folder):
    return [
        dict(type="CheckpointLoader"),
        dict(type="ModelHook"),
        dict(type="Interrupter", after=-1, slow=0.05),
        dict(type="Recorder", file=str(folder / "losses.txt")),
        dict(type="CheckpointSaver"),
    ]


FIXED = dict(
    data=dict(train=dict(type="FakeClouds", random_points=False)), model=dict(type="FakeModel", dropout=0.0, noise=0.0)
)


def test_two_ranks_train_as_one(tmp_path):
    """Equal clouds and no noise: two gloo ranks with half the batch each walk one rank's path, a pause included."""
    run_rank(load_config(write_config(tmp_path / "one", **FIXED)))
    two = ["--num-gpus", 2]
    said = run("--config-file", write_config(tmp_path / "two", **FIXED), *two, "--options", "stop_after_steps=10")
    assert "ranks: 2" in said
    assert said.count("stopped: stop_after_steps=10") == 1
    assert len(read_checkpoint(tmp_path / "two/run/model/model_last.pth")["lam3c"]["rng"]) == 2
    said = run("--resume", tmp_path / "two/run", *two)
    assert "not exactly" not in said
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for key, value in one.items():
        torch.testing.assert_close(value, two[key], rtol=1e-5, atol=1e-6)
    assert len(losses(tmp_path / "two")) == 2 * len(losses(tmp_path / "one"))  # every rank writes into it here


def test_two_ranks_accumulate_as_one(tmp_path):
    """Gradients of the micro-batches before the last are added up over the ranks with the last one's."""
    settings = dict(FIXED, gradient_accumulation_steps=2)
    run_rank(load_config(write_config(tmp_path / "one", **settings)))
    run("--config-file", write_config(tmp_path / "two", **settings), "--num-gpus", 2)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for key, value in one.items():
        torch.testing.assert_close(value, two[key], rtol=1e-5, atol=1e-6)


def test_two_ranks_stop_together(tmp_path):
    """The launcher gets the signal; both ranks finish the same step and one checkpoint is written."""
    file = write_config(tmp_path, hooks=slow_hooks(tmp_path), epoch=12)
    code, said = stop_after(tmp_path, 8, ["--config-file", file, "--num-gpus", 2], signal.SIGTERM)
    assert code == 143, said
    assert said.count("stopped: SIGTERM after") == 1
    assert "resume with: python -m lam3c_plugin.embedded.train --resume" in said
    steps = read_checkpoint(tmp_path / "run/model/model_last.pth")["scheduler"]["last_epoch"]
    assert 2 * steps == len(losses(tmp_path)) < 2 * 84


@pytest.mark.parametrize("workers", [0, 1])
def test_ctrl_c_from_outside(tmp_path, workers):
    file = write_config(tmp_path, hooks=slow_hooks(tmp_path), epoch=12, num_worker=workers)
    code, said = stop_after(tmp_path, 5, ["--config-file", file], signal.SIGINT)
    assert code == 130, said
    assert "stopped: Ctrl-C after" in said
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert last.endswith(f"resume with: python -m lam3c_plugin.embedded.train --resume {tmp_path / 'run'}")


def test_a_second_signal_ends_at_once(tmp_path):
    hooks = slow_hooks(tmp_path)
    hooks[2] = dict(type="Interrupter", after=1, slow=30.0)
    process = subprocess.Popen(
        command("--config-file", write_config(tmp_path, hooks=hooks)),
        env=environment(),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "stopping: finishing this step" in line:
            break
    time.sleep(0.7)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143
    process.stderr.close()


@pytest.mark.slow
def test_under_torchrun(tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0"]
    launcher += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0"]
    run("--config-file", write_config(tmp_path, **FIXED, epoch=1), launcher=launcher)
    assert len(read_checkpoint(tmp_path / "run/model/model_last.pth")["lam3c"]["rng"]) == 2


@pytest.mark.slow
def test_a_rank_s_error_is_one_line(tmp_path):
    file = write_config(tmp_path, data=dict(train=dict(type="FakeClouds", fail=True)), num_worker=2)
    said = run("--config-file", file, "--num-gpus", 2, code=1)
    assert "Traceback" not in said
    assert said.strip().splitlines()[-1] == "error: scene 'attic' has no coord.npy"


def call(capsys, *arguments):
    """The entry point in this process: its exit code and the last line it printed."""
    code = run_main(lambda: train.main([str(item) for item in arguments]))
    return code, capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("changes", "arguments", "words"),
    [
        (dict(model=dict(type="FakeModle")), [], "did you mean 'FakeModel'"),
        ({}, ["--num-gpus", 2, "--options", "batch_size=3"], "batch_size=3 does not divide by 2 ranks; take 4"),
        ({}, ["--machine-rank", "3"], "--machine-rank 3 must be one of 0"),
        ({}, ["--num-machines", "2"], "several machines need --dist-url"),
        ({}, ["--options", "weight=none.pth"], "checkpoint not found: none.pth"),
        ({}, ["--options", "save_path=/dev/null/run"], "cannot write the run folder /dev/null/run"),
        ({}, ["--options", "epoch"], "is not of the form key=value"),
        ({}, ["--options", "optimizer=None"], "optimizer=None must be a group of settings"),
        ({}, ["--options", "data.train=None"], "data.train=None must be a group of settings"),
        ({}, ["--options", "hooks=3"], "hooks=3 must be a list"),
        ({}, ["--options", "save_path="], "save_path='' must be the path of a folder"),
        ({}, ["--options", "optimizer.lr=None"], "optimizer.lr=None must be a number"),
        ({}, ["--options", "optimizer.lr=fast"], "optimizer.lr='fast': the config has"),
        ({}, ["--options", "optimizer.lr=-1"], "optimizer.lr=-1 must be a number, 0 or above"),
        ({}, ["--options", "optimizer.betas=3"], "optimizer.betas=3 must be a list"),
        ({}, ["--options", "clip_grad=-1"], "clip_grad=-1 must be a number above 0, or None"),
        ({}, ["--options", "clip_grad=0"], "clip_grad=0 must be a number above 0, or None"),
        ({}, ["--options", "data.train.transform=None"], "data.train.transform=None must be a list of transforms"),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, changes, arguments, words):
    code, last = call(capsys, "--config-file", write_config(tmp_path, **changes), *arguments)
    assert code == 1
    assert last.startswith("error: ")
    assert words in last


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("model.match_max_r=-1", "match_max_r must be a positive length in metres, got -1"),
        ("model.backbone.enc_depths=3", "model.backbone.enc_depths=3 must be a list of whole numbers"),
        ("model.backbone.enc_channels=(1.5,2)", "model.backbone.enc_channels=(1.5, 2) must be a list of whole numbers"),
        ("model.backbone.drop_path=2", "model.backbone.drop_path=2 must be from 0 to 1"),
        ("model.backbone.mlp_ratio=None", "model.backbone.mlp_ratio=None must be a number"),
    ],
)
def test_a_value_that_no_class_takes_is_told_before_there_is_a_folder(tmp_path, capsys, option, words):
    config = ROOT / "configs/lam3c/pretrain-lam3c-v1m1-2-tiny.py"
    code, last = call(capsys, "--config-file", config, "--options", f"save_path={tmp_path / 'run'}", option)
    assert (code, words in last, last.count("\n")) == (1, True, 0), last
    assert not (tmp_path / "run").exists()


def test_an_override_that_nothing_knows_is_told(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(get_root_logger(), "warning", said.append)
    read_config(write_config(tmp_path), {"nosuch.key": 3})
    assert said == ["override nosuch.key: neither the config nor the engine knows 'nosuch'"]


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        (dict(data=dict(train=dict(type="FakeClouds", fail=True))), []),  # data that are missing
        (dict(model=dict(type="FakeModle")), []),
        ({}, ["weight=none.pth"]),
        ({}, ["epoch=3", "eval_epoch=2"]),
    ],
)
def test_a_start_that_fails_blocks_no_later_one(tmp_path, capsys, changes, options):
    if changes.get("data"):  # the first batch of all
        changes = {**changes, "batch_size": 14}
    more = ["--options", *options] if options else []
    assert call(capsys, "--config-file", write_config(tmp_path, **changes), *more)[0] == 1
    assert not list((tmp_path / "run").glob("events*"))
    assert train.main(["--config-file", str(write_config(tmp_path, epoch=1))]) == 0


def test_a_run_stops_another_of_its_name(tmp_path, capsys):
    file = write_config(tmp_path, epoch=1)
    assert train.main(["--config-file", str(file)]) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    code, last = call(capsys, "--config-file", file)
    assert code == 1
    assert last.startswith(f"error: {tmp_path / 'run'} holds a run already: resume it with --resume")
    weight = tmp_path / "run/model/model_last.pth"
    assert "copy it first" in call(capsys, "--config-file", file, "--overwrite", "--options", f"weight={weight}")[1]
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    assert train.main(["--config-file", str(file), "--overwrite"]) == 0
    assert len(list((tmp_path / "run").glob("events*"))) == 1


def test_a_full_disk_ends_the_run_with_one_line(tmp_path, capsys, fill_disk):
    code, last = call(capsys, "--config-file", write_config(tmp_path), "--options", "stop_after_steps=7")
    assert (code, last.startswith("stopped: ")) == (0, True)
    before = (tmp_path / "run/model/model_last.pth").read_bytes()
    fill_disk(keys)
    code, last = call(capsys, "--resume", tmp_path / "run")
    assert code == 1
    assert last.startswith("error: cannot save ")
    assert "the disk is full; the previous checkpoint is intact" in last
    assert (tmp_path / "run/model/model_last.pth").read_bytes() == before


def test_missing_config_and_debug(tmp_path, capsys, monkeypatch):
    assert call(capsys, "--config-file", tmp_path / "no.py") == (
        1,
        f"error: config file not found: {tmp_path / 'no.py'}",
    )
    assert "name a config" in call(capsys)[1]
    monkeypatch.setenv("LAM3C_DEBUG", "1")
    run_main(lambda: train.main(["--config-file", "no.py"]))
    assert "Traceback" in capsys.readouterr().err

"""scripts/train.sh: where it finds configs and engines, what it hands on, and what it says when it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.embedded.fake_run import write_config

ROOT = Path(__file__).resolve().parents[2]

# Stands for Pointcept's tools/train.py: writes down what it was called with.
FAKE_HOST = """
import os, pathlib, sys
pathlib.Path("called.txt").write_text("\\n".join([os.environ["PYTHONPATH"], os.environ["LAM3C_ENGINE"], *sys.argv[1:]]))
"""


@pytest.fixture
def checkout(tmp_path):
    """A checkout in a folder with a space, with the fake run's config as configs/fake/tiny.py."""
    root = tmp_path / "my checkout"
    (root / "scripts").mkdir(parents=True)
    for name in ("train.sh", "test.sh", "launch_env.sh"):
        shutil.copy(ROOT / "scripts" / name, root / "scripts")
    for name in ("lam3c_plugin", "tests"):
        (root / name).symlink_to(ROOT / name)
    written = write_config(tmp_path / "written", epoch=2)
    (root / "configs/fake").mkdir(parents=True)
    shutil.copy(written, root / "configs/fake/tiny.py")
    return root


@pytest.fixture
def host(tmp_path):
    """A folder that looks like a Pointcept checkout."""
    (tmp_path / "host/tools").mkdir(parents=True)
    (tmp_path / "host/tools/train.py").write_text(FAKE_HOST)
    (tmp_path / "host/configs/scannet").mkdir(parents=True)
    (tmp_path / "host/configs/scannet/semseg.py").write_text("a = 1\n")
    return tmp_path / "host"


def sh(checkout, *arguments, code=0, **environment):
    clean = {key: value for key, value in os.environ.items() if key not in ("POINTCEPT_ROOT", "LAM3C_ENGINE")}
    environment = {**clean, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **environment}
    line = ["sh", str(checkout / "scripts/train.sh"), *arguments]
    done = subprocess.run(
        line, env=environment, cwd=checkout.parent, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == code, done.stderr[-2000:]
    return done.stdout + done.stderr


def test_trains_and_resumes_on_the_embedded_engine(checkout):
    options = ["--", "stop_after_steps=9", "model.width=6"]
    said = sh(checkout, "-c", "fake/tiny", "-n", "one", "-g", "1", *options, LAM3C_ENGINE="embedded")
    assert "resume with: sh scripts/train.sh -d fake -n one -g 1 -r true" in said
    said = sh(checkout, "-d", "fake", "-n", "one", "-g", "1", "-r", "true", LAM3C_ENGINE="embedded")
    assert "Resuming at epoch 2, batch 3, after 9 steps" in said
    assert "width = 6" in (checkout / "exp/fake/one/config.py").read_text() or "width=6" in said
    assert (checkout / "exp/fake/one/model/model_last.pth").is_file()


def test_a_run_is_neither_overwritten_nor_mixed(checkout):
    def train(*more, code=0):
        return sh(checkout, "-c", "fake/tiny", "-n", "one", "-g", "1", *more, code=code, LAM3C_ENGINE="embedded")

    run = checkout / "exp/fake/one"
    train("--", "model.widht=6", code=1)  # a failed start stands in nobody's way, and leaves no event file
    assert not list(run.glob("events*"))
    train()
    before = {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    said = train(code=1)
    cures = ("-r true", "-n", "-o true")
    assert said.splitlines()[-1].startswith("error: exp/fake/one holds a run already")
    assert all(cure in said for cure in cures)
    assert {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    train("-o", "true", "--", "epoc=3", code=1)  # a slip: the run is there still
    train("-o", "true", "-w", "exp/fake/one/model/model_last.pth", code=1)
    assert {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    train("-o", "true")
    assert len(list(run.glob("events*"))) == 1


def test_a_start_without_a_checkpoint_is_begun_anew_by_resume(checkout, host):
    run = checkout / "exp/fake/x"
    run.mkdir(parents=True)
    (run / "events.out.tfevents.1").write_bytes(b"x" * 88)  # the host's, of a start that failed
    sh(checkout, "-c", "fake/tiny", "-n", "x", "-g", "1", POINTCEPT_ROOT=str(host))
    (run / "events.out.tfevents.1").write_bytes(b"x" * 500)
    said = sh(checkout, "-c", "fake/tiny", "-n", "x", "-g", "1", code=1, POINTCEPT_ROOT=str(host))
    assert "exp/fake/x holds a run already" in said
    sh(checkout, "-c", "fake/tiny", "-n", "x", "-g", "1", "-m", "2", POINTCEPT_ROOT=str(host), NODE_RANK="1")
    assert list(run.glob("events*"))  # another machine of that run
    sh(checkout, "-c", "fake/tiny", "-n", "x", "-g", "1", "-r", "true", POINTCEPT_ROOT=str(host))
    assert not list(run.glob("events*"))


def test_pointcept_gets_the_host_s_arguments(checkout, host):
    (checkout / "weights").mkdir()
    (checkout / "weights/w.pth").write_text("")
    for flags in (["-c", "fake/tiny"], ["-d", "fake", "-c", "tiny"], ["-d", "fake", "-c", "tiny.py"]):
        weight = ["-w", "my checkout/weights/w.pth", "-n", "x", "-g", "2", "--", "epoch=3"]
        sh(checkout, *flags, *weight, POINTCEPT_ROOT=str(host))
        path, engine, *arguments = (checkout / "called.txt").read_text().splitlines()
        assert path.split(":")[:2] == [str(host), str(checkout)]
        assert engine == "pointcept"
        assert arguments == [
            *("--config-file", "configs/fake/tiny.py", "--num-gpus", "2", "--num-machines", "1"),
            *("--machine-rank", "0", "--dist-url", "auto", "--options", "save_path=exp/fake/x", "epoch=3"),
            *("resume=false", f"weight={checkout}/weights/w.pth"),
        ]
    assert not (host / "exp").exists()
    (checkout / "run/model").mkdir(parents=True)
    (checkout / "run/model/model_last.pth").write_text("")
    for folder, wanted in (("weights", "weights"), ("run", "run/model/model_last.pth")):  # of the Hub; a run's
        sh(checkout, "-c", "fake/tiny", "-g", "1", "-w", f"my checkout/{folder}", POINTCEPT_ROOT=str(host))
        assert (checkout / "called.txt").read_text().endswith(f"weight={checkout}/{wanted}")
    sh(
        checkout, "-c", "semseg", "-g", "1", POINTCEPT_ROOT="host"
    )  # the host's own config; a path as the caller sees it
    assert str(host / "configs/scannet/semseg.py") in (checkout / "called.txt").read_text()


def test_resume_on_pointcept(checkout, host):
    run = checkout / "exp/fake/x"
    (run / "model").mkdir(parents=True)
    (run / "model/model_last.pth").write_text("")
    (run / "config.py").write_text("a = 1\n")
    sh(checkout, "-d", "fake", "-c", "tiny", "-n", "x", "-g", "1", "-r", "true", POINTCEPT_ROOT=str(host))
    called = (checkout / "called.txt").read_text().splitlines()
    assert called[called.index("--config-file") + 1] == "exp/fake/x/config.py"
    assert called[-2:] == ["resume=true", "weight=exp/fake/x/model/model_last.pth"]


def test_several_machines_under_slurm(checkout, host, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("scontrol", "echo node7; echo node8"), ("getent", 'echo "10.0.0.7 node7"')):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    sh(
        checkout,
        *("-c", "fake/tiny", "-g", "8", "-m", "2"),
        POINTCEPT_ROOT=str(host),
        SLURM_NODELIST="node[7-8]",
        SLURM_NODEID="1",
        PATH=f"{tools}:{os.environ['PATH']}",
    )
    called = (checkout / "called.txt").read_text().splitlines()
    url = called[called.index("--dist-url") + 1]
    assert url.startswith("tcp://10.0.0.7:")
    assert 10000 <= int(url.rsplit(":", 1)[1]) < 30000
    assert called[called.index("--machine-rank") + 1] == "1"


@pytest.mark.parametrize(
    ("arguments", "code", "words", "environment"),
    [
        (["-h"], 0, "usage: sh scripts/train.sh -c CONFIG", {}),
        ([], 2, "usage: ", {}),
        (["-c", "fake/tny"], 1, "error: there is no config 'fake/tny'; near it: fake/tiny", {}),
        (["-d", "lam3c", "-c", "tiny"], 1, "error: there is no config 'tiny'; near it: fake/tiny", {}),
        (["-x"], 2, "sh scripts/train.sh -h shows the flags", {}),
        (["-c", "fake/tiny", "epoch"], 1, "error: 'epoch' is not of the form key=value", {}),
        (["-c", "fake/tiny", "-r", "yes"], 1, "error: -r yes: true or false", {}),
        (["-c", "fake/tiny", "-o", "yes"], 1, "error: -o yes: true or false", {}),
        (["-c", "fake/tiny", "-o", "true", "-r", "true"], 1, "give one of them", {}),
        (["-r", "true", "-n", "none"], 1, "error: nothing to resume: there is no exp/scannet/none", {}),
        (["-c", "fake/tiny", "-w", "no.pth"], 1, "error: -w no.pth: no such file", {}),
        (["-c", "fake/tiny", "-w", "lam3c-ptv3-bse"], 1, "did you mean 'lam3c-ptv3-base'", {}),
        (["-c", "fake/tiny", "-p", "no-python"], 1, "error: no Python interpreter 'no-python'", {}),
        (["-c", "fake/tiny"], 1, "error: LAM3C_ENGINE=pytorch is not one of", {"LAM3C_ENGINE": "pytorch"}),
        (["-c", "fake/tiny"], 1, "has no tools/train.py", {"POINTCEPT_ROOT": "my checkout"}),
        (["-c", "fake/tiny"], 1, "POINTCEPT_ROOT=nowhere is no folder", {"POINTCEPT_ROOT": "nowhere"}),
    ],
)
def test_says_what_is_wrong(checkout, arguments, code, words, environment):
    assert words in sh(checkout, *arguments, code=code, **environment)


@pytest.mark.parametrize("name", ["", ".", "..", "../../elsewhere", "a/../.."])
def test_a_name_that_would_delete_other_runs_is_refused(checkout, name):
    other = checkout / "exp/fake/other/model/model_last.pth"
    other.parent.mkdir(parents=True)
    other.touch()
    (checkout / "exp/fake/model").mkdir()
    (checkout / "exp/fake/model/model_last.pth").touch()
    said = sh(checkout, "-c", "fake/tiny", "-n", name, "-o", "true", "-g", "1", code=1)
    assert "names of folders are needed" in said
    assert other.exists()

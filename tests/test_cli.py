import argparse
import json
import os
import subprocess
import sys

import pytest

from lam3c_plugin import __version__, cli
from lam3c_plugin.commands import doctor, environment
from lam3c_plugin.errors import DataError
from tests.commands.fake_checkout import make_checkout

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(cli.__file__)))


def run_cli(*args, **variables):
    """``lam3c`` in a process of its own, as the console script runs it."""
    code = "import sys; from lam3c_main import main; sys.exit(main())"
    env = {**os.environ, "LAM3C_ENGINE": "auto", **variables}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [variables.get("PYTHONPATH"), ROOT]))
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *args], env=env, capture_output=True, text=True, check=False
    )


def fake_command(monkeypatch, function):
    parser = argparse.ArgumentParser(prog="lam3c")
    command = parser.add_subparsers(dest="command").add_parser("work")
    command.set_defaults(run=lambda args: function())
    monkeypatch.setattr(cli, "build_parser", lambda: parser)


def test_version_and_help(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"lam3c {__version__}\n"
    assert cli.main([]) == 0
    assert "doctor" in capsys.readouterr().out


def test_the_version_comes_without_pytorch_and_waiting_threads_sleep():
    scripts = "collect, segment, reconstruct, postprocess, package, report, build_roomtours"
    code = f"""
import os, sys, lam3c_main
sys.argv = ["lam3c", "--version"]
assert lam3c_main.main() == 0
assert not sys.modules.keys() & {{"torch", "numpy", "lam3c_plugin"}}
from data_tools import {scripts}
assert "torch" not in sys.modules  # so that what `run_main` sets is read
print(os.environ["OMP_WAIT_POLICY"])
"""
    for given, kept in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        env = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
        env |= {"PYTHONPATH": ROOT} | ({"OMP_WAIT_POLICY": given} if given else {})
        out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
        assert out == f"lam3c {__version__}\n{kept}\n"


def test_a_wrong_command_line_is_2(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["dotcor"])
    assert stop.value.code == 2
    assert "invalid choice: 'dotcor'" in capsys.readouterr().err


def test_project_errors_are_one_line(monkeypatch, capsys):
    def fail():
        raise DataError("no scenes\nin data")

    fake_command(monkeypatch, fail)
    monkeypatch.delenv("LAM3C_DEBUG", raising=False)
    assert cli.main(["work"]) == 1
    assert capsys.readouterr().err == "error: no scenes in data\n"
    monkeypatch.setenv("LAM3C_DEBUG", "1")
    assert cli.main(["work"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_bugs_keep_their_traceback_and_ctrl_c_is_130(monkeypatch, capsys):
    fake_command(monkeypatch, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["work"])

    def interrupted():
        raise KeyboardInterrupt

    fake_command(monkeypatch, interrupted)
    assert cli.main(["work"]) == 130


def test_doctor_in_words(capsys):
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "engine: embedded (LAM3C_ENGINE=embedded asks for it)" in text
    assert f"Python {sys.version.split()[0]}" in text
    assert "pre-train and use LAM3C on the embedded engine  ok" in text
    assert "LAM3C can run here." in text
    assert text.splitlines()[-1].startswith("next: ")


def test_doctor_as_json(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert report["engine"]["used"] == "embedded"
    assert report["libraries"]["torch"]["found"]
    assert report["machine"]["cpu_threads"] >= 1
    assert set(report["libraries"]) == set(environment.LIBRARIES)


def test_what_is_missing_for_what():
    libraries = {name: {"found": True, "version": "9.0", "problem": None} for name in environment.LIBRARIES}
    engine = {"asked": "auto", "used": "embedded", "problem": None, "pointcept": {"path": None}}

    def task(word):
        chosen = next(task for task in doctor.TASKS if word in task.title)
        return doctor._examine_task(chosen, libraries, engine)

    assert task("embedded")["status"] == "ok"
    libraries["torch"]["version"] = "2.4.1+cu121"
    assert task("embedded")["problems"] == ["torch 2.4.1+cu121 is older than 2.5"]
    assert task("embedded")["cure"] == 'pip install "torch>=2.5"'
    libraries["laspy"]["found"] = False
    assert task(".las")["problems"] == ["missing laspy"]
    assert task(".las")["cure"] == 'pip install "laspy[lazrs]"'
    libraries["spconv"]["problem"] = "ImportError: libcudart"
    assert task("inside Pointcept")["problems"] == [
        "missing pointcept",
        "spconv does not import (ImportError: libcudart)",
    ]
    engine["pointcept"] = {"path": "/p", "problem": "older than v1.6.0"}
    assert "older than v1.6.0" in task("inside Pointcept")["problems"]
    engine["pointcept"] = {"path": "/p", "problem": None, "missing": ["wandb"]}
    assert "it imports at start what is missing: wandb" in task("inside Pointcept")["problems"]


def test_every_need_is_examined():
    for task in doctor.TASKS:
        assert set(task.needs) <= {*environment.LIBRARIES, "pointcept"}


def test_a_broken_pointcept_is_told_and_is_an_error(tmp_path):
    train = "import wandb_that_is_not_there\n# gradient_accumulation_steps\n"
    folder = make_checkout(tmp_path, {"pointcept/engines/train.py": train}) / "pointcept"
    result = run_cli("doctor", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    assert "engine: none (LAM3C_ENGINE=auto): HostError" in result.stdout
    assert "wandb_that_is_not_there" in result.stdout
    assert f"Pointcept 1.7.0 or newer at {folder}" in result.stdout
    assert "gradient accumulation: yes, PG-v1m2: yes" in result.stdout
    assert "it imports at start what is missing: wandb_that_is_not_there" in result.stdout
    assert "LAM3C cannot run here" in result.stdout
    assert "Traceback" not in result.stderr


def test_a_wrong_engine_is_told(monkeypatch):
    result = run_cli("doctor", "--json", LAM3C_ENGINE="pontcept")
    report = json.loads(result.stdout)
    assert result.returncode == 1
    assert "LAM3C_ENGINE='pontcept' is not one of" in report["engine"]["problem"]

"""`benchmarks/gpu.py --dry`: every section runs on a CPU and finds what it should; what fails costs itself only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import _gpu_case, gpu

ROOT = Path(__file__).resolve().parents[2]


def found(section, tmp_path, seconds=60.0):
    rows = tmp_path / "rows.jsonl"
    assert gpu.main(["--section", section, "--rows", str(rows), "--seconds", str(seconds), "--dry"]) == 0
    result = _gpu_case.read_rows(rows)
    assert result["failures"] == []
    return result["tables"]


@pytest.fixture(autouse=True)
def without_a_card(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_the_step(tmp_path):
    tables = found("step", tmp_path)
    (name,) = (name for name in tables if name.startswith("step, bfloat16"))
    full, clustering = tables[name]
    assert (full["step"], clustering["step"]) == ("LAM3C", "clustering only")
    assert full["points"] == 2 * 300 + 4 * 100
    (work,) = tables["work of one step"]
    assert (
        0
        < work["sum TFLOP"]
        == pytest.approx(sum(work[f"{kind} TFLOP"] for kind in ("linear", "convolution", "attention")))
    )
    assert work["clustering products, TFLOP"] > 0
    assert any("lam3c_plugin/" in row["place"] for row in tables["waits of the host in one step"])
    assert tables["kernels of one step, by their own time"][-1]["kernel"] == "all"


def test_ptv3_and_the_plain_convolution_agree(tmp_path):
    tables = found("ptv3", tmp_path)
    (agreement,) = tables["agreement with ours"]
    assert agreement["features"] < 0.05
    assert agreement["gradients"] < 0.1
    assert [row["convolution"] for row in tables["PTv3 Base under bfloat16 autocast"]] == ["ours", "plain"] * 2


def test_losses_and_memory(tmp_path):
    (rows,) = found("losses", tmp_path).values()
    assert len(rows) == 6
    assert all(row["ours ms"] > 0 for row in rows)
    (tmp_path / "rows.jsonl").unlink()
    (rows,) = found("memory", tmp_path).values()
    assert [row["scenes"] for row in rows] == [1]


def test_the_loader(tmp_path):
    (row,) = found("loader", tmp_path)["loader"]
    assert row["samples/s"] > 0


def run(*words, timeout=120):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--dry", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def test_a_stopped_section_costs_itself_only(tmp_path):
    args = gpu.parse(["--dry", "--out", str(tmp_path)])
    with open(tmp_path / "log.txt", "w") as log:
        section = gpu.run_section("tests", 1.5, args, tmp_path, log)
    assert section["state"] == "stopped: its time was up"
    assert 1.5 <= section["seconds"] < 15
    done = run("--minutes", "0.000001", "--only", "memory,losses", "--out", str(tmp_path))
    assert done.returncode == 1, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert [section["state"] for section in results["sections"]] == ["skipped: no time is left"] * 2
    text = (tmp_path / "results.md").read_text()
    assert "## losses" in text
    assert "the figures mean nothing" in text


def test_unusable_options_are_refused(capsys):
    for words, message in ((["--only", "step,lossses"], "no section 'lossses'"), (["--minutes", "0"], "above 0")):
        with pytest.raises(SystemExit):
            gpu.main(words)
        assert message in capsys.readouterr().err


def test_a_failed_part_is_named_and_the_others_go_on(tmp_path):
    case = _gpu_case.Case("cpu", True, time.monotonic() + 5, tmp_path / "rows.jsonl")
    with case.trying("one"):
        raise ValueError("no such thing")
    with case.trying("other"):
        case.row("table", a=1, b=2.0)
    with open(case.file, "a") as file:
        file.write('{"table": "cut o')  # a kill in the middle of a line
    result = _gpu_case.read_rows(case.file)
    assert result["failures"] == ["one: ValueError: no such thing"]
    assert result["tables"] == {"table": [{"a": 1, "b": 2.0}]}
    section = {"name": "x", "title": "y", "state": "done", "seconds": 1.0, "allowed": 2.0, **result}
    text = _gpu_case.markdown({"run": {"machine": "m"}, "sections": [section]})
    assert "| 1 | 2 |" in text
    assert "**failed** one" in text


@pytest.mark.slow
def test_all_sections_of_the_command(tmp_path):
    done = run("--minutes", "12", "--out", str(tmp_path), timeout=800)
    results = json.loads((tmp_path / "results.json").read_text())
    assert done.returncode == 0, done.stdout[-3000:]
    assert [section["state"] for section in results["sections"]] == ["done"] * 7

"""Checkpoints are written while the run goes on: what was, whole or not at all, and no error is lost."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from lam3c_plugin.checkpoints.keys import read_checkpoint
from lam3c_plugin.embedded.engine import state
from lam3c_plugin.errors import CheckpointError

ROOT = Path(__file__).resolve().parents[2]


def weights(value):
    return {"state_dict": nn.Linear(2, 2).requires_grad_(False).state_dict(), "rest": [torch.full((3,), value), value]}


def test_the_step_goes_on_and_the_file_holds_what_was(tmp_path, monkeypatch):
    may_write, path, real = threading.Event(), tmp_path / "last.pth", state.save_atomic
    monkeypatch.setattr(state, "save_atomic", lambda *args: may_write.wait(30) and real(*args))
    saving, content = state.Saving(), weights(1.0)
    wanted = content["state_dict"]["weight"].clone()
    saving.start(content, path, ("best.pth",))
    content["state_dict"]["weight"].zero_()
    content["rest"][0].zero_()
    assert not path.exists()
    may_write.set()
    saving.finish()
    for file in (path, tmp_path / "best.pth"):
        found = read_checkpoint(file, mmap=True)
        assert torch.equal(found["state_dict"]["weight"], wanted)
        assert found["state_dict"]._metadata == content["state_dict"]._metadata
        assert found["rest"][0].tolist() == [1.0] * 3


def test_a_failed_write_is_told_at_the_next_and_keeps_the_file(tmp_path, monkeypatch, caplog):
    path, saving = tmp_path / "last.pth", state.Saving()
    saving.start(weights(1.0), path, ())
    saving.finish()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    saving.start(weights(2.0), path, ())
    with pytest.raises(CheckpointError, match="the disk is full; the previous checkpoint is intact"):
        saving.start(weights(3.0), path, ())
    saving.finish()  # told once, and nothing was begun
    saving.start(weights(4.0), path, ())
    with caplog.at_level(logging.ERROR):
        saving.give_up(logging.getLogger("saving"))
    assert "the disk is full" in caplog.text
    assert read_checkpoint(path)["rest"][1] == 1.0
    assert [file.name for file in tmp_path.iterdir()] == ["last.pth"]


def test_a_kill_while_writing_keeps_the_file(tmp_path):
    code = """
import sys, time, torch
from pathlib import Path
from lam3c_plugin.embedded.engine import state
path, saving = Path(sys.argv[1]), state.Saving()
saving.start({"step": 1}, path, ())
saving.finish()
def half(content, sink):
    sink.write(b"half a file")
    print("writing", flush=True)
    time.sleep(60)
torch.save = half
saving.start({"step": 2}, path, ())
time.sleep(60)
"""
    path = tmp_path / "last.pth"
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    process.stdout.close()
    assert read_checkpoint(path)["step"] == 1

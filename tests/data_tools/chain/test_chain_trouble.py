"""When the chain gives up: calls that hang, broken GPU contexts, failures that are all alike, missing GPUs."""

import pytest

from data_tools.chain import options
from data_tools.chain.journal import Row
from data_tools.chain.local import LocalExecutor
from data_tools.chain.trouble import Breaker, Clock
from data_tools.stages.gpu import GPU_SLOT, is_broken, use_gpu
from data_tools.stages.record import StageError
from tests.data_tools.chain import chain_fakes
from tests.data_tools.chain.chain_fakes import CALLS
from tests.data_tools.chain.chain_run import calls_made, make_videos, run_here, run_process, states


def test_a_call_may_take_half_an_hour_or_ten_medians():
    clock = Clock()
    assert clock.limit("reconstruct") == 1800
    for seconds in (100, 400, 300):
        clock.took("reconstruct", seconds)
    assert clock.limit("reconstruct") == 3000
    assert clock.limit("segment") == 1800


def test_failures_alike_in_a_row_stop_a_stage():
    breaker = Breaker(3)

    def tell(name, reason="no module named av", status="failed", stage="segment"):
        return breaker.tell(Row(stage, name, name, status, f"{name}: {reason}" if reason else ""))

    assert [tell("a"), tell("b"), tell("c", "", "done"), tell("d"), tell("e"), tell("f", "0 bytes")] == [[]] * 6
    assert tell("x", stage="reconstruct") == []
    assert tell("g") == tell("h") == []
    assert tell("i") == [("segment", "g"), ("segment", "h"), ("segment", "i")]
    assert "3 failures in a row were alike (i: no module named av)" in breaker.stopped["segment"]
    assert tell("j") == [("segment", "j")]  # was running still
    never = Breaker(0)
    assert not any(never.tell(Row("segment", "v", "v", "failed", "x")) for _ in range(99))


@pytest.mark.parametrize("kind", ["", " passing"])
def test_a_stage_that_fails_in_one_way_stops_and_leaves_the_rest_undone(tmp_path, monkeypatch, capsys, kind):
    texts = {f"v{i:02d}": f"room 1 same:needs-PyAV{kind}" for i in range(30)} | {"a": "room 1 1"}
    videos, out, calls = make_videos(tmp_path / "videos", **texts), tmp_path / "out", tmp_path / "calls"
    calls.mkdir()
    monkeypatch.setenv(CALLS, str(calls))
    assert run_here(monkeypatch, videos, "--out", out) == 1
    assert calls_made(calls)["segment"] == 21
    said = capsys.readouterr().err
    assert "segment stopped: 20 failures in a row were alike" in said
    assert [name for name, _ in states(out) if name != "a" and name != "a_000"] == []
    assert (out / "train/a_000/meta.json").is_file()  # the other stages went on
    for name in texts:
        (videos / f"{name}.mp4").write_text("room 1 1")
    assert run_here(monkeypatch, videos, "--out", out) == 0
    for name in texts:
        (videos / f"{name}.mp4").write_text(f"room 1 same:broken{kind}")
    assert run_here(monkeypatch, videos, "--out", out, "--alike", "0") == 1
    assert sum(row.status == "failed" for row in states(out).values()) == 31


def test_a_broken_gpu_context_costs_no_scene(tmp_path):
    videos, out = make_videos(tmp_path / "videos", a="room 6 1 cuda:1"), tmp_path / "out"
    done = run_process(videos, "--out", out, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    assert len(list((out / "train").iterdir())) == 6


def test_a_scene_that_always_breaks_its_context_is_recorded_and_the_others_finish(tmp_path):
    videos, out = make_videos(tmp_path / "videos", a="room 1 1 cuda-always", b="room 3 2"), tmp_path / "out"
    assert run_process(videos, "--out", out, "--jobs", 1).returncode == 1
    assert len(list((out / "train").iterdir())) == 3
    row = states(out)["a_000", "reconstruct"]
    assert (row.status, row.permanent) == ("failed", False)
    assert "CUDA error" in row.reason


def test_a_call_that_hangs_is_ended_and_recorded(tmp_path, monkeypatch):
    videos, out = make_videos(tmp_path / "videos", a="room 2 1 hang:0"), tmp_path / "out"
    monkeypatch.setattr(options, "usual_settings", chain_fakes.fake_settings)
    monkeypatch.setattr(LocalExecutor, "__init__", _with_clock(LocalExecutor.__init__))
    assert chain_fakes.main([str(videos), "--out", str(out), "--labels", "none", "--jobs", "1"]) == 1
    assert [path.name for path in (out / "train").iterdir()] == ["a_001"]
    row = states(out)["a_000", "reconstruct"]
    assert row.permanent
    assert "took longer than" in row.reason
    assert not list(out.rglob(".attempts"))


def _with_clock(init):
    def begin(self, *args, **named):
        init(self, *args, clock=Clock(4.0), **named)

    return begin


def test_a_worker_with_a_gpu_never_works_on_the_cpu_in_silence(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not use_gpu("auto")
    assert not use_gpu("cpu")
    with pytest.raises(StageError, match="PyTorch sees no GPU"):
        use_gpu("cuda")
    monkeypatch.setenv(GPU_SLOT, "0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert not use_gpu("cpu")
    with pytest.raises(StageError, match="was given GPU 3, and PyTorch sees none"):
        use_gpu("auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert use_gpu("auto")
    executor = LocalExecutor({}, 1, ["3"])
    assert [slot.env.get(GPU_SLOT) for slot in executor._slots] == [None, None, "3"]


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("pi3: CUDA error: device-side assert triggered", True),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", True),
        ("CUDA out of memory. Tried to allocate 2 GiB", False),
        ("40 points are left", False),
    ],
)
def test_what_breaks_a_context(text, broken):
    assert is_broken(text) is broken

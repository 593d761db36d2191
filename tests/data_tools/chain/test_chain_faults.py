"""The chain when things go wrong: kill -9 at any moment, dying workers, signals, a full disk, two runs at once."""

import errno
import os
import signal
import subprocess
import time

import numpy as np
import pytest

from data_tools.chain import folders
from tests.data_tools.chain.chain_fakes import CALLS, GPU
from tests.data_tools.chain.chain_run import command, environment, make_videos, run_here, run_process, states, tree

TEXTS = {"a": "room 2 1 slow:0.02", "b": "room 3 2 slow:0.02", "c": "room 2 3 reject:1", "d": "", "e": "room 1 no-room"}


def kill_and_resume(tmp_path, kills, seed):
    """Kill the chain again and again, each time a random while after its last new folder; then let it end."""
    rng = np.random.default_rng(seed)
    videos = make_videos(tmp_path / "videos", **TEXTS)
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    start = time.monotonic()
    assert run_process(videos, "--out", whole, "--deterministic").returncode == 1  # "d" is 0 bytes; without a GPU
    length = time.monotonic() - start
    hit = 0
    for _ in range(kills):
        argv, nowhere = command(videos, "--out", torn, "--deterministic", "--jobs", 2), subprocess.DEVNULL
        env = environment(**{GPU: "1"})
        process = subprocess.Popen(argv, stdout=nowhere, stderr=nowhere, env=env, start_new_session=True)
        time.sleep(rng.uniform(0.1, 0.8) * length)
        hit += process.poll() is None
        process.kill()  # the process that plans, alone: its workers have to go by themselves
        process.wait()
        if rng.random() < 0.8:  # forget part of what is done, so that there is work left to interrupt
            areas = ["train", "_work/rejected", "_work/clouds"][: rng.integers(1, 4)]
            done = sorted(path.name for path in (torn / "_work/clouds").glob("?_*"))
            for name in rng.permutation(done)[: len(done) // 2]:
                for area in areas:
                    folders.remove_folder(torn / area / str(name))
    assert run_process(videos, "--out", torn, "--deterministic", **{GPU: "1"}).returncode == 1
    assert tree(torn) == tree(whole)
    assert hit >= kills // 3
    again = run_process(videos, "--out", torn, "--deterministic")
    assert "nothing to do" in again.stdout


def test_killed_at_random_moments_and_resumed_the_output_is_the_same(tmp_path):
    kill_and_resume(tmp_path, kills=5, seed=0)


@pytest.mark.slow
def test_thirty_kills(tmp_path):
    kill_and_resume(tmp_path, kills=30, seed=1)


def test_a_worker_that_dies_takes_only_its_item(tmp_path):
    videos = make_videos(tmp_path / "videos", a="room 2 1 crash:0", b="room 2 2", c="room 1 3 once:0", d="room 1 bug:0")
    out, calls = tmp_path / "out", tmp_path / "calls"
    calls.mkdir()
    done = run_process(videos, "--out", out, "--jobs", 2, **{CALLS: str(calls)})
    assert done.returncode == 1
    assert sorted(path.name for path in (out / "train").iterdir()) == ["a_001", "b_000", "b_001", "c_000"]
    row = states(out)["a_000", "reconstruct"]
    assert "killed twice" in row.reason
    assert not row.permanent
    tries = [path.name for path in calls.iterdir() if path.name.startswith("reconstruct~a_000")]
    assert len(tries) == 2  # once among the others, once alone
    assert "IndexError" in states(out)["d_000", "reconstruct"].reason
    assert not list(out.rglob(".attempts"))


def test_a_time_limit_stops_the_run_and_the_next_goes_on(tmp_path):
    videos, out = make_videos(tmp_path / "videos", a="room 6 1 slow:0.3"), tmp_path / "out"
    argv = command(videos, "--out", out, "--jobs", 1)
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    wait_for(lambda: list((out / "_work/clouds").glob("a_*")), process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped by" in said
    assert len(list((out / "_work/clouds").glob("a_*"))) < 6
    assert not list(out.rglob(".attempts"))
    (videos / "a.mp4").write_text("room 6 1 slow:0.0")
    assert run_process(videos, "--out", out, "--jobs", 1).returncode == 0
    assert len(list((out / "train").iterdir())) == 6


def wait_for(condition, process, seconds=30.0):
    """Wait until a condition holds while a process runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_second_signal_ends_it_at_once_and_a_second_run_is_told_to_wait(tmp_path):
    videos, out = make_videos(tmp_path / "videos", a="room 2 1 slow:60"), tmp_path / "out"
    process = subprocess.Popen(
        command(videos, "--out", out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    wait_for(lambda: list((out / "_work/.attempts").rglob("a_000*")), process)
    for part in ((), ("--shard", "0/2")):
        other = run_process(videos, "--out", out, *part)
        assert other.returncode == 1
        assert f"process {process.pid} is at work here" in other.stderr
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "stopped: start it again" in said


def test_a_full_disk_stops_the_run_and_what_fits_is_kept(tmp_path, monkeypatch, capsys):
    videos, out = make_videos(tmp_path / "videos", a="room 1 1", b="room 1 2"), tmp_path / "out"
    real, full = np.save, [True]

    def save(path, array):
        if full[0] and "b_000" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, array)

    monkeypatch.setattr("data_tools.stages.scene_folder.np.save", save)
    assert run_here(monkeypatch, videos, "--out", out) == 1
    assert [path.name for path in (out / "train").iterdir()] == ["a_000"]
    assert "run stopped: postprocess b_000: No space left on device; make room" in capsys.readouterr().err
    assert ("b_000", "postprocess") not in states(out)  # undone, not failed
    assert not (out / "stats.json").exists()
    full[0] = False
    assert run_here(monkeypatch, videos, "--out", out) == 0
    assert len(list((out / "train").iterdir())) == 2


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_small_disk_fills_up_and_the_run_goes_on_after_it_grew(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        videos = make_videos(tmp_path / "videos", **{f"v{i}": "room 2 0" for i in range(4)})
        done = run_process(videos, "--out", disk / "out", "--jobs", 2)
        assert done.returncode == 1
        assert "No space left on device" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        assert run_process(videos, "--out", disk / "out", "--jobs", 2).returncode == 0
        assert run_process(videos, "--out", tmp_path / "whole", "--jobs", 2).returncode == 0
        assert tree(disk / "out") == tree(tmp_path / "whole")
    finally:
        subprocess.run(["umount", disk], check=False)


def test_an_attempt_that_was_given_up_cannot_overwrite_a_newer_one(tmp_path, monkeypatch):
    from data_tools.chain.worker import execute
    from tests.data_tools.chain.chain_fakes import FAKES

    videos, out = make_videos(tmp_path / "videos", a="room 1 1"), tmp_path / "out"
    seen = []
    monkeypatch.setitem(FAKES.functions, "reconstruct", _keep_call(FAKES.functions["reconstruct"], seen))
    assert run_here(monkeypatch, videos, "--out", out) == 0
    before = tree(out)
    zombie = execute(FAKES.functions, seen[0])  # a lost node wakes up and does its call to the end
    assert zombie.folder.is_dir()
    assert zombie.folder != seen[0].folder
    assert run_here(monkeypatch, videos, "--out", out) == 0  # clears what it left
    assert tree(out) == before


def _keep_call(function, seen):
    from dataclasses import replace

    def keep(call):
        seen.append(replace(call, folder=call.folder))
        return function(call)

    return keep

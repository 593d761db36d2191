"""The runner: order, processes at a time, failures, what is done, stops and going on. Its jobs are fakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from experiments.learning import worker
from experiments.learning.jobs import Outcome, Runner, digests, error_of, result_of
from experiments.learning.plan import Job
from experiments.learning.progress import START_UP, Forecast, describe
from lam3c_plugin.errors import Lam3cError

ROOT = Path(__file__).resolve().parents[2]
FAKE = """
import json, os, pathlib, signal, sys, time
out, job = sys.argv[1:3]
folder = pathlib.Path(out) / "jobs" / job
description = json.loads((folder / "job.json").read_text())
spec = description["spec"]
with (folder / "tries").open("a") as file:
    file.write("x")
def save(number, frame):
    (folder / "saved").write_text("half")
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, save)
with (pathlib.Path(out) / "diary").open("a") as file:
    file.write(f"+{job} {os.environ['OMP_NUM_THREADS']} {os.environ['LAM3C_PROOF_WORKERS']}\\n")
if spec.get("fail") and not (pathlib.Path(out) / "mended").exists():
    sys.exit("some words\\nerror: the roof leaks")
if not (folder / "saved").exists():
    time.sleep(spec.get("sleep", 0))
with (pathlib.Path(out) / "diary").open("a") as file:
    file.write(f"-{job}\\n")
(folder / "result.json").write_text(json.dumps({**description, "seconds": 1.0}))
"""


def job(name: str, *needs: str, alone: bool = False, **spec) -> Job:
    return Job(name, "probe", "full", spec, needs, alone=alone)


def run(out: Path, jobs: list[Job], slots: int = 2, **kwargs) -> Outcome:
    kwargs.setdefault("say", lambda text: None)
    return Runner(jobs, out, slots, worker=[sys.executable, "-I", "-S", "-c", FAKE], **kwargs).run()


def diary(out: Path) -> list[str]:
    return (out / "diary").read_text().splitlines()


def tries(out: Path, name: str) -> int:
    return len((out / "jobs" / name / "tries").read_text())


def test_jobs_run_after_their_needs_and_no_more_at_a_time(tmp_path):
    jobs = [job("a", sleep=0.2), job("b", "a"), job("c", sleep=0.2), job("d", sleep=0.2), job("e", "b", "c")]
    outcome = run(tmp_path, jobs)
    assert sorted(outcome.done) == list("abcde")
    lines = diary(tmp_path)
    busy = most = 0
    for line in lines:
        busy += 1 if line.startswith("+") else -1
        most = max(most, busy)
    assert most == 2
    assert lines.index("-a") < lines.index("+b 1 1")
    assert max(lines.index("-b"), lines.index("-c")) < lines.index("+e 1 1")


def test_a_job_alone_has_all_processes_and_none_beside_it(tmp_path):
    jobs = [job("a", sleep=0.2), job("whole", alone=True), job("b")]
    run(tmp_path, jobs, slots=3, threads=2)
    lines = diary(tmp_path)
    start = lines.index("+whole 2 6")
    assert lines[start - 1] == "-a"
    assert lines[start + 1] == "-whole"


def test_a_failed_job_is_recorded_the_rest_goes_on_and_a_second_run_tries_it_again(tmp_path):
    jobs = [job("bad", fail=True), job("heir", "bad"), job("good")]
    expected = digests(jobs)
    outcome = run(tmp_path, jobs)
    assert outcome.done == ["good"]
    assert outcome.failed == {"bad": "the roof leaks (exit code 1)", "heir": "needs bad, which failed"}
    assert error_of(tmp_path, jobs[0], expected["bad"]) == outcome.failed["bad"]
    (tmp_path / "mended").touch()
    outcome = run(tmp_path, jobs)
    assert sorted(outcome.done) == ["bad", "good", "heir"]
    assert not outcome.failed
    assert error_of(tmp_path, jobs[0], expected["bad"]) is None
    assert (tries(tmp_path, "bad"), tries(tmp_path, "good")) == (2, 1)


def test_a_job_that_ends_well_without_a_result_has_failed(tmp_path):
    runner = Runner([job("a")], tmp_path, 1, say=lambda text: None, worker=[sys.executable, "-c", "print('odd')"])
    assert runner.run().failed == {"a": "odd (exit code 0)"}


def test_what_changed_is_done_again_in_an_empty_folder_and_what_needs_it(tmp_path):
    run(tmp_path, [job("a", size=1), job("b", "a"), job("c")])
    run(tmp_path, [job("a", size=2), job("b", "a"), job("c")])
    assert [tries(tmp_path, name) for name in "abc"] == [1, 1, 1]  # the folders of a and b are new
    assert [line for line in diary(tmp_path) if line.startswith("-")].count("-a") == 2
    assert [line for line in diary(tmp_path) if line.startswith("-")].count("-b") == 2
    assert [line for line in diary(tmp_path) if line.startswith("-")].count("-c") == 1


def test_a_damaged_result_is_not_done(tmp_path):
    jobs = [job("a")]
    run(tmp_path, jobs)
    (tmp_path / "jobs/a/result.json").write_text('{"digest": "')
    assert result_of(tmp_path, jobs[0], digests(jobs)["a"]) is None
    assert run(tmp_path, jobs).done == ["a"]


def test_the_time_limit_lets_jobs_save_and_the_next_run_goes_on(tmp_path):
    said = []
    jobs = [job("long", sleep=60), job("later", "long")]
    begun = time.monotonic()
    outcome = run(tmp_path, jobs, time_limit=0.7, say=said.append)
    assert time.monotonic() - begun < 30
    assert outcome.stopped == "the time limit"
    assert not outcome.done
    assert not outcome.failed  # stopped is not failed
    assert (tmp_path / "jobs/long/saved").exists()
    assert any("waiting for long to save" in line for line in said)
    assert run(tmp_path, jobs).done == ["long", "later"]
    assert tries(tmp_path, "long") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_runner_and_its_jobs(tmp_path, number):
    timer = threading.Timer(0.7, os.kill, (os.getpid(), number))
    before = signal.getsignal(number)
    timer.start()
    outcome = run(tmp_path, [job("long", sleep=60)])
    assert outcome.signal == number
    assert (tmp_path / "jobs/long/saved").exists()
    assert signal.getsignal(number) is before


def test_a_worker_ends_when_its_runner_is_killed():
    code = (
        "import signal, sys, time; from experiments.learning import worker; worker._stop_with_runner(); "
        "print('up', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes) as process:
        assert process.stdout.readline() == b"up\n"
        assert process.poll() is None
        process.stdin.close()  # what the system does with the runner's end
        assert process.wait(20) == -signal.SIGTERM


def test_a_worker_waits_for_the_last_one_at_its_job(tmp_path):
    entered = []

    def enter() -> None:
        with worker._folder_of_my_own(tmp_path):
            entered.append(time.monotonic())

    with worker._folder_of_my_own(tmp_path):
        with (
            pytest.raises(Lam3cError, match="is at work here; end that process"),
            worker._folder_of_my_own(tmp_path, 0.2),
        ):
            pass
        second = threading.Thread(target=enter)
        second.start()
        time.sleep(0.3)
        assert not entered
        left = time.monotonic()
    second.join(10)
    assert entered[0] >= left


def test_the_forecast_learns_from_what_is_done():
    forecast = Forecast(slots=2)
    first = forecast.seconds(job("x"))
    forecast.learn(job("a"), 10.0)
    forecast.learn(job("b"), 20.0)
    assert first != forecast.seconds(job("x")) == START_UP + 15.0
    waiting = [job(name) for name in "cdef"]
    assert forecast.left(waiting, []) == 2 * (START_UP + 15.0)
    assert forecast.left([], [(job("g"), 9.0)]) == START_UP + 6.0  # one job is not shared
    assert forecast.left([], [(job("g"), 900.0)]) == 0.0


def test_a_running_pretraining_tells_its_step(tmp_path):
    running = Job("full-0", "pretrain", "full", {"steps": 40})
    assert describe(running, tmp_path) == "full-0 (starting)"
    folder = tmp_path / "jobs/full-0/run"
    folder.mkdir(parents=True)
    (folder / "monitor.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in (1, 17)))
    assert describe(running, tmp_path) == "full-0 (step 17 of 40)"

"""The chain on Ray: three workers, one killed in mid-run; all scenes there once, none twice, none half."""

import contextlib
import os
import shutil
import signal
import threading
import time

import pytest

from data_tools.chain import ray_executor
from data_tools.chain.items import Places
from data_tools.chain.journal import read_events
from data_tools.chain.plan import ChainSettings
from data_tools.chain.recorded import Settings
from data_tools.chain.run import RunOptions, run_chain
from data_tools.chain.sources import read_videos
from tests.data_tools.chain.chain_fakes import CALLS, FAKES, fake_settings
from tests.data_tools.chain.chain_run import ROOT, make_videos, run_process, states, tree

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

TEXTS = {"a": "room 4 1 slow:0.6", "b": "room 5 2 slow:0.6", "c": "room 2 3 reject:1 slow:0.6"}
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Where the fakes note their calls; set before the cluster starts, which hands it on."""
    folder = tmp_path / "calls"
    folder.mkdir()
    monkeypatch.setenv(CALLS, str(folder))
    return folder


@contextlib.contextmanager
def a_cluster(monkeypatch, workers, gpus=0):
    """A head with a CPU and nothing else to work with, and workers with a CPU (and a pretended GPU) each."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "3")
    monkeypatch.setenv("RAY_DISABLE_DOCKER_CPU_WARNING", "1")
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    head = {**small, "num_cpus": 1 if gpus else 0, "include_dashboard": False}
    found = cluster_utils.Cluster(True, head_node_args=head)
    try:
        nodes = [found.add_node(wait=False, num_gpus=gpus, **small) for _ in range(workers)]
        found.wait_for_nodes()
        yield found, nodes
    finally:
        ray.shutdown()
        found.shutdown()


def run_on(address, videos, out, actors=()):
    """The chain on a cluster, with the fakes; ``actors``: stages that run in actors."""
    found, _ = read_videos([str(videos)])
    settings = ChainSettings(
        Settings.of(fake_settings()), facts={"backend": "sfm"}, gpu_stages=frozenset(actors), keep_clouds=True
    )
    options = RunOptions("ray", ray_address=address, report=False, quiet=True)
    return run_chain(found, Places(out, out / "_work"), settings, options, FAKES)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 2])
def test_a_lost_node_costs_no_scene(tmp_path, monkeypatch, calls, kills):
    videos, out = make_videos(tmp_path / "videos", **TEXTS), tmp_path / "out"
    with a_cluster(monkeypatch, workers=3) as (found, nodes):
        lost = [threading.Thread(target=kill_when_at_work, args=(node, calls)) for node in nodes[:kills]]
        for thread in lost:
            thread.start()
        assert run_on(found.address, videos, out) == 0
        for thread in lost:
            thread.join(30)
        assert not any(alive(node) for node in nodes[:kills])
    whole = tmp_path / "whole"
    assert run_process(videos, "--out", whole, "--jobs", 2).returncode == 0
    assert tree(out) == tree(whole)  # every scene once and whole, whatever the lost node was at
    assert len(list((out / "train").iterdir())) == 10
    assert all(row.status == "done" or row.name == "c_001" for row in states(out).values())


def pids(node):
    """The processes of a Ray node: its raylet, and the raylet's children."""
    if "raylet" not in node.all_processes:
        return []  # not started yet
    (raylet,) = (info.process.pid for info in node.all_processes["raylet"])
    with open(f"/proc/{raylet}/task/{raylet}/children") as handle:
        return [raylet, *map(int, handle.read().split())]


def alive(node):
    """Whether the node's raylet runs."""
    return any(info.process.poll() is None for info in node.all_processes["raylet"])


def kill_when_at_work(node, calls, name=""):
    """SIGKILL to a node and its workers when they reconstruct a scene whose name begins so."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        mine = {str(pid) for pid in pids(node)}
        at_work = [path.name.split("~") for path in calls.iterdir()]
        if any(stage == "reconstruct" and pid in mine and scene.startswith(name) for stage, scene, pid, _ in at_work):
            break
        time.sleep(0.05)
    for pid in pids(node):
        os.kill(pid, signal.SIGKILL)
    kill_when_at_work.at = time.monotonic()


@pytest.mark.slow
def test_a_worker_process_that_is_killed_costs_no_scene(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    videos = make_videos(tmp_path / "videos", a="room 3 1 once:1 cuda:2", b="room 1 2 crash:0")
    out = tmp_path / "out"
    try:
        assert run_on("", videos, out, ("reconstruct",)) == 1
    finally:
        ray.shutdown()
    assert sorted(path.name for path in (out / "train").iterdir()) == ["a_000", "a_001", "a_002"]
    assert "killed" in states(out)["b_000", "reconstruct"].reason
    assert [event["name"] for event in read_events(out / "_work/log", ["killed"])].count("b_000") == 1
    assert not list(out.rglob(".attempts"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_of_actors_and_tasks_leave_every_scene_once_and_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    videos = make_videos(tmp_path / "videos", a="room 9 1 slow:0.5", b="room 9 2 slow:0.5", c="room 9 3 slow:0.5")
    out, left = tmp_path / "out", [20]
    stop = threading.Event()
    killer = threading.Thread(target=kill_workers, args=(left, stop))
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    killer.start()
    try:
        for _ in range(10):
            code = run_on("", videos, out, ("reconstruct",))
            if code == 0 and not left[0]:
                break
            shutil.rmtree(out / "train", ignore_errors=True)  # so that there is work left to interrupt
            shutil.rmtree(out / "_work/clouds", ignore_errors=True)
    finally:
        stop.set()
        killer.join()
        ray.shutdown()
    assert (code, left) == (0, [0])
    assert run_process(videos, "--out", tmp_path / "whole", "--jobs", 2).returncode == 0
    assert tree(out) == tree(tmp_path / "whole")


def kill_workers(left, stop):
    """SIGKILL to some worker of Ray that is at a call, every second or so."""
    psutil = pytest.importorskip("psutil")
    while left[0] and not stop.wait(1.0):
        at_work = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # ended just now
                at_work += [process] if process.name() in ("ray::_Holder.run", "ray::execute") else []
        if at_work:
            with contextlib.suppress(psutil.Error):
                at_work[left[0] % len(at_work)].kill()
                left[0] -= 1


def test_a_run_whose_last_gpu_is_lost_ends_with_what_it_could_do(tmp_path, monkeypatch, calls, capsys):
    monkeypatch.setattr(ray_executor.RayExecutor, "__init__", _impatient(ray_executor.RayExecutor.__init__))
    videos, out = make_videos(tmp_path / "videos", a="room 3 1 hang:1"), tmp_path / "out"
    with a_cluster(monkeypatch, gpus=1, workers=1) as (found, nodes):
        lost = threading.Thread(target=kill_when_at_work, args=(nodes[0], calls, "a_001"))
        lost.start()
        assert run_on(found.address, videos, out, ("reconstruct",)) == 1
        seconds = time.monotonic() - kill_when_at_work.at
        lost.join(30)
    assert seconds < 60
    names = {path.name for path in (out / "train").iterdir()}
    assert "a_000" in names
    assert "a_001" not in names
    assert "gpu stopped: the cluster has had no place for the actors of GPU stages" in capsys.readouterr().err
    assert not [row for row in states(out).values() if row.status != "done"]  # undone, not failed


def _impatient(init):
    def begin(self, *args, **named):
        init(self, *args, patience=(120.0, 3.0), **named)

    return begin

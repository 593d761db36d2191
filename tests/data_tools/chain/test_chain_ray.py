"""The chain on Ray: three workers, one killed in mid-run; all scenes there once, none twice, none half."""

import os
import signal
import threading
import time

import pytest

from data_tools.chain.items import Places
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


@pytest.fixture
def cluster(monkeypatch, calls):
    """A head without CPUs and three workers with one each."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "3")
    monkeypatch.setenv("RAY_DISABLE_DOCKER_CPU_WARNING", "1")
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    found = cluster_utils.Cluster(True, head_node_args={**small, "num_cpus": 0, "include_dashboard": False})
    nodes = [found.add_node(wait=False, **small) for _ in range(3)]
    found.wait_for_nodes()
    yield found, nodes
    ray.shutdown()
    found.shutdown()


def run_on(address, videos, out, actors=()):
    """The chain on a cluster, with the fakes; ``actors``: stages that run in actors."""
    found, _ = read_videos([str(videos)])
    settings = ChainSettings(Settings.of(fake_settings()), facts={"backend": "sfm"}, gpu_stages=frozenset(actors))
    options = RunOptions("ray", ray_address=address, report=False, quiet=True)
    return run_chain(found, Places(out, out / "_work"), settings, options, FAKES)


@pytest.mark.slow
def test_a_lost_node_costs_no_scene(tmp_path, cluster, calls):
    videos, out = make_videos(tmp_path / "videos", **TEXTS), tmp_path / "out"
    found, nodes = cluster
    lost = threading.Thread(target=kill_when_at_work, args=(nodes[1], calls))
    lost.start()
    assert run_on(found.address, videos, out) == 0
    lost.join(30)
    assert not alive(nodes[1])
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


def kill_when_at_work(node, calls):
    """SIGKILL to a node and its workers when the run is in the middle."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        mine = {str(pid) for pid in pids(node)}
        at_work = [path.name.split("~") for path in calls.iterdir()]
        if any(stage == "reconstruct" and pid in mine for stage, _, pid, _ in at_work):
            break
        time.sleep(0.05)
    for pid in pids(node):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("actors", [(), ("reconstruct",)])
def test_a_worker_process_that_is_killed_costs_no_scene(tmp_path, monkeypatch, actors):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    videos = make_videos(tmp_path / "videos", a="room 2 1 once:1", b="room 1 2 crash:0")
    out = tmp_path / "out"
    try:
        assert run_on("", videos, out, actors) == 1
    finally:
        ray.shutdown()
    assert sorted(path.name for path in (out / "train").iterdir()) == ["a_000", "a_001"]
    assert "killed" in states(out)["b_000", "reconstruct"].reason

"""Every installed config builds in the host that has its parts."""

from lam3c_plugin.host_checkout import inspect_checkout
from tests.pointcept import hosts


def build_all(host, pattern: str) -> tuple[list[str], list[str]]:
    names = sorted(str(path.relative_to(host.root)) for path in (host.root / "configs/lam3c").glob(pattern))
    assert names
    script = hosts.HARNESS.parent / "build_configs.py"
    out = hosts.run([host.python, script, *names], host.root, PYTHONPATH=str(host.root), timeout=600)
    built = [line for line in out.splitlines() if line.startswith("BUILT")]
    failed = [line for line in out.splitlines() if line.startswith("FAILED")]
    assert len(built) + len(failed) == len(names)
    return built, failed


def test_pretraining(host):
    built, failed = build_all(host, "pretrain-*.py")
    if not inspect_checkout(host.root).accumulates:
        refused = [line for line in failed if "-7-24gb" in line and "needs Pointcept v1.6.1 or newer" in line]
        assert len(refused) == 1
        failed.remove(refused[0])
    assert not failed
    base = next(line for line in built if "pretrain-lam3c-v1m1-0-base" in line)
    assert "25 groups, 121." in base or "26 groups, 121." in base


def test_semantic_segmentation(host):
    _, failed = build_all(host, "semseg-*.py")
    # PPT asks for CLIP's weights, which a test does not download: it gets as far as that
    assert [line for line in failed if "-ppt " not in line or "clip.load" not in line] == []


def test_instance_segmentation(host):
    built, failed = build_all(host, "insseg-*.py")
    if inspect_checkout(host.root).segments_instances:
        assert not failed
    else:
        assert not built
        assert all("needs Pointcept v1.6.1" in line for line in failed)

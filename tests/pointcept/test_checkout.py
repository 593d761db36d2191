"""What `lam3c install` leaves in a real checkout: nothing, after `--uninstall`."""

import os

from lam3c_plugin import cli
from lam3c_plugin.host_checkout import inspect_checkout, third_party_imports
from tests.pointcept import hosts


def test_git_sees_nothing_after_uninstall(tmp_path):
    root = hosts.copy_checkout(tmp_path / "Pointcept")
    for words in ((), ("--link",)):
        assert cli.main(["install", "--pointcept", str(root), *words]) == 0
        assert hosts.git(root, "status", "--porcelain").split() == [
            "??",
            "configs/lam3c/",
            "??",
            "configs/scannet/lam3c/",
        ]
        assert cli.main(["install", "--pointcept", str(root), "--uninstall"]) == 0
        assert hosts.git(root, "status", "--porcelain", "--ignored") == ""


def test_version_and_imports_are_recognised():
    checkout = inspect_checkout(os.environ["POINTCEPT_ROOT"])
    assert checkout.accumulates == (checkout.version != "1.6.0")
    assert checkout.segments_instances == (checkout.version != "1.6.0")
    assert checkout.needs_ocnn == checkout.needs_old_torch == (checkout.version == "1.6.0")
    if checkout.commit.startswith("v"):
        assert checkout.commit[1:].startswith(checkout.version.split()[0])
    assert {"torch", "spconv", "pointops", "torch_scatter", "timm", "addict"} <= set(third_party_imports(checkout))


def test_doctor_reads_it(capsys):
    cli.main(["doctor", "--pointcept", os.environ["POINTCEPT_ROOT"], "--gpus", "8", "--gpu-memory", "80"])
    out = capsys.readouterr().out
    assert "Pointcept 1." in out
    assert "GiB a scene" in out

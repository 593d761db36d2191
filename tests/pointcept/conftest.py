"""The real host: one private copy of POINTCEPT_ROOT, with an environment, rooms and the configs, for all tests here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from lam3c_plugin import cli
from tests.pointcept import hosts


def pytest_collection_modifyitems(items):
    reason = None
    for item in items:
        if Path(__file__).parent in item.path.parents:
            reason = reason or hosts.missing_requirement() or "present"
            item.add_marker(pytest.mark.pointcept)
            if reason != "present":
                item.add_marker(pytest.mark.skip(reason=reason))


@dataclass(frozen=True)
class Host:
    """A checkout to run commands in, and the interpreters to give to `-p`: with and without the plugin."""

    root: Path
    python: Path
    bare_python: Path


@pytest.fixture(scope="session")
def host(tmp_path_factory) -> Host:
    folder = tmp_path_factory.mktemp("host")
    root = hosts.copy_checkout(folder / "Pointcept")
    hosts.make_rooms(root / "data/roomtours", {"train": 4})
    assert cli.main(["install", "--pointcept", str(root)]) == 0
    python = hosts.make_environment(folder / "env")
    return Host(root, python, hosts.make_environment(folder / "bare", with_plugin=False))

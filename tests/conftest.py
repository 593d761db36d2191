"""The suite runs on the embedded engine; tests/pointcept starts its own processes for the real host."""

import contextlib
import os

import pytest

from data_tools.stages.files import replacing

os.environ["LAM3C_ENGINE"] = "embedded"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is first imported; see scripts/setup_env.sh


@pytest.fixture
def fill_disk(monkeypatch):
    """A function after which a module's ``replacing`` writes to /dev/full: "no space left on device" on every write."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")

    @contextlib.contextmanager
    def full(path, durable=False):
        with replacing(path, durable) as partial:
            partial.symlink_to("/dev/full")
            yield partial

    return lambda module: monkeypatch.setattr(module, "replacing", full)

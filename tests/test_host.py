import copyreg
import pickle
import subprocess
import sys

import pytest

from lam3c_plugin import host


class FakeConfig:
    """Pickles as Pointcept's Config does."""

    def __init__(self, **values):
        self.__dict__["_cfg_dict"] = values

    def __getitem__(self, key):
        return self._cfg_dict[key]

    def __setitem__(self, key, value):
        self._cfg_dict[key] = value

    def __getstate__(self):
        return (self._cfg_dict, None, "")

    def __setstate__(self, state):
        self.__dict__["_cfg_dict"] = state[0]


@pytest.fixture
def pickled():
    host._survive_spawning(FakeConfig)
    yield pickle.dumps(FakeConfig(batch_size=96, batch_size_val=None, lr=0.1))
    copyreg.dispatch_table.pop(FakeConfig)


def test_a_pickled_config_brings_the_plugin_along(pickled):
    """A rank is started afresh, unpickles the config, and must have the plugin then."""
    read = "import pickle, sys; pickle.loads(sys.stdin.buffer.read()); print('lam3c_plugin.models' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", read], input=pickled, capture_output=True, check=True)
    assert done.stdout.split() == [b"True"]


def test_config_is_the_same_after_pickling(pickled):
    config = pickle.loads(pickled)
    assert config["batch_size"] == 96
    assert config["batch_size_val"] is None
    assert config["lr"] == 0.1
    assert f"{config['batch_size']}" == "96"


def test_batch_that_does_not_divide_says_so(pickled):
    batch = pickle.loads(pickled)["batch_size"]
    assert batch % 8 == 0
    assert batch // 8 == 12
    with pytest.raises(host.HostError, match=r"96 \(over all GPUs\) does not divide by 5 GPUs: set it to 95 or 100"):
        _ = batch % 5
    with pytest.raises(host.HostError, match=r"does not divide by 128 GPUs: set it to 128"):
        _ = batch % 128


@pytest.mark.parametrize("engine", ["pointcept", "neither"])
def test_an_engine_that_cannot_be_had_is_an_error(engine, tmp_path):
    command = [sys.executable, "-c", "import lam3c_plugin; print(lam3c_plugin.import_error)"]
    environment = {"LAM3C_ENGINE": engine, "PYTHONPATH": ":".join(sys.path), "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0
    message = "Pointcept (nowhere on the Python path) cannot be imported" if engine == "pointcept" else "is not one of"
    assert message in done.stdout

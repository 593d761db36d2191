"""The room that a loader's workers need in /dev/shm is asked for before the first batch."""

import logging
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lam3c_plugin.commands import doctor, environment
from lam3c_plugin.embedded.engine import data
from lam3c_plugin.errors import ConfigError

OPTIONS = dict(rank=0, world_size=1, seed=0, collate_fn=list, pin_memory=False)


class Samples(list):
    """Samples of 6 MB: views in a list, as a multi-view transform leaves them."""

    def __getitem__(self, index):
        np.random.random(3)
        return {"coord": torch.zeros(500_000), "views": [torch.zeros(250_000), torch.zeros(750_000)], "name": "room"}


@pytest.mark.parametrize(("free", "outcome"), [(64e6, "raises"), (170e6, "warns"), (200e6, "fits"), (5e9, "is plenty")])
def test_too_little_shared_memory_is_one_line_before_the_start(monkeypatch, caplog, tmp_path, free, outcome):
    monkeypatch.setattr(data, "SHARED", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    before = np.random.get_state()[1].copy()  # 4 workers x 2 batches x 4 samples x 6 MB = 192 MB
    with caplog.at_level(logging.WARNING):
        if outcome == "raises":
            with pytest.raises(ConfigError, match=r"0\.1 GB free, 4 workers need some 0\.2 GB.*--shm-size="):
                data.build_loader(Samples(range(9)), batch_size=4, num_workers=4, **OPTIONS)
        else:
            data.build_loader(Samples(range(9)), batch_size=4, num_workers=4, **OPTIONS)
    assert ("--shm-size" in caplog.text) == (outcome == "warns")
    assert (np.random.get_state()[1] == before).all()
    data.build_loader(Samples(range(9)), batch_size=4, num_workers=0, **OPTIONS)


def test_doctor_names_a_small_dev_shm(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "SHARED", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * 2**20))
    assert "--shm-size=20g" in doctor.describe(doctor.examine())

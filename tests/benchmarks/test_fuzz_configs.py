"""The short form of the fuzz of configs and lists of videos, and that its judging can fail."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import _fuzz_configs as configs
from benchmarks import _fuzz_manifests as manifests
from benchmarks._fuzz import SAME, SILENT, TRACEBACK, Tally
from data_tools.collection.manifest import Manifest


def test_two_hundred_configs_and_manifests():
    tally = configs.run(240, 5)
    assert tally.bad == 0, tally.examples
    assert set(tally.rows) == set(configs.KINDS)
    assert tally.count(SAME) > 100


@pytest.mark.parametrize("kind", ["config alone", "config bases"])
def test_a_reading_that_errs_is_caught(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(configs, "mutate", lambda data, rng: data)
    path = configs.make_config(tmp_path, kind, np.random.default_rng(2))
    read, outcomes = configs.Config.fromfile, []

    def forgets(*args, **kwargs):
        cfg = read(*args, **kwargs)
        cfg._cfg_dict.pop(next(iter(cfg), None), None)
        return cfg

    def falls(*args, **kwargs):
        raise KeyError("some library's words")

    for reader in (read, forgets, falls):
        monkeypatch.setattr(configs.Config, "fromfile", reader)
        tally = Tally("configs")
        configs.judge_config(path, kind, SimpleNamespace(fromfile=read), tally, 0)  # a host that reads as we should
        outcomes.append((tally.count(SAME), tally.count(SILENT), tally.count(TRACEBACK)))
    assert outcomes == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]


@pytest.mark.parametrize("kind", manifests.MANIFESTS)
def test_a_lost_row_is_caught(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "mutate", lambda data, rng: data)
    path, rows = manifests.make_manifest(tmp_path, kind, np.random.default_rng(3))
    read, outcomes = manifests.scan_manifest, []
    for reader in (read, lambda path: Manifest(read(path).sources[:-1])):
        monkeypatch.setattr(manifests, "scan_manifest", reader)
        tally = Tally("manifests")
        manifests.judge_manifest(path, rows, kind, tally, 0)
        outcomes.append((tally.count(SAME), tally.count(SILENT)))
    assert outcomes == [(1, 0), (0, 1)]


@pytest.mark.skipif(not Path(os.environ.get("POINTCEPT_ROOT") or "none").is_dir(), reason="POINTCEPT_ROOT is not set")
def test_pointcepts_own_reader_is_a_judge(tmp_path):
    (tmp_path / "case.py").write_text("a = dict(b=[1, (2,)])\n")
    assert configs.host_config().fromfile(str(tmp_path / "case.py")).a.b == [1, (2,)]

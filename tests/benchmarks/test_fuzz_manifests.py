"""The short form of the fuzz of lists of videos, and that its judging can fail."""

import numpy as np
import pytest

from benchmarks import _fuzz_manifests as manifests
from benchmarks._fuzz import SAME, SILENT, Tally
from data_tools.collection.manifest import Manifest


def test_hundred_lists():
    tally = manifests.run(120, 5)
    assert tally.bad == 0, tally.examples
    assert set(tally.rows) == set(manifests.MANIFESTS)
    assert tally.count(SAME) > 80


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

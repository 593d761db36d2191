import numpy as np
import pytest

from lam3c_plugin.analysis import similarity as core
from lam3c_plugin.errors import DataError


def unit_features(count=500, width=40, seed=0):
    rng = np.random.default_rng(seed)
    return core.unit_rows(
        rng.normal(size=(count, 4)) @ rng.normal(size=(4, width)) + 0.1 * rng.normal(size=(count, width))
    )


def test_cosine_equals_the_formula():
    feat = np.random.default_rng(1).normal(size=(50, 7)).astype(np.float32)
    feat[3] = 0
    found = core.cosine_to(core.unit_rows(feat), np.array([0, 3]))
    plain = [feat[0] @ row / max(np.linalg.norm(feat[0]) * np.linalg.norm(row), 1e-12) for row in feat]
    assert np.allclose(found[0], plain, atol=1e-5)
    assert (found[1] == 0).all()


def test_packed_features_come_close_and_the_error_is_told():
    unit = unit_features()
    packed = core.pack(unit, 32)
    assert packed.code.dtype == np.int8
    mean, largest = core.packing_error(unit, packed)
    assert mean < 0.01
    assert largest < 0.05
    assert packed.cosine_to(7)[7] == 1
    assert core.packing_error(unit, core.pack(unit, 2))[0] > mean


def test_nearest_rows_and_picks_that_are_far_away():
    coord = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0]], np.float32)
    assert core.nearest_rows(coord, np.array([[0.9, 0.1, 0], [0, 1.8, 0]])).tolist() == [1, 2]
    with pytest.raises(DataError, match=r"--pick 9,9,9.*m away; the cloud has x 0.00 to 1.00, y 0.00 to 2.00"):
        core.nearest_rows(coord, np.array([[9, 9, 9]]))


def test_heat_runs_from_dark_to_bright_and_picks_are_green():
    values = np.linspace(-1, 1, 101)
    color = core.heat_colors(values, low=0.0)
    assert tuple(color[-1]) == core.RAMP[-1]
    assert (color[values <= 0] == core.RAMP[0]).all()
    coord = np.stack([values, values * 0, values * 0], 1)
    marked = core.mark_points(color, coord, coord[[50]])
    assert (marked[50] == core.MARK).all()
    assert (marked[0] == color[0]).all()

import numpy as np
import pytest

from lam3c_plugin.analysis.components import component_colors, principal_components
from lam3c_plugin.viz import pca_colors


def features(count=400, width=12, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, width)) * np.linspace(3, 0.2, width) + 5).astype(np.float32)


def test_colours_are_those_of_the_plain_version():
    feat = features()
    colors, found = component_colors([feat])
    assert np.abs(colors[0] - pca_colors(feat)).max() < 1e-3
    assert (np.diff(found.share) <= 0).all()
    assert found.share.sum() <= 1


def test_several_arrays_share_one_scale():
    feat = features()
    whole, _ = component_colors([feat])
    parts, _ = component_colors([feat[:150], feat[150:]])
    assert np.abs(np.concatenate(parts) - whole[0]).max() < 1e-4


def test_components_can_be_passed_over_and_may_be_lacking():
    feat = features()
    shown, _ = component_colors([feat], first=1)
    assert np.abs(shown[0][:, 0] - component_colors([feat])[0][0][:, 1]).max() < 1e-4
    line = np.outer(np.arange(20.0), np.ones(5)).astype(np.float32)
    colors, found = component_colors([line])
    assert found.axes.shape == (5, 1)
    assert (colors[0][:, 1:] == 0.5).all()
    assert (component_colors([np.ones((4, 3), np.float32)])[0][0] == 0.5).all()


def test_without_centring_inner_products_are_kept():
    feat = features(width=6)
    scores = principal_components([feat], 6, centre=False).scores(feat)
    assert np.allclose(scores @ scores.T, feat @ feat.T, rtol=1e-3, atol=1e-2)


def test_no_row_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        principal_components([np.zeros((0, 3))], 2)

import numpy as np
import pytest
import torch

from lam3c_plugin.analysis.components import component_colors, pca_colors, principal_components


def features(count=400, width=12, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, width)) * np.linspace(3, 0.2, width) + 5).astype(np.float32)


def test_axes_are_those_of_the_singular_values():
    feat = features().astype(np.float64)
    found = principal_components([feat], 4)
    _, value, rows = np.linalg.svd(feat - feat.mean(axis=0), full_matrices=False)
    assert np.allclose(np.abs((found.axes * rows[:4].T).sum(axis=0)), 1)
    assert (found.axes.max(axis=0) == np.abs(found.axes).max(axis=0)).all()
    assert np.allclose(found.share, (value**2 / (value**2).sum())[:4])


def test_of_many_rows_some_are_enough():
    feat = features(count=5000)
    few, all_rows = principal_components([feat], 3, most_rows=500), principal_components([feat], 3)
    assert (np.abs((few.axes * all_rows.axes).sum(axis=0)) > 0.97).all()
    assert not np.array_equal(few.axes, all_rows.axes)


def test_pca_colors_are_deterministic_and_robust():
    generator = torch.Generator().manual_seed(0)
    feat = torch.randn(500, 20, generator=generator) * torch.arange(20, 0, -1)
    colors = pca_colors(feat)
    assert colors.shape == (500, 3)
    assert colors.dtype == np.float32
    assert colors.min() == 0
    assert colors.max() == 1
    np.testing.assert_array_equal(colors, pca_colors(feat.numpy()))
    np.testing.assert_allclose(colors, pca_colors(feat * 7 + 3), atol=1e-5)
    outlier = feat.clone()
    outlier[0] = 1e4
    assert pca_colors(outlier)[1:].std() > 0.1
    order = torch.randperm(500, generator=generator)
    np.testing.assert_allclose(pca_colors(feat[order]), colors[order], atol=1e-5)


def test_pca_colors_of_poor_features():
    np.testing.assert_array_equal(pca_colors(np.ones((5, 4))), 0.5)
    np.testing.assert_array_equal(pca_colors(np.zeros((0, 4))), np.zeros((0, 3)))
    line = pca_colors(np.arange(10.0)[:, None])
    assert np.ptp(line[:, 0]) == 1
    np.testing.assert_array_equal(line[:, 1:], 0.5)
    broken = pca_colors(np.array([[0.0, 1], [np.nan, 1], [2, 3], [5, 1]]))
    np.testing.assert_array_equal(broken[1], 0.5)
    with pytest.raises(ValueError, match=r"\(N, C\)"):
        pca_colors(np.ones(3))


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

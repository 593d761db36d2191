import math

import pytest
import torch

from lam3c_plugin.hooks.collapse_monitor.measures import (
    effective_rank,
    feature_moments,
    feature_spread,
    feature_std,
    knn_consistency,
    normalised_entropy,
    rankme,
    view_agreement,
)


def moments(feat):
    sums = feature_moments(feat)
    return float(sums["count"]), sums["total"], sums["gram"].diagonal()


def test_rankme_counts_equal_directions():
    assert rankme(torch.ones(7, dtype=torch.float64)) == pytest.approx(7, rel=1e-4)
    assert rankme(torch.tensor([3.0, 0, 0], dtype=torch.float64)) == pytest.approx(1, rel=1e-4)
    assert math.isnan(rankme(torch.zeros(3)))
    assert math.isnan(rankme(torch.tensor([1.0, math.nan])))


def test_effective_rank_is_that_of_the_singular_values():
    feat = torch.randn(200, 12, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.arange(1.0, 13))
    expected = rankme(torch.linalg.svdvals(feat.double()))
    assert effective_rank(feature_moments(feat)["gram"]) == pytest.approx(expected, rel=1e-6)
    low = torch.randn(200, 3) @ torch.randn(3, 12)
    assert effective_rank(feature_moments(low)["gram"]) < 3.1
    assert math.isnan(effective_rank(torch.full((2, 2), math.nan, dtype=torch.float64)))


def test_moments_of_halves_add_up():
    feat = torch.randn(50, 6)
    whole, first, second = feature_moments(feat), feature_moments(feat[:17]), feature_moments(feat[17:])
    for key, value in whole.items():
        torch.testing.assert_close(first[key] + second[key], value)


def test_std_and_spread():
    feat = torch.randn(400, 8, dtype=torch.float64) + 5
    assert feature_std(*moments(feat)) == pytest.approx(float(feat.var(0, unbiased=False).mean().sqrt()), rel=1e-9)
    assert feature_spread(*moments(feat)) == pytest.approx(feature_spread(*moments(feat * 1e-3)), rel=1e-6)
    assert feature_spread(*moments(torch.ones(5, 3))) == pytest.approx(0, abs=1e-7)
    assert feature_spread(*moments(torch.cat([torch.eye(3), -torch.eye(3)]))) == pytest.approx(1)
    assert math.isnan(feature_std(*moments(torch.zeros(0, 3))))
    assert math.isnan(feature_spread(*moments(torch.full((2, 2), math.inf))))


def test_normalised_entropy():
    assert normalised_entropy(torch.full((8,), 0.3)) == pytest.approx(1)
    assert normalised_entropy(torch.tensor([0.0, 2.0, 0.0])) == 0
    assert math.isnan(normalised_entropy(torch.zeros(4)))


def test_view_agreement():
    generator = torch.Generator().manual_seed(0)
    feat, noise = torch.randn(400, 16, generator=generator), torch.randn(400, 16, generator=generator)
    assert view_agreement(feat, 3 * feat + 5) == pytest.approx(1, abs=1e-5)
    assert abs(view_agreement(feat, noise)) < 0.05
    assert view_agreement(feat, feat + noise) == pytest.approx(0.5**0.5, abs=0.03)
    assert view_agreement(torch.ones(5, 3), torch.ones(5, 3)) == 0  # collapsed: not perfect
    assert math.isnan(view_agreement(feat[:1], feat[:1]))


def test_knn_consistency():
    generator = torch.Generator().manual_seed(0)
    feat, noise = torch.randn(300, 16, generator=generator), torch.randn(300, 16, generator=generator)
    scene = torch.arange(300) % 3
    assert knn_consistency(feat, 2 * feat, scene) == 1
    assert knn_consistency(feat, noise, scene) == pytest.approx(10 / 200, abs=0.02)
    assert 0.2 < knn_consistency(feat, feat + 0.5 * noise, scene) < 0.8
    assert math.isnan(knn_consistency(feat, feat, torch.zeros(300, dtype=torch.long)))
    # neighbours of a point's own scene do not count: these agree on them alone
    own = torch.nn.functional.one_hot(scene, 16).float() * 50
    assert knn_consistency(feat + own, noise + own, scene) < 0.2

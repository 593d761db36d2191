"""Numbers that tell a healthy representation from a collapsing one; pure functions, no host.

Features of several ranks are described by sums (count, sum, second moments), so that one all-reduce of the sums gives
the measures of all ranks' features together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def feature_moments(feat: Tensor) -> dict[str, Tensor]:
    """Sums over features (N, C) in float64: ``count`` (1,), ``total`` (C,) and ``gram`` (C, C) = Z^T Z."""
    feat = feat.detach().double()
    return {"count": feat.new_full((1,), len(feat)), "total": feat.sum(0), "gram": feat.T @ feat}


def rankme(singular_values: Tensor, eps: float = 1e-7) -> float:
    """Effective rank: ``exp`` of the entropy of the normalised singular values.

    Garrido et al. 2023, "RankMe" (arXiv 2210.02885), equations 1 and 2, with p_k = sigma_k / ||sigma||_1 + eps. It lies
    between 1 (all features on one line through 0) and the number of values; NaN if a value is not finite or all are 0.
    """
    total = singular_values.sum()
    if not bool(torch.isfinite(total)) or float(total) <= 0:
        return math.nan
    share = singular_values / total + eps
    return float(torch.exp(-(share * share.log()).sum()))


def effective_rank(gram: Tensor) -> float:
    """RankMe of features whose second moments Z^T Z are ``gram`` (C, C), float64: sigma_k = sqrt(eigenvalue_k)."""
    if not bool(torch.isfinite(gram).all()):
        return math.nan
    return rankme(torch.linalg.eigvalsh(gram.cpu()).clamp(min=0).sqrt())


def feature_std(count: float, total: Tensor, square: Tensor) -> float:
    """Root mean variance over channels; ``total`` (C,) and ``square`` (C,) are sums over ``count`` rows."""
    if count < 1:
        return math.nan
    variance = square / count - (total / count).square()
    return math.sqrt(max(float(variance.mean()), 0.0)) if bool(torch.isfinite(variance).all()) else math.nan


def feature_spread(count: float, total: Tensor, square: Tensor) -> float:
    """Share of the features' energy that is not their common mean, as an amplitude in [0, 1].

    ``sqrt(1 - ||mean||^2 / mean ||z||^2)``: 0 where all features are one vector, near 1 where they have no common part.
    Does not depend on the features' scale, as their standard deviation does.
    """
    energy = float(square.sum())
    if count < 1 or not math.isfinite(energy) or energy <= 0:
        return math.nan
    return math.sqrt(max(1.0 - float(total.square().sum()) / count / energy, 0.0))


def normalised_entropy(distribution: Tensor) -> float:
    """Entropy of a distribution (K,), not necessarily normalised, over log K: 1 if even, 0 if on one entry."""
    total = distribution.sum()
    if len(distribution) < 2 or float(total) <= 0:
        return math.nan
    return float(torch.special.entr(distribution / total).sum()) / math.log(len(distribution))


def view_agreement(first: Tensor, second: Tensor) -> float:
    """Mean cosine of the same points' features (N, C) in two views, after each view's mean is taken away.

    1: the features do not depend on the view; 0: they have nothing in common, or are one vector for all points.
    """
    if len(first) < 2:
        return math.nan
    first, second = (feat.float() - feat.float().mean(0) for feat in (first, second))
    return float(torch.nn.functional.cosine_similarity(first, second, dim=1, eps=1e-6).mean())


def knn_consistency(first: Tensor, second: Tensor, scene: Tensor, k: int = 10) -> float:
    """How far two views agree on which points of *other* scenes are alike.

    Each point's k nearest by cosine (features centred) among the points of the other scenes, looked up in either view;
    the mean share of the k that both have. By chance it is about k / N; neighbours in space cannot raise it.

    Args:
        first: (N, C) features of points in one view.
        second: (N, C) features of the same points in another.
        scene: (N,) integers.
        k: neighbours.

    Returns:
        0 to 1; NaN with fewer than two scenes.
    """
    sizes = torch.bincount(scene)
    k = min(k, len(scene) - int(sizes.max())) if len(scene) else 0
    if k < 1:
        return math.nan
    units = [torch.nn.functional.normalize(feat.float() - feat.float().mean(0), dim=1) for feat in (first, second)]
    shared = 0
    for rows in torch.arange(len(scene), device=scene.device).split(2048):
        same = scene[rows, None] == scene
        near = [(unit[rows] @ unit.t()).masked_fill(same, -2.0).topk(k, dim=1).indices for unit in units]
        shared += int((near[0][:, :, None] == near[1][:, None]).sum())
    return shared / (k * len(scene))

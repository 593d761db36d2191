"""Two ranks with a part of the clouds each: values, targets and gradients of one rank with all of them."""

import pytest
import torch

from lam3c_plugin import losses
from lam3c_plugin.ops import bincount2offset
from tests.ranks import run_ranks

SIZES = [40, 9, 1, 25, 0, 30]
# how many clouds the first rank gets; 0: it has no point at all
CUTS = (3, 1, 0)


def clustering(which, data, clouds):
    rows = torch.isin(data["cloud"], clouds)
    if which == "few":  # clouds without a match, more of them on the first rank
        rows &= data["cloud"] >= 3
    elif which == "none":
        rows[:] = False
    student = data["similarity"][rows].clone().requires_grad_()
    args = (student, data["teacher_similarity"][rows], data["cloud"][rows] - int(clouds.min()), 0.1, 0.05)
    return student, rows, args


def laplacian(which, data, clouds):
    rows = torch.isin(data["cloud"], clouds)
    coord = data["coord"][rows]
    if which == "few":
        coord = coord * torch.where(data["cloud"][rows] < 3, 100.0, 1.0)[:, None]  # too far apart for an edge
    elif which == "none":
        coord = coord * 100
    feat = data["feat"][rows].clone().requires_grad_()
    return feat, rows, (feat, coord, bincount2offset(torch.tensor(SIZES)[clouds]))


def consistency(which, data, clouds):
    rows = torch.isin(data["cloud"], clouds)
    cloud = data["cloud"][rows] - int(clouds.min())
    feat = data["feat"][rows].clone().requires_grad_()
    index = torch.arange(int(rows.sum())).repeat(2, 1).t()[::2]
    if which == "few":
        index = index[data["cloud"][rows][index[:, 0]] >= 3]
    elif which == "none":
        index = index[:0]
    return feat, rows, (feat, data["teacher_feat"][rows], index, cloud)


FAST = {
    clustering: (losses.clustering_loss, losses.clustering_loss_reference),
    laplacian: (losses.laplacian_smoothing_loss, losses.laplacian_smoothing_loss_reference),
    consistency: (losses.noise_consistency_loss, losses.noise_consistency_loss_reference),
}
WHICH = ("all", "few", "none")


def make_data():
    torch.manual_seed(0)
    cloud = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
    n = len(cloud)
    similarity = (torch.randn(2, n, 12) / 3).clamp(-1, 1)
    return {
        "cloud": cloud,
        "similarity": similarity[0],
        "teacher_similarity": similarity[1],
        "coord": torch.rand(n, 3) * 0.3,
        "feat": torch.randn(n, 6) * 0.3,
        "teacher_feat": torch.randn(n, 6),
    }


def step(data, clouds):
    """{(term, case, fast or plain): (value, gradient spread over all rows)}."""
    out = {}
    for term, functions in FAST.items():
        for which in WHICH:
            for kind, function in enumerate(functions):
                leaf, rows, args = term(which, data, clouds)
                loss = function(*args)
                loss.backward()
                grad = torch.zeros(len(rows), leaf.shape[1])
                grad[rows] = leaf.grad
                out[term.__name__, which, kind] = (loss.detach(), grad)
    return out


def _on_rank(rank, data):
    everything = torch.arange(len(SIZES))
    return [step(data, everything[:cut] if rank == 0 else everything[cut:]) for cut in CUTS if cut] + [
        step(data, everything if rank == 1 else everything[4:5])  # cloud 4 is empty: a rank without a point
    ]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    data = make_data()
    return step(data, torch.arange(len(SIZES))), run_ranks(_on_rank, data, folder=tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", range(len(CUTS)))
def test_equal_one_rank_with_the_whole_batch(ranks, case):
    want, results = ranks
    for key, (value, grad) in want.items():
        parts = [results[rank][case][key] for rank in (0, 1)]
        if key[1] == "none":
            assert value == 0
            assert all(part[0] == 0 and not part[1].any() for part in parts)
        for part in parts:
            torch.testing.assert_close(part[0], value, rtol=1e-5, atol=0, msg=lambda m, k=key: f"{k}: {m}")
        average = (parts[0][1] + parts[1][1]) / 2  # what DistributedDataParallel does
        torch.testing.assert_close(average, grad, rtol=1e-4, atol=1e-7, msg=lambda m, k=key: f"{k}: {m}")

import torch

from lam3c_plugin import ops
from tests.ranks import run_ranks


def test_one_process():
    assert ops.world_size() == 1
    value = torch.tensor(6.0, requires_grad=True)
    mean = ops.global_mean(value, torch.tensor(4))
    mean.backward()
    assert mean.item() == 1.5
    assert value.grad.item() == 0.25


def test_nothing_to_average_is_zero_and_stays_connected():
    value = torch.zeros(3, requires_grad=True)
    mean = ops.global_mean(value.sum() * 0, torch.tensor(0))
    mean.backward()
    assert mean.item() == 0
    assert value.grad.tolist() == [0, 0, 0]


def _mean(rank):
    value = torch.tensor([3.0, 5.0][rank], requires_grad=True)
    mean = ops.global_mean(value, torch.tensor([1, 3][rank]))
    mean.backward()
    total, top = ops.all_reduce_sum(torch.tensor(rank + 1)), ops.all_reduce_max(torch.tensor(float(rank)))
    return ops.world_size(), mean.item(), value.grad.item(), total.item(), top.item()


def test_two_ranks(tmp_path):
    # the whole batch: (3 + 5) / 4, gradient 1 / 4 of each; the average over 2 ranks of 2 / 4 is the same
    assert run_ranks(_mean, folder=tmp_path) == [(2, 2.0, 0.5, 3, 1.0)] * 2

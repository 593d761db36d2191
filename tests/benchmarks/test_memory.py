"""The counter of what autograd keeps."""

import torch

from benchmarks.memory import kept_bytes, measure


def test_counts_each_storage_once_and_no_weights():
    x, weight = torch.randn(10, 4), torch.randn(4, 4, requires_grad=True)
    own = {weight.untyped_storage().data_ptr()}

    def run():
        y = x @ weight  # keeps x
        return (y.exp() + y.sin()).sum()  # keeps exp(y) and y

    assert kept_bytes(run, own) == 3 * 10 * 4 * 4


def test_a_step_of_the_tiny_recipe():
    kept, estimated, points = measure("pretrain-lam3c-v1m1-2-tiny", 300)
    assert points == 2 * 300 + 4 * 120
    assert estimated < kept < 2 * estimated  # so few points keep more each: neighbours at the views' borders

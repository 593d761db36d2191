import pytest
import torch

from lam3c_plugin import ops


@pytest.mark.parametrize("sizes", [[3, 0, 2], [0], [], [1], [0, 0, 4], [5, 0]])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_offset_batch_and_bincount_are_one_thing(sizes, dtype):
    bincount = torch.tensor(sizes, dtype=dtype)
    offset = ops.bincount2offset(bincount)
    batch = ops.offset2batch(offset.to(dtype))
    assert ops.offset2bincount(offset.to(dtype)).tolist() == sizes
    assert batch.tolist() == [cloud for cloud, size in enumerate(sizes) for _ in range(size)]
    assert ops.batch2offset(batch, len(sizes)).tolist() == offset.tolist()
    assert torch.equal(ops.offset2batch(offset, sum(sizes)), batch)
    assert batch.dtype == offset.dtype == torch.int64


def test_reductions_equal_a_loop():
    torch.manual_seed(0)
    values, index = torch.randn(50, 3, dtype=torch.float64), torch.randint(0, 6, (50,))
    index[index == 2] = 3  # an empty segment in the middle
    for name in ("sum", "mean"):
        want = torch.stack([getattr(values[index == s], name)(0).nan_to_num(0.0) for s in range(7)])
        torch.testing.assert_close(getattr(ops, f"segment_{name}")(values, index, 7), want)
        torch.testing.assert_close(getattr(ops, f"segment_{name}")(values[:, 0], index, 7), want[:, 0])
    assert ops.segment_count(index, 7).tolist() == [int((index == s).sum()) for s in range(7)]


@pytest.mark.parametrize("name", ["segment_sum", "segment_mean"])
def test_gradients(name):
    torch.manual_seed(0)
    values = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([0, 0, 2, 2, 2, 4, 0, 4, 2])
    assert torch.autograd.gradcheck(lambda v: getattr(ops, name)(v, index, 5), (values,))


def test_no_rows():
    for name in ("segment_sum", "segment_mean"):
        out = getattr(ops, name)(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 3)
        assert torch.equal(out, torch.zeros(3, 4))

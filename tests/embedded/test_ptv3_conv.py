"""Submanifold convolution: fast against written out, gradients, and cells with several points."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lam3c_plugin.embedded.geometry import CloudGeometry
from lam3c_plugin.embedded.ptv3 import sparse_conv
from lam3c_plugin.embedded.ptv3.rows import expand_rows, group_by_key, group_max, group_mean, group_sum
from lam3c_plugin.embedded.ptv3.sparse_conv import kernel_map, submanifold_conv3d


def submanifold_conv3d_plain(x, weight, bias, cells, batch):
    """`submanifold_conv3d` written out: for every point, every kernel entry, look the neighbour up."""
    table = {}
    places = [(cloud, *cell) for cloud, cell in zip(batch.tolist(), cells.tolist(), strict=True)]
    for row, place in enumerate(places):
        table.setdefault(place, row)
    out = []
    for cloud, i, j, k in places:
        result = torch.zeros_like(weight[:, 0, 0, 0, 0]) if bias is None else bias
        for a in range(3):
            for b in range(3):
                for c in range(3):
                    row = table.get((cloud, i + a - 1, j + b - 1, k + c - 1))
                    if row is not None:
                        result = result + weight[:, a, b, c] @ x[row]
        out.append(result)
    return torch.stack(out)


def group_max_plain(values, groups):
    """`group_max`, one group after the other."""
    spans = zip(groups.starts[:-1].tolist(), groups.starts[1:].tolist(), strict=True)
    return torch.stack([values[groups.order[start:end]].amax(0) for start, end in spans])


def clouds(sizes, extent=5, seed=0, unique=False):
    """Cells (N, 3) and cloud index of clouds in a small cube, so that most have neighbours."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for size in sizes:
        if unique:
            choice = torch.randperm(extent**3, generator=generator)[:size]
        else:
            choice = torch.randint(0, extent**3, (size,), generator=generator)
        parts.append(torch.stack([choice // extent**2, choice // extent % extent, choice % extent], 1))
    return torch.cat(parts), torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))


def operands(rows, c_in, c_out, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, c_in, generator=generator, dtype=dtype)
    weight = torch.randn(c_out, 3, 3, 3, c_in, generator=generator, dtype=dtype)
    bias = torch.randn(c_out, generator=generator, dtype=dtype)
    return [t.requires_grad_() for t in (x, weight, bias)]


@pytest.fixture(params=[False, True], ids=["pairs", "gathered"])
def _way(request, monkeypatch):
    """The way of a CPU, and that of half precision on a GPU, in chunks of a few cells."""
    monkeypatch.setattr(sparse_conv, "_gathers", lambda x: request.param)
    monkeypatch.setattr(sparse_conv, "_GATHERED_BYTES", 20_000)
    monkeypatch.setattr(sparse_conv, "_PAIRED_CELLS", 25)


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("sizes", [[60], [1], [40, 1, 25], [3, 90]])
@pytest.mark.parametrize("unique", [True, False], ids=["unique", "shared"])
def test_fast_equals_plain_in_values_and_gradients(sizes, unique):
    cells, batch = clouds(sizes, unique=unique)
    kmap = kernel_map(CloudGeometry.from_cells(cells, batch, sizes))
    fast, plain = operands(len(cells), 4, 6), operands(len(cells), 4, 6)
    out = submanifold_conv3d(*fast, kmap)
    wanted = submanifold_conv3d_plain(*plain, cells, batch)
    torch.testing.assert_close(out, wanted)
    cotangent = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(9))
    for a, b in zip(
        torch.autograd.grad(out, fast, cotangent), torch.autograd.grad(wanted, plain, cotangent), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.usefixtures("_way")
def test_gradcheck():
    cells, batch = clouds([12, 7], extent=3)
    kmap = kernel_map(CloudGeometry.from_cells(cells, batch, [12, 7]))
    assert torch.autograd.gradcheck(lambda *inputs: submanifold_conv3d(*inputs, kmap), operands(19, 2, 3))


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("offset", [(1, 0, 0), (0, -1, 1), (-1, -1, -1), (1, 1, -1), (0, 0, 1)])
def test_entry_meets_the_neighbour_at_its_offset(offset):
    cells = torch.tensor([[1, 1, 1], [1 + offset[0], 1 + offset[1], 1 + offset[2]]])
    kmap = kernel_map(CloudGeometry.from_cells(cells, torch.zeros(2).long(), [2]))
    x = torch.tensor([[1.0], [10.0]])
    weight = torch.zeros(1, 3, 3, 3, 1)
    weight[0, offset[0] + 1, offset[1] + 1, offset[2] + 1, 0] = 1.0
    assert submanifold_conv3d(x, weight, None, kmap).flatten().tolist() == [10.0, 0.0]


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("extent", [2, 3, 7, 8])
def test_rows_ends_and_cloud_ends_are_not_neighbours(extent):
    """Cells at opposite ends of rows, planes and clouds: the keys next to each other are not the cells."""
    ends = torch.cartesian_prod(*[torch.tensor([0, extent - 1])] * 3).unique(dim=0)
    cells = torch.cat([ends, ends])
    batch = torch.arange(2).repeat_interleave(len(ends))
    kmap = kernel_map(CloudGeometry.from_cells(cells, batch, [len(ends)] * 2))
    x, weight, bias = operands(len(cells), 2, 2)
    torch.testing.assert_close(
        submanifold_conv3d(x, weight, bias, kmap), submanifold_conv3d_plain(x, weight, bias, cells, batch)
    )
    assert kmap.num_pairs == (len(cells) if extent > 2 else 2 * 64)


@pytest.mark.usefixtures("_way")
def test_without_coordinates_the_lowest_row_represents_a_cell():
    cells = torch.tensor([[0, 0, 1], [0, 0, 0], [0, 0, 1], [0, 0, 0]])
    kmap = kernel_map(CloudGeometry.from_cells(cells, torch.zeros(4).long(), [4]))
    x = torch.tensor([[1.0], [10.0], [100.0], [1000.0]], requires_grad=True)
    weight = torch.zeros(1, 3, 3, 3, 1)
    weight[0, 1, 1, 1, 0], weight[0, 1, 1, 2, 0] = 1.0, 2.0  # itself, and twice the cell above
    out = submanifold_conv3d(x, weight, None, kmap)
    assert out.flatten().tolist() == [1.0, 12.0, 1.0, 12.0]
    out.sum().backward()
    assert x.grad.flatten().tolist() == [2.0 + 4.0, 2.0, 0.0, 0.0]


@pytest.mark.usefixtures("_way")
def test_bfloat16_is_summed_in_float32():
    cells, batch = clouds([200], extent=7)
    kmap = kernel_map(CloudGeometry.from_cells(cells, batch, [200]))
    x, weight, bias = (t.detach() for t in operands(200, 16, 16, dtype=torch.float32))
    out = submanifold_conv3d(x.bfloat16(), weight.bfloat16(), bias, kmap)
    wanted = submanifold_conv3d(x.bfloat16().float(), weight.bfloat16().float(), bias, kmap)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), wanted, atol=0.15, rtol=0.02)  # products are rounded once, sums up to 60


@pytest.mark.usefixtures("_way")
def test_runs_repeat_to_the_bit():
    cells, batch = clouds([400], extent=6)
    kmap = kernel_map(CloudGeometry.from_cells(cells, batch, [400]))
    results = []
    for _ in range(2):
        tensors = operands(400, 24, 24, dtype=torch.float32)
        out = submanifold_conv3d(*tensors, kmap)
        results.append([out, *torch.autograd.grad(out.square().sum(), tensors)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_half_precision_on_a_gpu_gathers():
    x = torch.empty(1, dtype=torch.bfloat16)
    assert not sparse_conv._gathers(x)
    with FakeTensorMode():
        cuda = torch.empty(1, device="cuda")
        assert sparse_conv._gathers(cuda.bfloat16())
        assert not sparse_conv._gathers(cuda)  # float32 has no such tensor cores: the least arithmetic


def test_group_reductions():
    keys = torch.tensor([7, 3, 7, 3, 9, 7])
    groups = group_by_key(keys)
    assert groups.group.tolist() == [1, 0, 1, 0, 2, 1]
    assert groups.order.tolist() == [1, 3, 0, 2, 5, 4]
    assert groups.counts.tolist() == [2, 3, 1]
    values = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    torch.testing.assert_close(group_max(values, groups), group_max_plain(values, groups))
    wanted = torch.stack([values[keys == key].sum(0) for key in (3, 7, 9)])
    torch.testing.assert_close(group_sum(values.detach(), groups), wanted.detach())
    torch.testing.assert_close(group_mean(values, groups)[1], values.detach()[keys == 7].mean(0))
    assert torch.autograd.gradcheck(lambda v: group_max(v, groups), values)
    assert torch.autograd.gradcheck(lambda v: expand_rows(v, groups), values.detach()[:3].clone().requires_grad_())


def test_ties_share_the_gradient():
    groups = group_by_key(torch.tensor([0, 0, 0, 1]))
    values = torch.tensor([[2.0], [1.0], [2.0], [5.0]], requires_grad=True)
    group_max(values, groups).sum().backward()
    assert values.grad.flatten().tolist() == [0.5, 0.0, 0.5, 1.0]

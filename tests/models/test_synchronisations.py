"""A step must not begin to wait for the GPU in more places than it has to."""

import pytest
import torch

from benchmarks._waits import Waits
from lam3c_plugin.embedded.ptv3 import sparse_conv
from lam3c_plugin.embedded.ptv3.levels import prepare_levels
from lam3c_plugin.embedded.ptv3.pooling import pooling_plan
from lam3c_plugin.embedded.ptv3.sparse_conv import kernel_map
from lam3c_plugin.host import Point
from lam3c_plugin.ops.device import host_values, offset_on_device, pretend_gpu, remember, true_rows
from tests.models.conftest import make_batch, make_model

# sizes that only the data can tell: per pass of the backbone three (cells, cells of all levels, neighbours of all
# levels), per search of neighbours three, per match one, one for the mask, five for the Laplacian graph
LIMIT = 3 * 3 + 4 * 3 + 3 + 1 + 5


@pytest.fixture
def known_batch():
    batch = make_batch()
    for name in ("global_offset", "local_offset"):
        remember(batch[name], batch[name].tolist())
    return batch


def test_the_counter_sees_every_kind_and_names_its_line():
    x, mask = torch.arange(6), torch.arange(6) % 2 == 0
    # each of them makes a GPU's host wait once
    waiting = [
        lambda: x.sum().item(),
        lambda: int(x[0]),
        lambda: bool(mask.any()),
        lambda: x.tolist(),
        lambda: x.cpu().numpy(),
        lambda: mask.nonzero(),
        lambda: x[mask],
        lambda: x.clone().__setitem__(mask, x[:3]),
        lambda: torch.unique(x),
        lambda: torch.unique_consecutive(x),
        lambda: torch.masked_select(x, mask),
        lambda: torch.repeat_interleave(x, x),
        lambda: torch.bincount(x),
        lambda: x[[1, 0]],
        lambda: torch.tensor([1, 2], device="cpu"),
    ]
    for call in waiting:
        with Waits() as waits:
            call()
        assert waits.total == 1, waits.count
        ((place, _),) = waits.count
        assert place.startswith("tests/models/test_synchronisations.py:")
    with Waits() as waits:
        torch.repeat_interleave(x, x, output_size=15)
        torch.where(mask, x, 0).sort()
        x.index_select(0, x)
        torch.tensor([1, 2])
    assert waits.total == 0, waits.count


def test_the_counter_looks_into_the_backward_pass():
    x = torch.rand(4, requires_grad=True)
    y = x.clone()
    y.register_hook(lambda grad: grad * float(grad.sum()))
    with Waits() as waits:
        y.sum().backward()
    assert waits.total == 1


def test_a_step_waits_no_more_than_its_sizes_need(known_batch):
    model = make_model().train()
    with pretend_gpu(), Waits() as waits:
        model(known_batch)["loss"].backward()
        model.update_teacher()
    assert 0 < waits.total <= LIMIT, "\n".join(f"{number} {place}" for place, number in sorted(waits.count.items()))


def test_nothing_of_the_backward_pass_or_the_teacher_waits(known_batch):
    model = make_model().train()
    with pretend_gpu():
        loss = model(known_batch)["loss"]
        with Waits() as waits:
            loss.backward()
            model.update_teacher()
    assert waits.total == 0, waits.count


@pytest.mark.parametrize("stride", [(2, 2, 2, 2), (4, 2, 2, 2), (3, 2, 2, 2)])
def test_levels_of_a_gpu_are_those_of_a_cpu(stride):
    generator = torch.Generator().manual_seed(0)
    coord = torch.cat([torch.rand(700, 3, generator=generator) * 3, torch.rand(40, 3, generator=generator) * 0.3])
    batch = dict(coord=coord, offset=torch.tensor([700, 700, 740]), grid_size=0.05)  # one cloud is empty, cells repeat
    plain, ahead = Point(batch).locate(), Point(batch).locate()
    with pretend_gpu():
        prepare_levels(ahead, stride, (1, 1, 0, 1, 1))
    for level in range(5):
        one, other = kernel_map(plain), kernel_map(ahead)
        assert one.num_cells == other.num_cells
        assert len(one.taps) == len(other.taps)
        for a, b in zip(one.taps, other.taps, strict=True):
            assert a.entry == b.entry
            assert torch.equal(a.lower, b.lower)
            assert torch.equal(a.upper, b.upper)
        if level == 4:
            break
        one, other = pooling_plan(plain, stride[level]), pooling_plan(ahead, stride[level])
        for a, b in zip(one.groups, other.groups, strict=True):
            assert torch.equal(a, b)
        assert torch.equal(one.offset, other.offset)
        assert one.geometry.sizes == other.geometry.sizes
        plain, ahead = one.geometry, other.geometry
        assert torch.equal(plain.cells, ahead.cells)


def test_the_backbone_is_the_same_to_the_bit(batch, monkeypatch):
    monkeypatch.setattr(sparse_conv, "_PAIRED_CELLS", 10**6)  # at once, as on a GPU: products of chunks round otherwise
    backbone = make_model().eval().student["backbone"]
    data = dict(feat=batch["global_feat"], coord=batch["global_coord"], offset=batch["global_offset"], grid_size=0.05)
    plain = backbone(dict(data))
    with pretend_gpu():
        ahead = backbone(dict(data))
    assert torch.equal(plain.feat, ahead.feat)
    assert torch.equal(plain.coord, ahead.coord)


def test_what_the_host_remembers_of_a_tensor_goes_with_a_change():
    offset = offset_on_device([2, 5], "cpu")
    with Waits() as waits:
        assert host_values(offset) == [2, 5]
    assert waits.total == 0
    offset += 1
    assert host_values(offset) == [3, 6]
    with torch.inference_mode():
        assert host_values(torch.tensor([1, 4])) == [1, 4]


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_rows_of_a_known_number_are_those_of_nonzero(share):
    mask = torch.rand(50, generator=torch.Generator().manual_seed(0)) < share
    with pretend_gpu():
        assert torch.equal(true_rows(mask, int(mask.sum())), mask.nonzero().squeeze(1))

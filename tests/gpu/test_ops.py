"""Neighbours, segments, Sinkhorn, rows and the index tables of PTv3 on a device against the CPU's plain ones."""

import pytest
import torch

from benchmarks._clouds import surface_clouds
from benchmarks.ptv3_forward import room_cloud
from lam3c_plugin.embedded.geometry import CloudGeometry
from lam3c_plugin.embedded.ptv3.levels import prepare_levels
from lam3c_plugin.embedded.ptv3.patches import patch_route
from lam3c_plugin.embedded.ptv3.pooling import pooling_plan
from lam3c_plugin.embedded.ptv3.rows import expand_rows, group_by_key, group_max, group_mean, group_sum
from lam3c_plugin.embedded.ptv3.sparse_conv import kernel_map
from lam3c_plugin.encode import Encoder
from lam3c_plugin.models.views import generate_mask, match_points, roll_index
from lam3c_plugin.ops import knn, segment_count, segment_mean, segment_sum, sinkhorn_knopp
from lam3c_plugin.ops.device import host_values, offset_on_device, pretend_gpu, to_device, true_rows
from lam3c_plugin.ops.sinkhorn import sinkhorn_knopp_reference
from tests.gpu.conftest import relative_error


@pytest.mark.parametrize(("backend", "radius"), [("auto", 0.08), ("grid", 0.3), ("cdist", 0.08), ("auto", None)])
def test_neighbours_equal_the_tree(device, backend, radius):
    coord, offset = surface_clouds(3000, 5, 0.04, "cpu")
    other, _ = surface_clouds(3000, 5, 0.04, "cpu", seed=1)
    wanted = knn(coord, offset, other, offset, 9, radius, backend="scipy")
    found = knn(coord.to(device), offset.to(device), other.to(device), offset.to(device), 9, radius, backend=backend)
    torch.testing.assert_close(found[1].cpu(), wanted[1], rtol=1e-5, atol=1e-6)
    index, reached = found[0].cpu(), wanted[1].isfinite()
    assert torch.equal(index >= 0, reached)
    far = (coord[:, None] - other[index.clamp(min=0)]).norm(dim=2)
    torch.testing.assert_close(far[reached], wanted[1][reached], rtol=1e-5, atol=1e-6)


def test_segments(device):
    generator = torch.Generator().manual_seed(0)
    values, index = torch.randn(5000, 7, generator=generator), torch.randint(40, (5000,), generator=generator)
    for function in (segment_sum, segment_mean):
        found = function(values.to(device), index.to(device), 41)
        torch.testing.assert_close(found.cpu(), function(values.double(), index, 41).float(), rtol=1e-4, atol=1e-5)
    assert torch.equal(segment_count(index.to(device), 41).cpu(), segment_count(index, 41))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sinkhorn(device, dtype):
    similarity = torch.rand(3000, 200, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = sinkhorn_knopp(similarity.to(device), 0.05)
    torch.testing.assert_close(
        found.cpu().double(), sinkhorn_knopp_reference(similarity.double(), 0.05), rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_and_their_gradients(device, dtype):
    generator = torch.Generator().manual_seed(0)
    keys = torch.randint(300, (4000,), generator=generator)
    values = torch.randn(4000, 16, generator=generator).to(dtype)
    results = []
    for where in ("cpu", device):
        groups = group_by_key(keys.to(where), len(keys.unique()))
        leaf = values.to(where, copy=True).requires_grad_()  # a copy: one leaf for each device
        most = group_max(leaf, groups)
        expand_rows(most, groups).float().square().sum().backward()
        sums = group_sum(leaf.detach(), groups), group_mean(leaf.detach(), groups)
        results.append([most.detach(), *sums, leaf.grad])
    for mine, theirs in zip(results[1], results[0], strict=True):
        wide = 1e-5 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(mine.cpu(), theirs, rtol=wide, atol=wide)


def test_host_numbers_and_rows_of_a_mask(device):
    mask = torch.rand(5000, generator=torch.Generator().manual_seed(0)).to(device) < 0.3
    with pretend_gpu():
        assert torch.equal(true_rows(mask, int(mask.sum())), mask.nonzero().squeeze(1))
    assert to_device([], device).tolist() == []
    offset = offset_on_device([3, 3, 9], device)
    assert host_values(offset) == offset.tolist() == [3, 3, 9]
    offset[1] += 1
    assert host_values(offset) == [3, 4, 9]


def tables(device):
    """Cells, curves, neighbours, pooling and patches of three clouds, made the GPU's way."""
    clouds = [room_cloud(size, "crop", seed) for seed, size in enumerate((3000, 40, 700))]
    cells = torch.cat([cloud["grid_coord"] for cloud in clouds]).to(device)
    sizes = [len(cloud["grid_coord"]) for cloud in clouds]
    batch = torch.arange(3).repeat_interleave(torch.tensor(sizes)).to(device)
    geometry = CloudGeometry.from_cells(cells, batch, sizes)
    with pretend_gpu():
        prepare_levels(geometry, (2, 2), (1, 1, 1))
    found = []
    for _ in range(3):
        found += [geometry.cells, *geometry.curve("hilbert"), *geometry.curve("z-trans")]
        route = patch_route(geometry, 256, "hilbert-trans")
        found += [route.row, route.slot, route.copy_row, route.copy_slot]
        found += [part for tap in kernel_map(geometry).taps for part in (tap.lower, tap.upper)]
        plan = pooling_plan(geometry, 2)
        found += [plan.groups.group, plan.offset]
        geometry = plan.geometry
    return [item.cpu() for item in found]


def test_index_tables_are_the_same_everywhere(device):
    found, wanted = tables(device), tables("cpu")
    assert len(found) == len(wanted) > 100
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, wanted, strict=True))


def test_masks_matches_and_the_roll(device):
    coord, offset = surface_clouds(4000, 4, 0.04, "cpu")
    mask = generate_mask(coord.to(device), offset.to(device), 0.2, 0.5)
    assert 0.3 < float(mask.float().mean()) < 0.7
    rows, rolled = roll_index(offset.to(device))
    assert torch.equal(rows.cpu(), roll_index(offset)[0])
    target = coord[rows.cpu()] + 0.001
    pairs = match_points(coord.to(device), offset.to(device), target.to(device), rolled, 0.05)
    assert torch.equal(pairs.cpu(), match_points(coord, offset, target, rolled.cpu(), 0.05))


@pytest.mark.parametrize("chunk", [None, 1000])
def test_encoded_features_are_the_cpus(device, chunk):
    coord = room_cloud(6000, "crop")["coord"]
    wanted = Encoder.random("tiny", device="cpu").encode(coord.numpy(), grid_size=0.04, chunk=chunk)
    found = Encoder.random("tiny", device=device).encode(coord.to(device), grid_size=0.04, chunk=chunk)
    assert found.device.type == device
    assert relative_error(found, torch.from_numpy(wanted)) < 1e-3

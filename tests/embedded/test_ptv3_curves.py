"""Curves: exact codes, one cloud after the other, and a depth for each cloud."""

import pytest
import torch

from lam3c_plugin.embedded.geometry import CloudGeometry, PointCloudError
from lam3c_plugin.embedded.serialization import CURVES, encode, hilbert_code, z_code


def cells_of(coord, grid_size, sizes=None, origin="cloud"):
    sizes = sizes or [len(coord)]
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return CloudGeometry.from_coord(coord, grid_size, batch, sizes, origin).cells


def full_cube(depth):
    side = torch.arange(1 << depth)
    return torch.cartesian_prod(side, side, side)


def z_code_plain(cell, depth):
    code = 0
    for bit in range(depth):
        for shift, value in zip((2, 1, 0), cell, strict=True):
            code |= ((value >> bit) & 1) << (3 * bit + shift)
    return code


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("order", CURVES)
def test_codes_number_every_cell_of_a_cube_once(order, depth):
    code = encode(full_cube(depth), depth=depth, order=order)
    assert torch.equal(code.sort().values, torch.arange(8**depth))


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_hilbert_steps_to_a_cell_that_touches(depth):
    cells = full_cube(depth)
    walk = cells[hilbert_code(cells, depth).argsort()]
    assert (walk.diff(dim=0).abs().sum(1) == 1).all()
    assert walk[0].tolist() == [0, 0, 0]


def test_z_codes_weave_bits_with_x_on_top():
    cells = torch.randint(0, 1 << 16, (200, 3), generator=torch.Generator().manual_seed(0))
    assert z_code(cells).tolist() == [z_code_plain(cell, 16) for cell in cells.tolist()]


@pytest.mark.parametrize("order", CURVES)
def test_depth_sixteen_is_exact(order):
    corner = torch.tensor([[65534, 65534, 65534], [0, 0, 0], [65534, 0, 1]])
    code = encode(corner, depth=16, order=order)
    assert (code >= 0).all()
    assert (code < 1 << 48).all()
    assert len(code.unique()) == 3


def test_trans_exchanges_x_and_y():
    cells = torch.randint(0, 64, (100, 3), generator=torch.Generator().manual_seed(1))
    for curve in ("z", "hilbert"):
        swapped = encode(cells[:, [1, 0, 2]], depth=6, order=curve)
        assert torch.equal(encode(cells, depth=6, order=f"{curve}-trans"), swapped)


def test_points_keep_the_depth_of_their_own_curve():
    cells = torch.randint(0, 8, (300, 3), generator=torch.Generator().manual_seed(2))
    depth = torch.randint(3, 17, (300,), generator=torch.Generator().manual_seed(3))
    wanted = [int(hilbert_code(cell[None], int(d))) for cell, d in zip(cells, depth, strict=True)]
    assert hilbert_code(cells, depth).tolist() == wanted


def test_unknown_curve():
    with pytest.raises(ValueError, match="unknown curve 'peano'"):
        encode(torch.zeros(1, 3).long(), order="peano")


def test_origin_and_depth_are_each_clouds_own():
    coord = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [100.0, 5.0, 5.0], [100.05, 5.0, 5.0]])
    batch = torch.tensor([0, 0, 1, 1])
    cells = cells_of(coord, 0.02, [2, 2])
    assert cells[2].tolist() == [0, 0, 0]
    own = CloudGeometry.from_cells(cells, batch, [2, 2])
    assert own.point_depth().tolist() == [6, 6, 2, 2]
    together = cells_of(coord, torch.tensor([0.02]), [2, 2], origin="batch")
    assert together[2].tolist() == torch.div(coord[2], 0.02, rounding_mode="trunc").tolist()
    assert CloudGeometry.from_cells(together, batch, [2, 2], "batch").point_depth() == 13


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_coordinates_are_named(value):
    coord = torch.rand(10, 3)
    coord[7, 1] = value
    with pytest.raises(PointCloudError, match=r"NaN or infinite.*1 rows, first in row 7, cloud 1"):
        cells_of(coord, 0.02, [5, 5])


def test_too_many_cells_name_extent_and_grid():
    coord = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1400.0, 1.0]])
    with pytest.raises(ValueError, match=r"1400 m along y: at grid_size 0.02 m that is 70001 cells"):
        cells_of(coord, 0.02)


@pytest.mark.parametrize("grid", [0.0, -0.02, float("nan")])
def test_grid_size_must_be_positive(grid):
    with pytest.raises(ValueError, match="grid_size must be a positive length"):
        cells_of(torch.rand(5, 3), grid)


def test_grid_size_must_be_one_number():
    with pytest.raises(ValueError, match="one number"):
        cells_of(torch.rand(5, 3), torch.tensor([0.02, 0.02]))


@pytest.mark.parametrize("cell", [-1, 65535])
def test_given_cells_are_checked(cell):
    with pytest.raises(ValueError, match=r"grid_coord must lie in 0 \.\. 65534"):
        CloudGeometry.from_cells(torch.tensor([[0, 0, cell]]), torch.zeros(1).long(), [1])

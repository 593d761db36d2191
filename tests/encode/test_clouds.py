import numpy as np
import pytest
import torch

from lam3c_plugin.embedded.geometry import PointCloudError
from lam3c_plugin.embedded.transforms import Compose
from lam3c_plugin.encode.clouds import prepare, unit_colors, unit_normals
from lam3c_plugin.recipes.downstream import val_transforms
from tests.encode.rooms import GRID, inputs, room


def one_a_cell(grid=GRID):
    """Rows of a room that are alone in their cells, so that drawing one of a cell leaves no choice."""
    cloud = room()
    rows = np.arange(len(cloud))
    for _ in range(20):  # dropping points moves the box and with it the grid
        part = prepare(cloud.coord[rows], grid_size=grid, normals="zero")
        if len(part.rows) == len(rows):
            return cloud.select(rows)
        rows = np.sort(rows[part.rows.numpy()])
    raise AssertionError("no such subset")


def test_it_is_what_the_validation_transforms_make():
    cloud = one_a_cell()
    sample = dict(coord=cloud.coord.copy(), color=cloud.color.astype(np.float32), normal=cloud.normal.copy())
    sample.update(segment=cloud.segment.copy(), name="room", split="val")
    expected = Compose(val_transforms(grid_size=GRID))(sample)
    part = prepare(cloud.coord, cloud.color, cloud.normal, grid_size=GRID)
    assert torch.equal(part.feat, expected["feat"])
    assert torch.equal(part.cells.long(), expected["grid_coord"].long())
    assert torch.equal(part.inverse, expected["inverse"].reshape(-1))


def test_the_point_nearest_to_the_centre_stands_for_its_cell():
    # the box is 2 m wide, its middle lies at 0: cells of 0.5 m, centres at 0.25, 0.75, ... along each axis
    near, far = [1.7, 1.7, 1.7], [1.6, 1.6, 1.6]
    coord = np.array([[0.0, 0, 0], [2.0, 2, 2], far, near])
    part = prepare(coord, normals="zero", grid_size=0.5)
    assert part.rows.tolist() == [0, 3, 1]
    assert part.inverse.tolist() == [0, 2, 1, 1]


@pytest.mark.parametrize(
    ("first", "second", "wins"),
    [
        (([1.8, 1.75, 1.75], [9, 9, 9], [1, 0, 0]), ([1.7, 1.75, 1.75], [9, 9, 9], [1, 0, 0]), 1),  # the lower x
        (([1.75, 1.75, 1.7], [9, 9, 9], [1, 0, 0]), ([1.75, 1.75, 1.8], [0, 0, 0], [1, 0, 0]), 0),  # z before colour
        (([1.7, 1.7, 1.7], [9, 1, 9], [1, 0, 0]), ([1.7, 1.7, 1.7], [9, 1, 8], [1, 0, 0]), 1),  # the darker blue
        (([1.7, 1.7, 1.7], [9, 1, 9], [0, 1, 0]), ([1.7, 1.7, 1.7], [9, 1, 9], [0, 0, 1]), 1),  # the lower normal
        (([1.7, 1.7, 1.7], [9, 1, 9], [0, 1, 0]), ([1.7, 1.7, 1.7], [9, 1, 9], [0, 1, 0]), 0),  # equal: the first
    ],
)
def test_ties_go_by_coordinates_then_colour_then_normal(first, second, wins):
    box = ([0, 0, 0], [0, 0, 0], [1, 0, 0]), ([2, 2, 2], [255, 0, 0], [1, 0, 0])
    coord, color, normal = (np.array(values, np.float64) for values in zip(first, second, *box, strict=True))
    part = prepare(coord, color, normal, grid_size=0.5)
    assert part.rows[part.inverse[0]] == wins


def test_the_order_of_rows_changes_nothing():
    cloud = room(24_000)
    columns = [np.concatenate([value, value[:5000]]) for value in inputs(cloud)]  # with duplicates
    shuffle = np.random.default_rng(0).permutation(len(columns[0]))
    for given in (columns, columns[:1], columns[:2]):
        part = prepare(*given, grid_size=GRID)
        mixed = prepare(*(value[shuffle] for value in given), grid_size=GRID)
        assert torch.equal(mixed.feat, part.feat)
        assert torch.equal(mixed.cells, part.cells)
        assert torch.equal(mixed.inverse, part.inverse[shuffle])


def test_map_coordinates_keep_their_millimetres():
    cloud = room()
    coord, place = cloud.coord.astype(np.float64), np.array([688_000.0, 5_332_000.0, 512.0])
    near = prepare(coord, cloud.color, cloud.normal, grid_size=GRID)
    far = prepare(coord + place, cloud.color, cloud.normal, grid_size=GRID)
    # a point on a cell's face may round to its other side, no more
    assert abs(len(near.cells) - len(far.cells)) <= 2
    same, a, b = np.intersect1d(near.rows, far.rows, return_indices=True)
    assert len(same) >= len(near.rows) - 4
    assert float((near.feat[a] - far.feat[b]).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("color", "expected"),
    [
        (np.array([[0, 255, 51]], np.uint8), [0, 1, 0.2]),
        (np.array([[0, 65535, 13107]], np.uint16), [0, 1, 0.2]),
        (np.array([[0.0, 1.0, 0.2]]), [0, 1, 0.2]),
        (np.array([[0.0, 255.0, 51.0]], np.float32), [0, 1, 0.2]),
        (torch.tensor([[0, 1, 0]], dtype=torch.uint8), [0, 1 / 255, 0]),
        (torch.tensor([[0, 65535, 13107]]).to(torch.uint16), [0, 1, 0.2]),
    ],
)
def test_colours_of_any_range(color, expected):
    part = prepare(np.zeros((1, 3)), color, normals="zero")
    assert part.feat[0, 3:6].tolist() == pytest.approx(expected)


def test_a_given_range_overrules_the_guess():
    dark = torch.tensor([[0.0, 1.0, 0.5]])
    assert unit_colors(dark)[0, 1] == 1
    assert unit_colors(dark, 255)[0, 1] == pytest.approx(1 / 255)
    with pytest.raises(PointCloudError, match=r"color goes from 0 to 200: give 0-255 or 0-1"):
        unit_colors(torch.tensor([[0, 200, 3]]), 1)


def test_a_few_strays_are_clipped_with_a_warning_and_do_not_turn_a_cloud_black():
    color = np.tile(np.linspace(0, 1, 100)[:, None], (1, 3))
    for full, stray in ((1, 1.004), (255, 256.0), (255, 1e5), (65535, 1e5)):
        odd = color * full
        odd[50, 1] = stray
        with pytest.warns(UserWarning, match="1 colour values beyond"):
            out = unit_colors(torch.from_numpy(odd))
        assert out[50].tolist() == pytest.approx([color[50, 0], 1, color[50, 2]])


def test_normals_get_length_one_and_good_ones_pass_to_the_bit():
    normal = torch.tensor([[0.0, 0, 2], [0, 0, 0], [0.6, 0.8, 0.0005]])
    out = unit_normals(normal)
    assert out[0].tolist() == [0, 0, 1]
    assert out[1].tolist() == [0, 0, 0]
    assert torch.equal(out[2], normal[2])


def test_normals_are_estimated_or_zero():
    cloud = room()
    estimated = prepare(cloud.coord, cloud.color, grid_size=GRID).feat[:, 6:]
    true = prepare(cloud.coord, cloud.color, cloud.normal, grid_size=GRID).feat[:, 6:]
    assert float((estimated * true).sum(1).abs().median()) > 0.95
    assert not prepare(cloud.coord, normals="zero", grid_size=GRID).feat[:, 3:].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coord": np.zeros((0, 3))}, "coord is empty"),
        ({"coord": np.zeros((4, 2))}, r"coord has shape \(4, 2\)"),
        ({"coord": np.array([["a", "b", "c"]])}, "coord holds <U1 values"),
        ({"coord": [[0, 0, 0], [1, 1]]}, "coord is no array"),
        ({"coord": np.array([[0, 0, np.nan], [0, 0, 0]])}, "1 rows, first in row 0.*drop these points"),
        ({"coord": np.zeros((2, 3)), "color": np.zeros((3, 3))}, "color has 3 rows and coord 2"),
        ({"coord": np.zeros((1, 3)), "color": np.full((1, 3), np.nan)}, "color holds NaN"),
        ({"coord": np.zeros((1, 3)), "color": np.full((1, 3), -4)}, "color goes from -4"),
        ({"coord": np.zeros((1, 3)), "color": np.full((1, 3), 300.0)}, "color goes from 300 to 300.*say color_range"),
        ({"coord": np.zeros((1, 3)), "color": np.ones((1, 3)), "color_range": "x"}, "color_range must be.*got 'x'"),
        ({"coord": np.ma.masked_array(np.zeros((2, 3)), np.eye(2, 3))}, "coord has masked values"),
        ({"coord": np.zeros((1, 3)), "normal": np.full((1, 3), np.inf)}, "normal holds NaN or infinite"),
        ({"coord": np.array([[0, 0, 0], [9000, 0, 0]])}, "extends over 9000 m along x.*check the units"),
        ({"coord": np.zeros((1, 3)), "grid_size": 0}, "grid_size must be a positive"),
        ({"coord": np.zeros((1, 3)), "normals": "guess"}, "normals='guess'"),
    ],
)
def test_errors_name_value_and_cure(arguments, message):
    with pytest.raises(PointCloudError, match=message):
        prepare(**arguments)

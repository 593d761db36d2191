import numpy as np
import pytest

from data_tools.drawing.points import (
    OBLIQUE,
    TOP,
    cut_backs,
    cut_ceiling,
    cut_front,
    render_points,
    surface_spacing,
    turntable,
)
from tests.rooms import box_room


def room():
    """Floor (red), ceiling (white), four walls (blue) and a green block on the floor; 4 x 3 x 2.5 m."""
    cloud = box_room(24_000, (4.0, 3.0, 2.5))
    color = np.array([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]])[cloud.segment]
    color[cloud.normal[:, 2] < 0] = 1
    return cloud.coord, color


def test_the_top_view_looks_through_the_ceiling_onto_floor_and_box():
    coord, color = room()
    image = render_points(coord, color, size=(160, 120), view=TOP, shading=0)
    assert image.shape == (120, 160, 3)
    assert image.dtype == np.uint8
    red, green, blue = (image.reshape(-1, 3).argmax(1) == channel for channel in range(3))
    coloured = image.reshape(-1, 3).min(1) < 100
    assert (coloured & red).mean() > 0.4
    assert 0.03 < (coloured & green).mean() < 0.15
    assert (coloured & blue).mean() < 0.25
    box = image[90 - 10 : 90, 35:50].reshape(-1, 3)  # x 0.5 to 1.5 of 4 m from the left, y 0.5 to 1.5 from the bottom
    assert (box.argmax(1) == 1).mean() > 0.9
    closed = render_points(coord, color, size=(160, 120), view=TOP, ceiling_cut=0, shading=0)
    assert (closed[30:90, 40:120].min(2) > 200).mean() > 0.7


def test_nearer_points_hide_farther_ones():
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 50), np.linspace(0, 1, 50)), -1).reshape(-1, 2)
    coord = np.concatenate([np.c_[grid, np.full(len(grid), z)] for z in (1.0, 0.0, 0.5)])
    color = np.repeat([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], len(grid), axis=0)
    image = render_points(coord, color, size=(60, 60), view=TOP, ceiling_cut=0, shading=0)
    assert (image[10:50, 10:50] == [255, 0, 0]).all()
    order = np.random.default_rng(0).permutation(len(coord))
    np.testing.assert_array_equal(
        image, render_points(coord[order], color[order], size=(60, 60), view=TOP, ceiling_cut=0, shading=0)
    )


def test_the_oblique_view_opens_the_near_walls():
    coord, color = room()
    images = [render_points(coord, color, size=(120, 90), open_front=choice, shading=0) for choice in (True, False)]
    red = [((image[..., 0] > 150) & (image[..., 2] < 100)).mean() for image in images]
    assert red[0] > 1.5 * red[1]


def test_front_cut_does_not_care_how_a_room_is_turned():
    coord, color = room()
    toward = np.array([0.0, -1.0, 0.5])
    kept = cut_front(coord, toward)
    walls = color[:, 2] == 1
    near = walls & (coord[:, 1] < 0.01) & (coord[:, 2] > 0.3) & (np.abs(coord[:, 0] - 2) < 1.4)
    far = walls & (coord[:, 1] > 2.99)
    assert not kept[near].any()
    assert kept[far].all()
    assert kept[coord[:, 2] == 0].mean() > 0.95
    angle = np.deg2rad(37)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    turned = cut_front(coord @ turn.T + [7, -3, 1], turn @ toward)
    assert not turned[near].any()
    assert turned[far].mean() > 0.98


def test_render_edge_cases():
    blank = render_points(np.zeros((0, 3)), np.zeros((0, 3)), size=(20, 10))
    assert (blank == 255).all()
    assert blank.shape == (10, 20, 3)
    assert (render_points([[np.nan, 0, 0]], [[0.0, 0, 0]], size=(20, 10)) == 255).all()
    one = render_points([[1.0, 2, 3]], np.zeros((1, 3)), size=(21, 11), view=TOP)
    assert (one[5, 10] == 0).all()
    assert (one == 255).mean() > 0.5
    same = render_points(np.ones((5, 3)), np.full((5, 3), 255, np.uint8), size=(20, 10))
    assert same.dtype == np.uint8
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 3\)"):
        render_points(np.zeros((2, 3)), np.zeros((3, 3)))


def test_cut_ceiling():
    z = np.linspace(0, 2.5, 1001)
    kept = cut_ceiling(np.stack([z, z, z], axis=1), share=0.2)
    assert z[kept].max() == pytest.approx(2.0, abs=0.05)
    assert cut_ceiling(np.ones((4, 3))).all()


def test_spacing_is_about_that_of_a_grid():
    step = 0.02
    grid = np.stack(np.meshgrid(np.arange(0, 4, step), np.arange(0, 3, step)), -1).reshape(-1, 2)
    for count in (len(grid), 2000):
        rows = np.random.default_rng(0).permutation(len(grid))[:count]
        flat = np.c_[grid[rows], np.zeros(count)]
        assert surface_spacing(flat) == pytest.approx(np.sqrt(12 / count), rel=0.25)
    assert surface_spacing(np.ones((5, 3))) < 1e-5


def test_with_normals_surfaces_that_face_away_are_left_out():
    coord, color = room()
    middle = np.array([2.0, 1.5, 1.25])
    normal = np.zeros_like(coord)
    on = np.abs(np.abs(coord - middle) - middle) < 1e-9
    normal[on] = -np.sign(coord - middle)[on]  # inwards
    normal[~on.any(axis=1)] = [0, 0, 1]  # the box
    noisy = normal + np.random.default_rng(0).normal(0, 1, coord.shape)
    kept = cut_backs(coord, noisy, np.array([0.0, -0.8, 0.6]))
    inner = (np.abs(coord - middle) < middle - 0.2).sum(axis=1) == 2  # away from the edges of the room
    near, ceiling = on[:, 1] & (coord[:, 1] < 1), on[:, 2] & (coord[:, 2] > 2)
    for hidden in (near, ceiling):
        assert kept[hidden & inner].mean() < 0.1
    for seen in (on[:, 1] & ~near, on[:, 2] & ~ceiling):
        assert kept[seen & inner].mean() > 0.9
    opened = render_points(coord, color, (120, 90), OBLIQUE, normal, ceiling_cut=0, shading=0)
    assert ((opened[..., 0] > 150) & (opened[..., 2] < 100)).mean() > 0.15  # the floor is seen


def test_the_scale_bar_is_a_metre_long():
    coord, color = room()
    image = render_points(coord, color, (300, 232), TOP, background=(200, 200, 200), scale_bar=True)
    assert image.shape == (232, 300, 3)
    assert (image[0] == 200).all()
    bar = (image[-16, :] < 60).all(axis=1)
    floor = np.flatnonzero((image[100] != 200).any(axis=1))
    assert bar.sum() == pytest.approx((floor[-1] - floor[0]) / 4, rel=0.1)


def test_the_turntable_shows_every_side():
    cloud = box_room()
    image = turntable(cloud.coord, {"colours": cloud.color}, "a room", size=(60, 40))
    title, name = 18 + 10, 14 + 10
    assert image.shape == (title + name + 40 + 2 * 4, 4 * 60 + 5 * 4, 3)
    assert (image[:title] < 90).any()
    assert (image[title : title + name] < 90).any()
    views = [image[title + name + 4 : -4, 4 + 64 * i : 64 + 64 * i] for i in range(4)]
    assert all((a != b).any() for i, a in enumerate(views) for b in views[:i])

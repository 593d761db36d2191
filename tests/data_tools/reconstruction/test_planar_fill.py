"""Flat-coloured patches take the planes around them; a guess that another view looks through goes."""

import numpy as np
import pytest

from data_tools.reconstruction.depth_sweep import DepthMap, View
from data_tools.reconstruction.planar_fill import confirm_filled, fill_planes

pytest.importorskip("cv2")
SIZE = (96, 128)
MATRIX = np.array([[110.0, 0, 63.5], [0, 110.0, 47.5], [0, 0, 1]])


def plane_depth(a, b, c):
    """Depth of the plane whose inverse depth is a x + b y + c."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return (1 / (a * x + b * y + c)).astype(np.float32)


def framed_panel(rng):
    """An even panel in a textured frame, and where matching would be sure."""
    color = np.repeat(rng.integers(40, 216, (*SIZE, 1)), 3, 2).astype(np.uint8)
    panel = np.zeros(SIZE, bool)
    panel[28:68, 24:104] = True
    color[panel] = 128
    return color, panel


def test_an_even_panel_takes_the_plane_of_its_frame():
    color, panel = framed_panel(np.random.default_rng(0))
    depth = plane_depth(0.0005, 0.0008, 0.3)
    filled = fill_planes(color, np.where(panel, 0, depth), ~panel)
    assert (filled[~panel] == 0).all()
    inner = panel.copy()
    inner[[28, 29, 66, 67]] = inner[:, [24, 25, 102, 103]] = False
    assert (filled[inner] > 0).all()
    assert np.abs(filled[inner] / depth[inner] - 1).max() < 1e-4


def test_planted_wrong_depths_on_the_border_do_not_bend_the_plane():
    rng = np.random.default_rng(1)
    color, panel = framed_panel(rng)
    depth = plane_depth(0.0005, 0.0, 0.3)
    seen = np.where(rng.random(SIZE) < 0.3, depth * rng.uniform(0.4, 0.9, SIZE), depth).astype(np.float32)
    filled = fill_planes(color, np.where(panel, 0, seen), ~panel)
    assert np.abs(filled[40:60, 50:80] / depth[40:60, 50:80] - 1).max() < 0.01


def test_two_walls_of_one_colour_keep_their_corner():
    color, panel = framed_panel(np.random.default_rng(2))
    left, right = plane_depth(0.002, 0, 0.2), plane_depth(-0.002, 0, 0.2 + 0.004 * 63.5)
    depth = np.maximum(left, right)  # meet in column 63.5
    filled = fill_planes(color, np.where(panel, 0, depth), ~panel)
    error = np.abs(filled / depth - 1)
    assert error[32:64, 28:50].max() < 0.01
    assert error[32:64, 78:100].max() < 0.01


def test_without_enough_sure_depth_nothing_is_filled():
    color, _ = framed_panel(np.random.default_rng(3))
    sure = np.zeros(SIZE, bool)
    sure[0, :10] = True
    assert not fill_planes(color, plane_depth(0, 0, 0.3), sure).any()


def test_a_plane_of_another_colour_does_not_run_on_into_the_patch():
    color, panel = framed_panel(np.random.default_rng(4))
    color[~panel] = np.clip(color[~panel] + np.array([0, 90, 0]), 0, 255)  # a green frame: not the panel's surface
    assert not fill_planes(color, np.where(panel, 0, plane_depth(0, 0, 0.3)), ~panel).any()


def two_views(depths, sure):
    """Views 10 cm apart that look the same way, with the given depths."""
    views = []
    for number in range(len(depths)):
        pose = np.eye(4)
        pose[0, 3] = -0.1 * number
        views.append(View(np.zeros(SIZE, np.uint8), MATRIX, pose))
    whole = [DepthMap(depth.astype(np.float32), np.ones(SIZE, np.float32)) for depth in depths]
    sources = [[other for other in range(len(depths)) if other != view] for view in range(len(depths))]
    return views, whole, sure, sources


def test_a_guess_counts_where_the_others_agree():
    wall = np.full(SIZE, 2.0)
    guess = np.zeros(SIZE, bool)
    views = two_views([wall, wall, wall], [guess, guess, ~guess])
    depth, good = confirm_filled(*views, 0, 2)
    assert good[:, 20:100].all()
    assert np.allclose(depth[good], 2.0, atol=1e-4)
    _, alone = confirm_filled(*two_views([wall, wall * 1.5, wall * 0.5], [guess] * 3), 0, 2)
    assert not alone.any()


def test_a_guess_that_a_view_looks_through_is_dropped():
    wall, far = np.full(SIZE, 2.0), np.full(SIZE, 4.0)
    guess = np.zeros(SIZE, bool)
    views = two_views([wall, wall, wall, far], [guess, guess, guess, ~guess])
    _, good = confirm_filled(*views, 0, 2)
    assert not good[:, 40:90].any()

"""The release's post-processing, step by step, against small clouds whose result its rule gives by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_tools.chain.recipes import RECIPES
from data_tools.clouds.normals import fit_normals, make_tree
from data_tools.postprocessing import outliers, sampling, scale
from data_tools.postprocessing.pipeline import process
from data_tools.postprocessing.settings import PostprocessSettings
from data_tools.postprocessing.upright import find_upright
from tests.data_tools.postprocessing.postprocess_rooms import room

RELEASE = PostprocessSettings(**RECIPES["release"]["postprocess"])


def grid(count, gap=1.0):
    """(count^2, 3) points of a level square."""
    x, y = np.meshgrid(np.arange(count), np.arange(count))
    return np.column_stack([x.ravel(), y.ravel(), np.zeros(count * count)]).astype(np.float32) * np.float32(gap)


def out_of(coord, **other):
    found, _ = outliers.find_outliers(coord, make_tree(coord), replace(RELEASE, **other), 1.0)
    return set(np.flatnonzero(found))


def test_a_point_without_another_within_ten_spacings_goes():
    coord = np.concatenate([grid(40), np.float32([[20, 20, 10.1], [5, 5, 9.9]])])
    assert out_of(coord, outlier_ratio=1e9) == {1600}


def test_a_mean_distance_of_four_sigma_over_the_mean_goes():
    turn, height = np.arange(1600) * np.pi * (3 - 5**0.5), np.linspace(-1, 1, 1600)
    ball = np.column_stack([np.cos(turn) * (1 - height**2) ** 0.5, np.sin(turn) * (1 - height**2) ** 0.5, height])
    coord = np.concatenate([20 * ball, [[0, 0, 24], [0, 20.5, 0]]]).astype(np.float32)
    apart = np.sort(np.linalg.norm(coord[:, None] - coord[None], axis=2), axis=1)[:, 1:51].mean(axis=1)
    assert out_of(coord, radius_factor=1e9) == set(np.flatnonzero(apart > apart.mean() + 4 * apart.std())) == {1600}


def test_together_they_take_one_in_a_hundred_the_farthest():
    far = np.column_stack([np.arange(40) * 50.0, np.zeros(40), 500 + np.arange(40)]).astype(np.float32)
    assert len(out_of(np.concatenate([grid(40), far]))) == 16  # of 1,640


def test_up_is_across_the_plane_of_most_cells_not_of_most_points():
    floor = grid(50, 0.1)  # 2,500 cells of 4 spacings
    wall = grid(160, 0.01)[:, [2, 0, 1]]  # ten times the points, 1,600 cells
    coord = np.concatenate([floor, wall])
    turn = Rotation.from_euler("xyz", [100, 20, 40], degrees=True).as_matrix()
    found = find_upright((coord @ turn.T).astype(np.float32), None, None, "planes", np.random.default_rng(0), 0.01)
    assert found.rotation @ turn @ [0, 0, 1] == pytest.approx([0, 0, 1], abs=1e-3)


def test_every_scene_is_multiplied_by_one_factor_and_the_draw_follows_the_table():
    size = np.array([3.0, 4.0, 12.0])  # a diagonal of 13
    assert scale.choose_scale(None, RELEASE, "a", True, size).factor == 1.753
    drawn = PostprocessSettings(scale="diagonal")
    lengths = 13 * np.array([scale.choose_scale(None, drawn, f"s{i}", True, size).factor for i in range(3000)])
    edges = [2.835, 5.236, 6.323, 7.791, 9.365, 10.929, 12.139, 15.189]
    shares = np.histogram(lengths, edges)[0] / 3000
    assert shares == pytest.approx([0.01, 0.09, 0.25, 0.30, 0.20, 0.10, 0.05], abs=0.03)


def test_density_changes_by_three_tenths_and_not_below_forty_thousand():
    rng = np.random.default_rng(0)
    coord = np.column_stack([rng.random((400_000, 2)) * 4, np.zeros(400_000)]).astype(np.float32)
    cells = len(np.unique(np.floor(coord / 0.01333).astype(int), axis=0))
    steps = (0.01333, RELEASE.min_points, rng, 1)
    found = sampling.thin_to_spacing(coord, 0.003, *steps, RELEASE.thin_limit)
    assert 0.7 * cells <= len(found.index) < 0.72 * cells
    assert len(sampling.thin_to_spacing(coord, 0.003, *steps).index) < 0.68 * cells
    small = coord[(coord[:, :2] < 1.5).all(axis=1)]
    assert 40_000 <= len(sampling.thin_to_spacing(small, 0.003, *steps, RELEASE.thin_limit).index) < 41_000


def test_each_normal_is_of_the_32_nearest_points():
    rng = np.random.default_rng(0)
    coord = rng.random((300, 3)).astype(np.float32) * np.float32([1, 1, 0.1])
    fitted = fit_normals(coord, make_tree(coord), RELEASE.neighbours, RELEASE.normal_cell, 1)
    for point, normal in zip(coord[::50], fitted[::50], strict=True):
        near = coord[np.argsort(np.linalg.norm(coord - point, axis=1))[:32]].astype(np.float64)
        plane = np.linalg.eigh(np.cov(near.T))[1][:, 0]
        assert abs(plane @ normal) == pytest.approx(1, abs=1e-3)


def test_the_steps_together():
    assert (RELEASE.point_cap, RELEASE.cap_rule, RELEASE.spacing) == (2_000_000, "uniform", 0.01333)
    cloud, cameras, _ = room(0, "pi3", 60_000)
    found = process(cloud, cameras, RELEASE, "a")
    assert (found.meta["scale"]["factor"], found.meta["scale"]["rule"]) == (1.753, "fixed")
    assert found.meta["scale"]["said"].startswith("size unknown")
    assert found.meta["points"]["removed"]["outliers"] <= 600
    assert found.meta["up"]["rule"] == "planes"
    assert np.array(found.meta["rotation"])[2] == pytest.approx([0, 0, 1], abs=0.05)

"""Masks and assembly on a room whose truth is known."""

import cv2
import numpy as np
import pytest

from data_tools.clouds.predictions import share_ranks
from data_tools.reconstruction import Frames, Prediction, ReconstructSettings
from data_tools.reconstruction.assemble import build_cloud, view_quota
from data_tools.reconstruction.geometry import (
    fit_intrinsics,
    invert_poses,
    patch_grid,
    resize_images,
    rigid_poses,
    unproject,
)
from data_tools.reconstruction.masks import depth_edges, grid_normals, keep_masks, normal_edges, sky_by_color
from data_tools.stages.record import StageError
from tests.data_tools.box_room import camera_poses, lens, render, wall_distance

HEIGHT, WIDTH, VIEWS = 60, 80, 6
BASE = ReconstructSettings(edge="none")


def perfect(views=VIEWS):
    poses, camera = camera_poses(views), lens(HEIGHT, WIDTH)
    seen = [render(pose, camera, HEIGHT, WIDTH) for pose in poses]
    cameras = np.tile(camera, (views, 1, 1))
    points = unproject(np.stack([depth for depth, _ in seen]), cameras, poses)
    grid = points.shape[:3]
    color = np.stack([image for _, image in seen])
    prediction = Prediction(
        points, np.ones(grid, bool), np.ones(grid, np.float32), color, poses, cameras, np.arange(views)
    )
    return prediction, Frames(color, np.arange(views) * 7, np.arange(views) / 2.0)


def test_unprojected_depth_lies_on_the_walls():
    prediction, _ = perfect()
    assert wall_distance(prediction.points.reshape(-1, 3)).max() < 1e-5


def test_depth_edges_mark_both_sides_of_a_jump_and_nothing_else():
    depth = np.full((20, 30), 2.0)
    depth[:, 15:] = 3.0
    edges = depth_edges(depth, np.ones_like(depth, bool), 0.03)
    assert np.unique(np.nonzero(edges)[1]).tolist() == [14, 15]
    hole = np.ones_like(depth, bool)
    hole[:, 14:16] = False
    assert not depth_edges(depth, hole, 0.03).any()  # pixels that are not valid make no edge


def test_normal_rule_spares_slanted_walls():
    """A floor seen at a slant changes its depth by more than 3 % a pixel, but its normals agree."""
    poses, camera = np.eye(4)[None], lens(90, 120)
    row = np.mgrid[:90, :120][0]
    ray = (row - camera[1, 2]) / camera[1, 1]
    depth = np.where(ray > 0.03, 1.5 / np.maximum(ray, 1e-9), 50.0)  # floor 1.5 below, a far wall above
    depth[:, 60:80] = np.minimum(depth[:, 60:80], 4.0)  # a post
    points = unproject(depth[None], camera[None], poses)[0]
    valid = np.ones(depth.shape, bool)
    plain = depth_edges(depth, valid, 0.03)
    both = plain & normal_edges(grid_normals(points, valid))
    floor = np.zeros_like(valid)
    floor[52:60, 10:50] = True
    assert plain[floor].mean() > 0.9
    assert both[floor].mean() < 0.05
    assert both[50:60, 59:61].all()  # the post's side stays an edge


def test_rules_count_what_they_drop(tmp_path):
    prediction, frames = perfect()
    prediction.confidence[:, :10] = 0.05
    prediction.points[0, 0, 0] = np.nan
    keep, dropped = keep_masks(prediction, frames, ReconstructSettings(edge="none", confidence=0.1, border=2))
    assert dropped["confidence"] == pytest.approx(1 / 6, abs=1e-3)
    assert dropped["border"] > 0
    assert not keep[:, :10].any()
    assert not keep[:, :, :2].any()
    prediction.min_confidence = 0.1
    assert not keep_masks(prediction, frames, BASE)[0][:, :10].any()
    assert keep_masks(prediction, frames, ReconstructSettings(edge="none", confidence=0.0))[0].sum() == keep.size - 1
    mask = np.full((120, 160), 255, np.uint8)
    mask[:60] = 0
    cv2.imwrite(str(tmp_path / "000007.png"), mask)
    keep, _ = keep_masks(prediction, frames, ReconstructSettings(edge="none", mask_folder=str(tmp_path)))
    assert not keep[1, :30].any()
    assert keep[1, 30:].all()
    assert keep[2, 10:].all()
    with pytest.raises(StageError, match="no such folder of masks"):
        keep_masks(prediction, frames, ReconstructSettings(edge="none", mask_folder=str(tmp_path / "no")))


def test_dynamic_mask_drops_what_other_views_see_through_and_nothing_else():
    prediction, frames = perfect(48)
    prediction.color[:] = 90
    still = ReconstructSettings(edge="none", dynamic=True)
    keep, _ = keep_masks(prediction, frames, still)
    assert keep.mean() > 0.999  # a room that stands still keeps all
    pose = prediction.camera_to_world[15]
    ghost = (slice(20, 40), slice(30, 50))
    local = (prediction.points[15][ghost] - pose[:3, 3]) * 0.7 + pose[:3, 3]
    prediction.points[15][ghost] = local  # nearer in one view only
    keep, dropped = keep_masks(prediction, frames, still)
    assert keep[15][ghost].mean() < 0.3
    assert dropped["dynamic"] > 0
    others = np.delete(keep, 15, axis=0)
    assert others.mean() > 0.99


def test_sky_rule():
    image = np.full((60, 80, 3), 120, np.uint8)
    image[:20] = (120, 160, 220)
    image[40:50, 10:20] = (120, 160, 220)  # blue, but not joined to the top
    sky = sky_by_color(image)
    assert sky[:18].all()
    assert not sky[25:].any()


def test_grid_normals_point_to_the_camera_and_skip_holes():
    prediction, _ = perfect(1)
    valid = np.ones((HEIGHT, WIDTH), bool)
    valid[10:20, 10:20] = False
    valid[15, 15] = True  # alone
    normal = grid_normals(prediction.points[0], valid)
    to_camera = prediction.camera_to_world[0, :3, 3] - prediction.points[0]
    facing = (normal * to_camera).sum(axis=-1)
    assert (facing[valid & (np.abs(normal).sum(-1) > 0)] > 0).all()
    assert not normal[~valid].any()
    assert not normal[15, 15].any()
    cloud = build_cloud(prediction, valid[None], 0, 0)
    np.testing.assert_allclose(np.linalg.norm(cloud.normal, axis=1), 1, atol=1e-5)  # the lone one faces the camera


def test_point_cap_is_exact_seeded_and_fair():
    prediction, _ = perfect()
    keep = np.ones(prediction.valid.shape, bool)
    keep[0, 10:] = False
    one, two = build_cloud(prediction, keep, 5000, 1), build_cloud(prediction, keep, 5000, 1)
    assert len(one) == 5000
    np.testing.assert_array_equal(one.coord, two.coord)
    assert not np.array_equal(one.coord, build_cloud(prediction, keep, 5000, 2).coord)
    counts = np.array([800, 8000, 0, 1200])
    drawn = np.stack([view_quota(counts, 1000, np.random.default_rng(seed)) for seed in range(400)])
    assert (drawn.sum(axis=1) == 1000).all()
    np.testing.assert_allclose(drawn.mean(axis=0), counts / 10, rtol=0.05)
    assert len(build_cloud(prediction, np.zeros_like(keep), 0, 0)) == 0


def test_grids_are_whole_patches_of_about_the_same_shape():
    assert patch_grid(480, 640, pixels=255_000) == (434, 574)
    assert patch_grid(480, 640, longest=518) == (392, 518)
    for height, width in [(720, 1280), (1920, 1080), (100, 100), (1, 4000)]:
        rows, columns = patch_grid(height, width, pixels=255_000)
        assert rows % 14 == columns % 14 == 0
        assert rows * columns <= 255_000 or min(rows, columns) == 14
    small = resize_images(np.full((2, 60, 80, 3), 7, np.uint8), 28, 42)
    assert small.shape == (2, 28, 42, 3)
    assert (small == 7).all()


def test_intrinsics_from_points_in_spite_of_noise_and_holes():
    camera = np.array([[70.0, 0, 41.0], [0, 66.0, 28.0], [0, 0, 1]])
    depth = np.random.default_rng(0).uniform(1, 4, (1, HEIGHT, WIDTH))
    local = unproject(depth, camera[None], np.eye(4)[None])
    valid = np.random.default_rng(1).random(depth.shape) > 0.3
    np.testing.assert_allclose(fit_intrinsics(local, valid)[0], camera, rtol=1e-4)
    noisy = local * np.random.default_rng(2).normal(1, 0.02, (*local.shape[:3], 1))
    np.testing.assert_allclose(fit_intrinsics(noisy, valid)[0], camera, rtol=1e-3)
    nothing = fit_intrinsics(np.zeros_like(local), np.zeros_like(valid))[0]
    np.testing.assert_allclose(nothing, [[80, 0, 39.5], [0, 60, 29.5], [0, 0, 1]])


def test_poses_become_rigid_or_are_refused():
    poses = camera_poses(4)
    rough = poses + np.random.default_rng(0).normal(0, 1e-3, poses.shape)
    clean = rigid_poses(rough[:, :3])
    np.testing.assert_allclose(clean, poses, atol=5e-3)
    np.testing.assert_allclose(clean @ invert_poses(clean), np.tile(np.eye(4), (4, 1, 1)), atol=1e-12)
    with pytest.raises(ValueError, match="not rigid"):
        rigid_poses(poses * 2)
    with pytest.raises(ValueError, match="not finite"):
        rigid_poses(np.full((1, 3, 4), np.nan))


def test_ranks_are_shares():
    values = np.random.default_rng(0).exponential(size=(4, 50, 50)).astype(np.float32) + 1
    ranks = share_ranks(values)
    assert (ranks > 0.4).mean() == pytest.approx(0.6, abs=0.01)
    assert ranks.max() == 1
    values[0, 0, 0] = np.nan
    assert share_ranks(values)[0, 0, 0] == 0
    assert (share_ranks(np.ones((2, 3, 3), np.float32)) == 1).all()

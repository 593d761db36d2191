"""Evaluation: planted transforms come back, planted noise is measured, boundaries and the vertical are read off."""

import json

import numpy as np
import pytest

from benchmarks.sfm_walkthrough import (
    boundary_errors,
    coverage,
    evaluate_cloud,
    main,
    match_cameras,
    read_cameras,
    surface_distance,
    up_error,
)
from data_tools.clouds.io import Cloud, write_ply
from data_tools.reconstruction.alignment import Similarity, align_cameras, refine, umeyama
from data_tools.synthetic.walkthrough.truth import Truth, TruthError, read_truth
from tests.rooms import box_room


def rotation(rng):
    q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    return q * np.sign(np.linalg.det(q))


def track(rng, count=30):
    poses = np.tile(np.eye(4), (count, 1, 1))
    angle = np.linspace(0, 2 * np.pi, count)
    poses[:, :3, 3] = np.stack([2 + np.cos(angle), 1.5 + 0.8 * np.sin(angle), 1.5 + 0.05 * np.sin(5 * angle)], 1)
    for i in range(count):
        poses[i, :3, :3] = rotation(rng)
    return poses


def planted(rng):
    return Similarity(0.37, rotation(rng), np.array([3.0, -2.0, 5.0]))


def back(similarity, points):
    return (points - similarity.translation) / similarity.scale @ similarity.rotation


def moved_cameras(similarity, poses):
    out = poses.copy()
    out[:, :3, 3] = back(similarity, poses[:, :3, 3])
    out[:, :3, :3] = similarity.rotation.T @ poses[:, :3, :3]
    return out


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def truth(rng):
    return Truth(box_room(60_000, (4.0, 3.0, 2.5)), track(rng), np.arange(30) * 0.5)


def test_umeyama_returns_the_planted_similarity(rng):
    similarity, points = planted(rng), rng.standard_normal((20, 3))
    found = umeyama(points, similarity.apply(points))
    assert found.scale == pytest.approx(0.37)
    np.testing.assert_allclose(found.rotation, similarity.rotation, atol=1e-10)
    np.testing.assert_allclose(found.translation, similarity.translation, atol=1e-10)


def test_umeyama_refuses_what_fixes_nothing(rng):
    with pytest.raises(ValueError, match="2 pairs"):
        umeyama(rng.random((2, 3)), rng.random((2, 3)))
    with pytest.raises(ValueError, match="one place"):
        umeyama(np.zeros((5, 3)), rng.random((5, 3)))


def test_cameras_on_a_line_take_the_rotation_of_their_orientations(rng):
    similarity, poses = planted(rng), track(rng)
    poses[:, :3, 3] = np.linspace(0, 2, 30)[:, None] * np.array([1.0, 0.5, 0.1])
    found = align_cameras(moved_cameras(similarity, poses), poses)
    np.testing.assert_allclose(found.rotation, similarity.rotation, atol=1e-8)
    assert found.scale == pytest.approx(0.37)


def test_one_camera_far_off_does_not_spoil_the_alignment(rng):
    similarity, poses = planted(rng), track(rng)
    moved = moved_cameras(similarity, poses)
    moved[4, :3, 3] += 5
    found = align_cameras(moved, poses)
    assert found.scale == pytest.approx(0.37, rel=0.02)


def test_after_is_composition(rng):
    a, b, points = planted(rng), planted(rng), rng.standard_normal((5, 3))
    np.testing.assert_allclose(a.after(b).apply(points), a.apply(b.apply(points)), atol=1e-10)


def test_refine_brings_back_a_small_error_of_all_seven():
    room = box_room(60_000, (4.0, 3.0, 2.5))
    coord, normal = room.coord.astype(float), room.normal
    off = Similarity(1.02, umeyama(np.eye(3), np.eye(3)).rotation, np.array([0.02, -0.03, 0.02]))
    found = refine(off.apply(coord[::3]), coord, normal, Similarity(1.0, np.eye(3), np.zeros(3)))
    both = found.after(off)
    assert both.scale == pytest.approx(1, abs=2e-3)
    assert np.linalg.norm(both.apply(coord) - coord, axis=1).max() < 0.01


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03])
def test_planted_noise_is_measured(rng, truth, noise):
    similarity = planted(rng)
    away = rng.normal(0, noise, (len(truth.surface.coord[::2]), 1))
    coord = truth.surface.coord[::2] + away * truth.surface.normal[::2]
    cloud = Cloud(back(similarity, coord).astype(np.float32))
    found = evaluate_cloud(cloud, moved_cameras(similarity, truth.camera_to_world), truth, truth.time)
    assert found.scale == pytest.approx(0.37, rel=3e-3)
    assert found.median_error == pytest.approx(0.6745 * noise, abs=0.002)  # of a normal's absolute value
    share = {0.0: 1.0, 0.01: 1.0, 0.03: 0.904}[noise]  # of a normal within 5 cm
    assert found.near_surface == pytest.approx(share, abs=0.02)
    assert found.coverage > 0.99
    assert found.camera_error < 0.01


def test_a_cloud_without_cameras_is_found_by_turning(rng, truth):
    similarity = Similarity(0.5, np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]]), np.array([1.0, 2.0, 0.0]))
    cloud = Cloud(back(similarity, truth.surface.coord[::3].astype(float)).astype(np.float32))
    found = evaluate_cloud(cloud, None, truth)
    assert found.median_error < 0.005
    assert found.scale == pytest.approx(0.5, rel=0.01)
    assert np.isnan(found.camera_error)


def test_what_is_missing_counts_against_coverage(rng, truth):
    half = truth.surface.coord[truth.surface.coord[:, 0] < 2]
    found = evaluate_cloud(Cloud(half), truth.camera_to_world, truth)
    assert 0.4 < found.coverage < 0.62
    truth.visible = truth.surface.coord[:, 0] < 2  # what was never seen is not asked for
    assert evaluate_cloud(Cloud(half), truth.camera_to_world, truth).coverage > 0.99


def test_distance_is_along_the_normal_on_the_surface_and_plain_beyond_its_edge():
    x, y = np.meshgrid(np.arange(0, 1, 0.02), np.arange(0, 1, 0.02))
    surface = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1)
    normal = np.tile([0, 0, 1.0], (len(surface), 1))
    points = np.array([[0.509, 0.511, 0.03], [0.5, 0.5, -0.2], [2.0, 0.5, 0.0]])
    np.testing.assert_allclose(surface_distance(points, surface, normal), [0.03, 0.2, 1.02], atol=1e-6)
    assert coverage(surface, np.array([[0.0, 0.0, 0.0]]), 0.1) < 0.02


def test_cameras_are_matched_by_time(truth):
    own, partner = match_cameras(np.zeros((3, 4, 4)), truth, np.array([0.51, 2.0, 4.98]))
    assert own.tolist() == [0, 1, 2]
    assert partner.tolist() == [1, 4, 10]
    with pytest.raises(ValueError, match="0 of 2"):
        match_cameras(np.zeros((2, 4, 4)), truth, np.array([100.0, 200.0]))
    with pytest.raises(ValueError, match="give their times"):
        match_cameras(np.zeros((2, 4, 4)), truth, None)


def test_vertical_error_is_the_planted_angle(rng):
    similarity, tilt = planted(rng), np.deg2rad(2.5)
    lean = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    assert up_error(similarity, lean @ similarity.rotation * 4.2) == pytest.approx(2.5)
    assert up_error(similarity, similarity.rotation) == pytest.approx(0, abs=1e-5)


def test_boundaries_are_compared_with_margins_given_back(truth):
    truth.scenes = [("outdoor", 0.0, 8.0), ("living room", 8.0, 30.0), ("kitchen", 30.0, 60.0)]
    scenes = [{"scene_id": "a", "start": 9.2, "end": 29.9, "label": "living room"}]
    dropped = [{"start": 8.2, "end": 9.2, "reason": "margin"}, {"start": 0.0, "end": 8.2, "reason": "outdoor"}]
    rows = boundary_errors(scenes, truth, dropped)
    assert [row["found"] for row in rows] == [None, "a", None]
    assert rows[1]["start_error"] == pytest.approx(0.2)
    assert rows[1]["end_error"] == pytest.approx(-0.1)


def test_tum_tracks_are_read(tmp_path):
    path = tmp_path / "track.txt"
    path.write_text("# time tx ty tz qx qy qz qw\n1.5 1 2 3 0 0 0.70710678 0.70710678\n")
    poses, time = read_cameras(path)
    assert time.tolist() == [1.5]
    np.testing.assert_allclose(poses[0, :3, :3], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-7)
    np.testing.assert_allclose(poses[0, :3, 3], [1, 2, 3])
    path.write_text("not a track\n")
    with pytest.raises(TruthError, match=r"track\.txt"):
        read_cameras(path)


def test_command_line_against_a_depth_camera(rng, truth, tmp_path, capsys):
    similarity, folder = planted(rng), tmp_path / "scene"
    folder.mkdir()
    write_ply(folder / "cloud.ply", Cloud(back(similarity, truth.surface.coord.astype(float)).astype(np.float32)))
    np.savez(
        folder / "cameras.npz", camera_to_world=moved_cameras(similarity, truth.camera_to_world), time=truth.time - 7
    )
    write_ply(tmp_path / "reference.ply", Cloud(truth.surface.coord))
    np.savez(tmp_path / "reference.npz", camera_to_world=truth.camera_to_world, time=truth.time)
    words = [str(folder), "--reference", str(tmp_path / "reference.ply"), "--time-shift", "7"]
    words += ["--reference-cameras", str(tmp_path / "reference.npz"), "--json", str(tmp_path / "figures.json")]
    assert main(words) == 0
    assert "within 5 cm           100.0 %" in capsys.readouterr().out
    assert json.loads((tmp_path / "figures.json").read_text())["accuracy"]["median_error"] < 0.005


def test_a_missing_truth_is_one_line(tmp_path, capsys):
    with pytest.raises(TruthError, match="no whole walk-through"):
        read_truth(tmp_path)
    assert main([str(tmp_path), "--truth", str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1

"""The steps of the post-processing, each on data with known truth."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_tools.clouds.io import Cloud
from data_tools.clouds.normals import fit_normals, make_tree, nearest_distance
from data_tools.postprocessing import outliers, quality, sampling, scale
from data_tools.postprocessing.cameras import Cameras, orient, read_cameras, write_cameras
from data_tools.postprocessing.layout import Layout, find_layout
from data_tools.postprocessing.settings import Limits, PostprocessSettings
from data_tools.postprocessing.upright import find_upright
from data_tools.stages.record import StageError
from tests.data_tools.postprocessing.postprocess_rooms import hand_held, moved, room

BOX = np.array([4.0, 4.0, 2.5])


def degrees(a, b):
    return float(np.degrees(np.arccos(np.clip(np.dot(a, b), -1, 1))))


def floor_plane(count, size=4.0, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.random((count, 2)) * size, rng.normal(0, noise, count)]).astype(np.float32)


def test_cap_is_unbiased_and_even_cap_evens_out():
    rng = np.random.default_rng(0)
    dense, sparse = floor_plane(90_000, 1.0), floor_plane(10_000, 1.0) + np.float32([3, 0, 0])
    coord = np.concatenate([dense, sparse])
    kept = sampling.cap_points(coord, 20_000, "uniform", None, rng)
    assert len(kept) == 20_000
    assert (np.diff(kept) > 0).all()
    assert abs((kept >= 90_000).mean() - 0.1) < 0.01  # as in the cloud, not the first 20,000
    assert abs(kept.mean() / len(coord) - 0.5) < 0.01
    even = sampling.cap_points(coord, 10_000, "even", None, rng)
    assert (even >= 90_000).mean() > 0.35
    confidence = np.where(np.arange(len(coord)) % 2, 0.9, 0.1).astype(np.float32)
    sure = sampling.cap_points(coord, 20_000, "confidence", confidence, rng)
    assert (sure % 2).mean() > 0.85
    assert len(sampling.cap_points(coord, 1_000_000, "uniform", None, rng)) == len(coord)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_thinning_reaches_the_spacing_with_points_of_the_cloud(noise):
    turn = Rotation.from_euler("xyz", [20, 30, 40], degrees=True).as_matrix().astype(np.float32)
    coord = floor_plane(300_000, 3.0, noise) @ turn.T
    found = sampling.thin_to_spacing(coord, 0.002, 0.01333, 1000, np.random.default_rng(0))
    kept = coord[found.index]
    assert len(np.unique(found.index)) == len(found.index)
    spacing = nearest_distance(kept, make_tree(kept), np.random.default_rng(1))
    assert abs(spacing / 0.01333 - 1) < 0.03
    assert abs(found.after / spacing - 1) < 0.03
    assert found.rule == "voxel"


def test_thinning_stops_at_the_point_floor_and_leaves_sparse_clouds():
    coord = floor_plane(30_000, 0.5)
    found = sampling.thin_to_spacing(coord, 0.0015, 0.01333, 20_000, np.random.default_rng(0))
    assert found.rule == "point floor"
    assert 20_000 <= len(found.index) < 22_000
    sparse = floor_plane(5_000, 5.0)
    assert sampling.thin_to_spacing(sparse, 0.03, 0.01333, 0, np.random.default_rng(0)).rule == "as it was"


def test_count_around_equals_the_plain_count():
    coord = floor_plane(800, 1.0, 0.05)
    cell = 0.07
    place = np.floor((coord - coord.min(axis=0)) / np.float32(cell)).astype(int)
    plain = (np.abs(place[:, None] - place[None]).max(axis=2) <= 1).sum(axis=1)
    assert (outliers.count_around(coord, cell) == plain).all()


def test_screened_outliers_are_the_plain_ones():
    rng = np.random.default_rng(0)
    coord = np.concatenate([floor_plane(40_000, 4.0, 0.004), rng.uniform(0, 4, (240, 3)).astype(np.float32)])
    tree = make_tree(coord)
    spacing = nearest_distance(coord, tree, rng)
    settings = PostprocessSettings()
    fast, _ = outliers.find_outliers(coord, tree, settings, spacing)
    plain, _ = outliers._judge(coord, np.arange(len(coord)), tree, settings, 6 * spacing)
    assert (fast & plain).sum() > 0.98 * plain.sum()
    assert fast.sum() <= 0.01 * len(coord)
    assert fast[40_000:].mean() > 0.95  # what floats is what goes
    assert not outliers.find_outliers(coord, tree, PostprocessSettings(outlier_limit=0), spacing)[0].any()


@pytest.mark.parametrize(("noise", "index"), [("clean", 0), ("pi3", 1), ("pi3", 2), ("worse", 1)])
def test_up_within_three_degrees_from_any_frame(noise, index):
    cloud, cameras, _ = room(index, noise, 25_000)
    turn = Rotation.random(random_state=index).as_matrix()
    turned, seen = moved(cloud, cameras, turn, 0.31, (1, 2, 3))
    found = find_upright(turned.coord, turned.normal, seen, "auto", np.random.default_rng(0))
    assert degrees(found.evidence["up"], turn[:, 2]) < 3
    assert degrees(found.rotation @ turn[:, 2], [0, 0, 1]) < 3
    assert not found.evidence["conflict"]


@pytest.mark.parametrize("noise", ["clean", "pi3", "worse"])
def test_video_held_upside_down_is_found(noise):
    right = []
    for index in (0, 1):
        cloud, cameras, _ = room(index, noise, 25_000, upside_down=True)
        found = find_upright(cloud.coord, cloud.normal, cameras, "auto", np.random.default_rng(0))
        right.append(degrees(found.evidence["up"], [0, 0, 1]) < 3)
        if right[-1]:
            assert found.evidence["conflict"]
            assert "upside down" in found.notes[0]
            assert found.evidence["margin"] > 0
    assert sum(right) >= 1


def test_up_without_surfaces_is_the_cameras_and_without_cameras_kept():
    blob = np.random.default_rng(0).normal(size=(3000, 3)).astype(np.float32)
    turn = Rotation.from_euler("x", 70, degrees=True).as_matrix()
    cameras = hand_held(np.zeros((40, 3))).moved(turn, 1.0, np.zeros(3))
    found = find_upright(blob, None, cameras, "auto", np.random.default_rng(0))
    assert degrees(found.evidence["up"], turn[:, 2]) < 10
    assert find_upright(blob, None, None, "auto", np.random.default_rng(0)).evidence["up"] == [0, 0, 1]
    assert find_upright(blob, None, None, "-y", np.random.default_rng(0)).evidence["up"] == [0, -1, 0]


def test_lone_plane_is_a_floor_or_a_wall_by_the_cameras():
    turn = Rotation.from_euler("xy", [35, 20], degrees=True).as_matrix()
    cameras = hand_held(np.zeros((40, 3))).moved(turn, 1.0, np.zeros(3))
    for axis in (2, 0):
        plane = np.roll(floor_plane(5000, 3.0, 0.003), axis - 2, axis=1)
        found = find_upright((plane @ turn.T).astype(np.float32), None, cameras, "auto", np.random.default_rng(0))
        assert degrees(found.evidence["up"], turn[:, 2]) < (3 if axis == 2 else 12)


def test_layout_with_and_without_ceiling():
    cloud, cameras, size = room(1, "pi3", 50_000)
    whole = find_layout(cloud.coord, cameras, np.random.default_rng(0))
    assert abs(whole.height - size[2]) < 0.08
    assert whole.ceiling is not None
    assert whole.has_floor
    assert abs(whole.footprint / (size[0] * size[1]) - 1) < 0.25
    cut = cloud.select(cloud.coord[:, 2] < 2.0)
    assert find_layout(cut.coord, cameras, np.random.default_rng(0)).ceiling is None


def test_scale_rules():
    layout = Layout(0.0, 1.0, 0.0, 1.0, 3.0, 0.6, True)
    assert scale.choose_scale(layout, PostprocessSettings(scale="height"), "a", False, BOX).factor == pytest.approx(2.5)
    no_ceiling = Layout(0.0, None, 0.0, 0.9, 3.0, 0.6, True)
    found = scale.choose_scale(no_ceiling, PostprocessSettings(scale="height"), "a", False, BOX)
    assert (found.factor, found.rule) == (pytest.approx(2.5), "height (camera)")
    assert found.said == "size guessed from eye height 1.5 m"
    floorless = scale.choose_scale(
        replace(no_ceiling, has_floor=False), PostprocessSettings(scale="height"), "a", False, BOX
    )
    assert (floorless.factor, floorless.notes) == (
        found.factor,
        ["no floor was seen: eye height is taken above the lowest points"],
    )
    nothing = Layout(0.0, None, 0.0, 0.9, 3.0, None, False)
    drawn = scale.choose_scale(nothing, PostprocessSettings(scale="height"), "a", False, BOX)
    assert (drawn.rule, drawn.said) == ("scannet", "size unknown: drawn from ScanNet's distribution")
    auto = PostprocessSettings()
    assert scale.choose_scale(layout, auto, "a", True, BOX) == scale.Scale(1.0, "metric", {"is_metric": True})
    drawn = [scale.choose_scale(layout, auto, f"scene{i}", False, BOX).factor for i in range(50)]
    assert len(set(drawn)) > 10
    assert min(drawn) >= 2.2 - 1e-9
    assert max(drawn) <= 3.6 + 1e-9
    again = scale.choose_scale(layout, auto, "scene7", False, BOX)
    assert again.factor == drawn[7]
    assert scale.choose_scale(layout, PostprocessSettings(scale="none"), "a", False, BOX).factor == 1.0


def test_drawn_floor_areas_have_the_published_mean():
    rng = np.random.default_rng(0)
    area = np.array([scale.draw_floor_area(rng) for _ in range(20_000)])
    assert area.min() >= 4
    assert area.max() <= 80
    assert abs(area.mean() / scale.SCANNET_MEAN_FLOOR - 1) < 0.06


def test_normals_face_who_saw_the_point():
    coord = floor_plane(20_000, 2.0, 0.001)
    tree = make_tree(coord)
    given = np.tile(np.float32([0.1, 0, -0.9]), (len(coord), 1))
    for cell in (0.0, 0.03):
        fitted = fit_normals(coord, tree, 32, cell)
        down, facing = orient(fitted, coord, given, None)
        assert facing == "given normals"
        assert (down[:, 2] < -0.98).mean() > 0.97
        up, facing = orient(fitted, coord, None, hand_held(np.full((5, 3), 1.5)))
        assert facing == "nearest camera"
        assert (up[:, 2] > 0.98).mean() > 0.97
    half = given.copy()
    half[::2] = 0  # unknown
    mixed, _ = orient(fitted, coord, half, hand_held(np.full((5, 3), 1.5)))
    assert (mixed[::2, 2] > 0).all()
    assert (mixed[1::2, 2] < 0).all()


def test_double_walls_are_told_from_edges():
    rng = np.random.default_rng(0)
    wall = np.column_stack([rng.normal(0, 0.002, 60_000), rng.random((60_000, 2)) * [3, 2.5]]).astype(np.float32)
    facing = np.tile(np.float32([1, 0, 0]), (60_000, 1))
    assert quality.double_share(wall, facing) < 0.02
    ghost = wall.copy()
    ghost[::3, 0] += 0.07
    assert quality.double_share(ghost, facing) > 0.9
    back = np.where(np.arange(60_000)[:, None] % 3 == 0, -facing, facing)
    assert quality.double_share(ghost, back) < 0.02  # a thin wall seen from both sides is no ghost
    shelf = wall.copy()
    shelf[(wall[:, 1] / 0.1).astype(int) % 2 == 0, 0] += 0.07  # boards: every column holds an edge or none
    assert quality.double_share(shelf, facing) < 0.1


def judged(coord, normal):
    """Quality of points (N, 3) of a room with its floor at 0."""
    layout = find_layout(coord, None, np.random.default_rng(0))
    return quality.measure(coord - np.float32([0, 0, layout.floor]), normal, layout, 0.02)


def test_faults_of_known_size_lower_the_score_the_more_the_larger_they_are():
    cloud, _, _ = room(0, "clean", 60_000)
    coord, normal, rng = cloud.coord, cloud.normal, np.random.default_rng(0)
    noise, copied = rng.normal(size=coord.shape).astype(np.float32), rng.random(len(coord))
    side = (coord[:, 0] - coord[:, 0].mean()) / np.ptp(coord[:, 0])
    cubes = np.unique((coord // 0.8).astype(int), axis=0, return_inverse=True)[1].reshape(-1)
    chance, everything = rng.random(cubes.max() + 1)[cubes], np.ones(len(coord), bool)
    ghost = np.float32([0.08, 0.08, 0.08]) * (copied < 0.4)[:, None]
    faults = {
        "noise": [(coord + size * noise, everything) for size in (0, 0.01, 0.02, 0.04)],
        "double": [(coord + ghost * (side < edge)[:, None], everything) for edge in (-1, -0.1, 1)],
        "bend": [(coord + np.outer(side**2, [0, d, d / 2]).astype(np.float32), everything) for d in (0, 0.4, 0.8)],
        "coverage": [(coord, chance >= share) for share in (0, 0.5, 0.8)],
    }
    for name, clouds in faults.items():
        found = [judged(points[rows], normal[rows]) for points, rows in clouds]
        worse = [getattr(one, name) * (-1 if name == "coverage" else 1) for one in found]
        assert all(a < b for a, b in pairwise(worse)), name
        assert all(a.score > b.score for a, b in pairwise(found)), name
        assert quality.verdict(found[0].score) == "good"


def test_a_cluttered_room_well_made_is_better_than_a_tidy_one_that_drifts():
    """As a real kitchen 1.3 cm off its depth camera against an office 8 cm off, drawn 2.2 times too small."""
    rng = np.random.default_rng(0)
    cloud, _, _ = room(0, "mild", 60_000)
    things = rng.choice(len(cloud), 6000)
    balls = cloud.coord[things] + 0.1 * rng.normal(size=(6000, 3)).astype(np.float32) + np.float32([0, 0, 0.1])
    around = rng.normal(size=(6000, 3))
    around = (around / np.linalg.norm(around, axis=1, keepdims=True)).astype(np.float32)
    kitchen = judged(np.concatenate([cloud.coord, balls]), np.concatenate([cloud.normal, around]))
    tidy, _, _ = room(1, "mild", 60_000)
    side = (tidy.coord[:, 0] - tidy.coord[:, 0].mean()) / np.ptp(tidy.coord[:, 0])
    late = rng.random(len(side)) < 0.5  # the second round, 8 cm and a few degrees away
    drift = np.outer(side**2, [0, 0.6, 0.2]) + np.outer(late * (0.5 + side), [0.08, 0.08, 0.08])
    office = judged((tidy.coord + drift.astype(np.float32)) / np.float32(2.2), tidy.normal)
    assert kitchen.score > office.score + 0.2
    assert quality.verdict(kitchen.score) != "poor"
    lines = quality.verdict_lines(office.as_dict())
    assert lines[0].startswith("usable: score 0.3")
    assert any("stand double in" in line and "end where you began" in line for line in lines)


def test_limits_name_the_value_and_the_bound():
    values = dict(
        score=0.3, coverage=0.9, floor_coverage=0.9, wall_coverage=0.9, double=0.62, noise=0.01,
        bend=1.0, length_factor=1.0,
    )  # fmt: skip
    bad = quality.Quality(**values)
    assert quality.reject_reason(bad, 5000, Limits()) == "ghosted walls: 62% of the area is double (limit 40%)"
    assert quality.reject_reason(bad, 5000, Limits(max_double=0.7)) == ""
    assert "50 points are left" in quality.reject_reason(bad, 50, Limits(max_double=1.0))
    assert quality.reject_reason(bad, 5000, Limits(max_double=1.0, min_score=0.5)) == "score 0.30 (limit 0.50)"


def test_settings_refuse_and_hash():
    for wrong in (
        {"scale": "big"}, {"cap_rule": "first"}, {"up": "w"}, {"point_cap": 3}, {"outlier_limit": 2}, {"spacing": 2},
        {"min_height": 5}, {"normal_cell": -1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            PostprocessSettings(**wrong)
    with pytest.raises(ValueError, match="min_score"):
        Limits(min_score=2)
    digests = {PostprocessSettings().digest(), PostprocessSettings(seed=1).digest()}
    digests.add(PostprocessSettings(limits=Limits(max_double=0.5)).digest())
    assert len(digests) == 3


def test_cameras_file(tmp_path):
    path = tmp_path / "cameras.npz"
    assert read_cameras(path) is None
    cameras = hand_held(np.random.default_rng(0).random((6, 3)))
    cameras.camera_to_world[2] = np.nan
    write_cameras(path, cameras)
    read = read_cameras(path)
    assert len(read.camera_to_world) == len(read.extra["time"]) == 5
    assert read.extra["image_size"].tolist() == [640, 480]
    assert np.linalg.norm(Cameras(read.camera_to_world).up()) > 0.8
    path.write_bytes(b"no zip")
    with pytest.raises(StageError, match="no camera file"):
        read_cameras(path)
    np.savez(path, camera_to_world=np.zeros((3, 4)))
    with pytest.raises(StageError, match="shape"):
        read_cameras(path)


def test_room_helper_keeps_shapes():
    cloud, cameras, _ = room(0, "clean", 5000)
    other, seen = moved(cloud, cameras, np.eye(3), 2.0)
    assert isinstance(other, Cloud)
    assert np.allclose(seen.centers, 2 * cameras.centers)

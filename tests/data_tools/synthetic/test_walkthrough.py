"""A small walk-through: whole, true to itself, the same bytes every time."""

import csv
import hashlib
import json

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("av")

from benchmarks.sfm_walkthrough import evaluate_cloud
from data_tools.clouds.io import Cloud
from data_tools.stages.files import PARTIAL
from data_tools.synthetic.walkthrough.apartment import build_apartment
from data_tools.synthetic.walkthrough.bake import bake, build_scene
from data_tools.synthetic.walkthrough.camera import exposure_gains
from data_tools.synthetic.walkthrough.film import WalkSettings, main, make_walkthrough, render_frames
from data_tools.synthetic.walkthrough.raster import Portal
from data_tools.synthetic.walkthrough.trajectory import plan_walk
from data_tools.synthetic.walkthrough.truth import read_depth, read_truth
from data_tools.video.sampling import probe_video, sample_frames

SMALL = WalkSettings(seconds=6, fps=10, width=160, height=120, spacing=0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("walks") / "walk"
    record = make_walkthrough(path, SMALL)
    assert record.status == "done", record.reason
    return path


def digests(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_folder_is_whole(folder):
    names = {p.name for p in folder.iterdir()}
    files = {"walkthrough.mp4", "truth.npz", "labels.csv", "boundaries.json", "surface.ply", "visible.npy"}
    assert names == files | {"depth", "record.json"}
    video = probe_video(folder / "walkthrough.mp4")
    assert (video.width, video.height, video.fps) == (160, 120, 10)
    assert len(list(sample_frames(folder / "walkthrough.mp4"))) == 60
    truth = read_truth(folder)
    assert truth.camera_to_world.shape == (60, 4, 4)
    assert len(truth.depth_files) == 12
    assert truth.labels[0] == "outdoor"
    assert len(truth.boundaries) == 2
    assert truth.visible is not None
    assert truth.visible.shape == (len(truth.surface),)


def test_labels_change_at_the_boundaries(folder):
    facts = json.loads((folder / "boundaries.json").read_text())
    rows = list(csv.DictReader((folder / "labels.csv").open()))
    assert len(rows) == 60
    for row in rows:
        scene = next(s for s in facts["scenes"] if s["start"] <= float(row["time"]) + 1e-9 < s["end"] + 1e-6)
        assert row["label"] == scene["label"]
    truth = read_truth(folder)
    for number, time in enumerate(truth.time):
        assert truth.labels[truth.zone[number]] == facts["labels"][int(np.searchsorted(truth.boundaries, time))]


def test_depth_poses_and_surface_agree(folder):
    """Depth pictures lifted by poses and camera matrix lie on the true surface; evaluation says so."""
    truth, points, frames = read_truth(folder), [], []
    k = truth.intrinsics
    for number, path in truth.depth_files.items():
        if truth.zone[number] == 0:
            continue
        depth = read_depth(path)
        y, x = np.mgrid[0:120:3, 0:160:3]
        z = depth[y, x]
        local = np.stack([(x - k[0, 2]) / k[0, 0] * z, (y - k[1, 2]) / k[1, 1] * z, z], -1)[(z > 0) & (z < 6)]
        pose = truth.camera_to_world[number]
        points.append(local @ pose[:3, :3].T + pose[:3, 3])
        frames.append(number)
    cloud = Cloud(np.concatenate(points).astype(np.float32))
    found = evaluate_cloud(cloud, truth.camera_to_world[frames], truth, truth.time[frames], refine_alignment=False)
    assert found.median_error < 0.003
    assert found.near_surface > 0.97  # a pixel on an outline may carry either side's depth
    assert found.scale == pytest.approx(1, abs=1e-6)
    assert found.coverage > 0.9


def test_equal_settings_give_equal_bytes_with_any_number_of_processes(folder, tmp_path):
    record = make_walkthrough(tmp_path / "again", SMALL, jobs=2)
    assert record.status == "done", record.reason
    again, first = digests(tmp_path / "again"), digests(folder)
    for files in (again, first):
        files.pop("record.json")  # it names its folder
    assert again == first
    assert not (tmp_path / PARTIAL).exists()


def test_frames_do_not_depend_on_the_number_of_processes(tmp_path):
    settings = WalkSettings(seconds=2, fps=4, width=96, height=72)
    apartment = build_apartment(0, 1)
    walk = plan_walk(apartment, 2.0, 4.0, 0)
    mesh, atlas = bake(build_scene(apartment, 0.03), 0)
    portals, gains = [Portal(d.x, d.corners()) for d in apartment.doorways], np.ones(len(walk.time))
    one, two = (list(render_frames(tmp_path, settings, mesh, atlas, portals, walk, gains, 4, n)) for n in (1, 2))
    assert len(one) == len(two) == 8
    for (image, depth), (other_image, other_depth) in zip(one, two, strict=True):
        np.testing.assert_array_equal(image, other_image)
        assert (depth is None) == (other_depth is None)
    np.testing.assert_array_equal(one[4][1], two[4][1])
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_skipped(folder):
    assert make_walkthrough(folder, SMALL).skipped


@pytest.mark.parametrize("seed", range(4))
def test_the_walk_keeps_clear_of_things_at_a_persons_pace(seed):
    apartment = build_apartment(seed, 2)
    walk = plan_walk(apartment, 60.0, 30.0, seed)
    center = walk.camera_to_world[:, :3, 3]
    for placed in apartment.rooms:
        for x0, y0, x1, y1 in placed.obstacles():
            inside = (center[:, 0] > x0) & (center[:, 0] < x1) & (center[:, 1] > y0) & (center[:, 1] < y1)
            assert not inside.any()
    zones = [apartment.labels()[zone] for zone in np.unique(walk.zone)]
    assert zones == apartment.labels()
    assert (np.diff(walk.crossings) > 10).all()
    assert 3 < walk.crossings[0] < 15
    assert 0.3 < walk.speed < 0.65
    assert (np.abs(center[:, 2] - 1.5) < 0.12).all()
    turn = walk.camera_to_world[:, :3, :3]
    np.testing.assert_allclose(np.einsum("fji,fjk->fik", turn, turn), np.tile(np.eye(3), (1800, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(turn), 1, atol=1e-9)
    assert (turn[:, 2, 1] < -0.7).all()  # the picture's down is down
    assert (walk.zone[1:] >= walk.zone[:-1]).all()


@pytest.mark.parametrize("rooms", [1, 3])
def test_other_numbers_of_rooms(rooms):
    apartment = build_apartment(5, rooms)
    assert len(apartment.rooms) == len(apartment.doorways) == rooms
    for doorway in apartment.doorways:
        assert doorway.y0 < doorway.y1
        assert all(
            doorway.x1 <= room.bounds()[0] + 1e-9 or doorway.x0 >= room.bounds()[2] - 1e-9 for room in apartment.rooms
        )
    walk = plan_walk(apartment, 30.0 * rooms, 10.0, 5)
    assert walk.zone.max() == rooms


def test_rooms_lie_side_by_side_and_doors_meet():
    apartment = build_apartment(2, 3)
    for left, right, door in zip(apartment.rooms, apartment.rooms[1:], apartment.doorways[1:], strict=False):
        assert left.bounds()[2] == pytest.approx(door.x0)
        assert right.bounds()[0] == pytest.approx(door.x1)
        a, b = left.holes[1], right.holes[3]
        assert left.origin[1] + a[0] == pytest.approx(door.y0)
        assert right.origin[1] + right.room.depth - b[2] == pytest.approx(door.y0)


def test_exposure_follows_late():
    time = np.arange(0, 10, 0.5)
    gains = exposure_gains(np.where(time < 5, 200.0, 70.0), time, np.arange(0, 10, 0.1))
    assert gains[40] < 0.75
    assert gains[55] < gains[95]
    assert (np.abs(np.diff(gains)) < 0.15).all()


def test_command_line_refuses_nonsense(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "a"), "--rooms", "0"]) == 2
    assert main(["--out", str(tmp_path / "a"), "--size", "large"]) == 2
    assert main(["--out", str(tmp_path / "a"), "--size", "161x120"]) == 2
    assert not (tmp_path / "a").exists()
    assert all(line.startswith("walkthrough: ") for line in capsys.readouterr().err.strip().splitlines())


def test_command_line_tells_where(folder, capsys):
    words = ["--out", str(folder), "--seconds", "6", "--fps", "10", "--size", "160x120", "--spacing", "0.05"]
    assert main([*words, "--deterministic"]) == 0
    assert "there already; 60 frames" in capsys.readouterr().out

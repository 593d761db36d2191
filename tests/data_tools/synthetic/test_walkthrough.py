"""A small walk-through: whole, true to itself, the same bytes every time."""

import csv
import hashlib

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("av")

from benchmarks.sfm_walkthrough import evaluate_cloud
from data_tools.clouds.io import Cloud
from data_tools.stages.files import PARTIAL
from data_tools.synthetic.walkthrough.camera import PhoneCamera
from data_tools.synthetic.walkthrough.film import WalkSettings, main, make_walkthrough
from data_tools.synthetic.walkthrough.flat import CLEARANCE, build_flat
from data_tools.synthetic.walkthrough.raster import pinhole
from data_tools.synthetic.walkthrough.trajectory import plan_walk
from data_tools.synthetic.walkthrough.truth import read_depth, read_truth
from data_tools.video.sampling import probe_video, sample_raw

SMALL = WalkSettings(seconds=60, fps=1, width=160, height=120, spacing=0.05)  # few frames of both rooms


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
    files = {"walkthrough.mp4", "truth.npz", "labels.csv", "scenes.json", "surface.ply", "visible.npy"}
    assert names == files | {"depth", "record.json"}
    video = probe_video(folder / "walkthrough.mp4")
    assert (video.width, video.height, video.fps) == (160, 120, 1)
    assert len(list(sample_raw(folder / "walkthrough.mp4"))) == 60
    truth = read_truth(folder)
    assert truth.camera_to_world.shape == (60, 4, 4)
    assert len(truth.depth_files) == 60
    assert [label for label, *_ in truth.scenes] == ["living room", "dining room"]
    assert truth.visible is not None
    assert truth.visible.shape == (len(truth.surface),)


def test_labels_change_at_the_doorway(folder):
    truth = read_truth(folder)
    rows = list(csv.DictReader((folder / "labels.csv").open()))
    assert len(rows) == 600
    assert truth.scenes[0][1] == 0
    assert truth.scenes[-1][2] == 60
    assert truth.scenes[0][2] == truth.scenes[1][1]
    for row in rows:
        (label,) = (label for label, start, end in truth.scenes if start <= float(row["time"]) + 1e-9 < end)
        assert row["label"] == label
    door = build_flat(0).door
    for zone, time, pose in zip(truth.zone, truth.time, truth.camera_to_world, strict=True):
        assert zone == (time > truth.scenes[0][2])
        if abs(pose[0, 3] - door.x) > 0.05:  # the hand's shake
            assert zone == (pose[0, 3] > door.x)


def test_depth_poses_and_surface_agree(folder):
    """Depth pictures lifted by poses and camera matrix lie on the true surface; evaluation says so."""
    truth, points, frames = read_truth(folder), [], []
    k = truth.intrinsics
    for number, path in truth.depth_files.items():
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


def test_depth_of_every_frame_is_to_be_had(tmp_path):
    settings = WalkSettings(seconds=1, fps=6, width=64, height=48, spacing=0.2, depth_every=0)
    assert make_walkthrough(tmp_path / "walk", settings).status == "done"
    assert len(read_truth(tmp_path / "walk").depth_files) == 6


def test_what_is_there_is_skipped(folder):
    assert make_walkthrough(folder, SMALL).skipped


def obstacles(placed):
    """Footprints in the flat's frame that no camera may enter."""
    return [(a + placed.x, b, c + placed.x, d) for a, b, c, d in placed.room.solid]


@pytest.mark.parametrize("seed", range(6))
def test_the_walk_keeps_clear_of_things_at_a_persons_pace(seed):
    flat = build_flat(seed)
    walk = plan_walk(flat, 60.0, 30.0, seed)
    center = walk.camera_to_world[:, :3, 3]
    near = CLEARANCE - 0.1  # shake, sway and rounded corners
    for placed in flat.rooms:
        assert len(obstacles(placed)) > 8
        for x0, y0, x1, y1 in obstacles(placed):
            inside = (center[:, 0] > x0 - near) & (center[:, 0] < x1 + near)
            assert not (inside & (center[:, 1] > y0 - near) & (center[:, 1] < y1 + near)).any()
    (crossing,) = walk.crossings
    assert 25 < crossing < 35
    assert 0.3 < walk.speed < 0.65
    assert (np.abs(center[:, 2] - 1.5) < 0.12).all()
    turn = walk.camera_to_world[:, :3, :3]
    np.testing.assert_allclose(np.einsum("fji,fjk->fik", turn, turn), np.tile(np.eye(3), (1800, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(turn), 1, atol=1e-9)
    assert (turn[:, 2, 1] < -0.7).all()  # the picture's down is down
    steps = np.linalg.norm(np.diff(center, axis=0), axis=1) * 30
    assert steps.max() < 1.5
    assert (np.diff(walk.zone) >= 0).all()


def test_a_longer_walk_comes_back_and_a_short_one_ends_on_the_way():
    flat = build_flat(5)
    back = plan_walk(flat, 120.0, 10.0, 5)
    assert len(back.crossings) == 3
    assert back.zone[[0, -1]].tolist() == [0, 1]
    assert back.zone[np.searchsorted(back.time, back.crossings[1]) + 5] == 0
    assert 0.3 < back.speed < 0.65
    short = plan_walk(flat, 6.0, 10.0, 5)
    assert short.crossings == []
    assert short.speed < 0.65


def test_the_rooms_meet_at_the_doorway():
    for seed in range(3):
        flat = build_flat(seed)
        left, right = (placed.bounds() for placed in flat.rooms)
        assert left[2] == pytest.approx(flat.door.x0)
        assert right[0] == pytest.approx(flat.door.x1)
        for low, high in ((left[1], left[3]), (right[1], right[3])):
            assert low + 0.5 < flat.door.y0 < flat.door.y1 < high - 0.5
        for placed in flat.rooms:  # nothing stands or hangs in the opening
            for x0, y0, x1, y1 in obstacles(placed):
                beside = x1 < flat.door.x0 - 0.5 or x0 > flat.door.x1 + 0.5 or y1 < flat.door.y0 or y0 > flat.door.y1
                assert beside


def test_the_exposure_levels_light_and_dark_and_the_shutter_blurs_what_moves():
    size, depth = (64, 48), np.full((48, 64), 2.0, np.float32)
    camera, still = PhoneCamera(pinhole(*size, 65), size, seed=0), np.eye(4)
    light, dark = (
        camera.expose(np.full((48, 64, 3), value, np.float32), depth, still, 0).mean() for value in (200, 70)
    )
    assert 70 < dark < light < 200
    assert light - dark < 0.5 * (200 - 70)
    edge = np.zeros((48, 64, 3), np.float32)
    edge[:, 32:] = 200
    moving = np.eye(4)
    moving[0, 3] = 2.0
    widths = [
        ((row > 60) & (row < 140)).sum()
        for row in (camera.expose(edge, depth, m, 0)[24, :, 0] for m in (still, moving))
    ]
    assert widths[0] <= 1 < widths[1]


def test_command_line_refuses_nonsense(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "a"), "--seconds", "0"]) == 2
    assert main(["--out", str(tmp_path / "a"), "--seed", "-1"]) == 2
    assert main(["--out", str(tmp_path / "a"), "--size", "large"]) == 2
    assert main(["--out", str(tmp_path / "a"), "--size", "161x120"]) == 2
    assert not (tmp_path / "a").exists()
    assert all(line.startswith("walkthrough: ") for line in capsys.readouterr().err.strip().splitlines())


def test_command_line_tells_where(tmp_path, capsys):
    words = ["--out", str(tmp_path / "walk"), "--seconds", "1", "--fps", "4", "--size", "64x48"]
    assert main(words) == 0
    assert "made; 4 frames" in capsys.readouterr().out
    assert main(words) == 0
    assert "there already; 4 frames" in capsys.readouterr().out

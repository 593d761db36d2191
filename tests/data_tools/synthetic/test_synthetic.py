"""The synthetic rooms: same seed same bytes, labels, outward normals, layout, noise in the order of its names."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from data_tools.stages.scene_folder import read_meta
from data_tools.synthetic.rooms.build import build_room
from data_tools.synthetic.rooms.generate import SyntheticSettings, generate, main, make_room, make_scan
from data_tools.synthetic.rooms.noise import NOISE_LEVELS
from data_tools.synthetic.rooms.palette import CLASS_ID, CLASSES
from data_tools.synthetic.rooms.rooms import ROOM_KINDS
from data_tools.synthetic.rooms.shapes import Paint, Shape

ROOT = Path(__file__).resolve().parents[3]
SMALL = {"points": 8000, "views": 5}


def solid_items(room):
    """Things that must not stand in each other: what stands on the floor, is no rug and belongs to no other."""
    boxes, rows = set(room.occupied), []
    for row in room.placed:
        if row[2] == 0 and row[1] in boxes:
            boxes.remove(row[1])  # books fill their shelf's box: they belong to it
            rows.append(row)
    return rows


def surface_error(noisy, clean, normal):
    """Metres from noisy points to the plane of the nearest clean point (never above that point's distance)."""
    distance, nearest = cKDTree(clean).query(noisy)
    return np.minimum(np.abs(((noisy - clean[nearest]) * normal[nearest]).sum(axis=1)), distance)


def test_shapes_area_and_outward_normals():
    rng = np.random.default_rng(0)
    grey = Paint((0.5, 0.5, 0.5))
    cases = []
    for name in ("box", "cylinder", "cone", "ellipsoid"):
        shape = Shape()
        if name == "box":
            shape.box((0, 0, 0), (1, 2, 3), grey)
        elif name == "ellipsoid":
            shape.ellipsoid((0, 0, 0), (1.0, 0.5, 0.3), grey)
        else:
            shape.cylinder((0, 0, -0.5), 0.5, 1.0, grey, top=0.2 if name == "cone" else None)
        turned = Shape()
        turned.add(shape, yaw=0.7, segment=3, instance=4)
        cases.append((name, turned))
    for name, shape in cases:
        points = shape.sample(2000, rng)
        assert abs(len(points) / (2000 * shape.area()) - 1) < 0.03, name
        np.testing.assert_allclose(np.linalg.norm(points.normal, axis=1), 1, atol=1e-5)
        assert ((points.coord * points.normal).sum(axis=1) > 0).all(), name  # convex around the origin: outward
        assert set(points.segment) == {3}
        assert set(points.instance) == {4}


def test_even_by_area():
    shape = Shape()
    shape.ellipsoid((0, 0, 0), (2.0, 0.3, 0.3), Paint((0.5, 0.5, 0.5)))
    points = shape.sample(3000, np.random.default_rng(0)).coord
    # area of the spheroid beyond |x| > 1.9 against all of it, by numerical integration
    t = np.linspace(0, np.pi, 20001)
    weight = np.sin(t) * np.sqrt((0.3 * np.cos(t)) ** 2 + (2.0 * np.sin(t)) ** 2)
    wanted = weight[np.abs(2.0 * np.cos(t)) > 1.9].sum() / weight.sum()
    assert abs((np.abs(points[:, 0]) > 1.9).mean() - wanted) < 0.01


def test_rooms_hold_many_classes_and_do_not_collide():
    seen, kinds = set(), set()
    for number in range(24):
        room = build_room(np.random.default_rng([number, 7]), ROOM_KINDS[number % len(ROOM_KINDS)])
        kinds.add(room.kind)
        seen |= {CLASSES[s] for s, _ in room.shape.quad_label + room.shape.round_label}
        labels = np.array(room.shape.quad_label + room.shape.round_label)
        assert labels.min() >= 0
        boxes = solid_items(room)
        for i, (name_a, a, low_a, high_a) in enumerate(boxes):
            assert a[0] > -0.03, name_a
            assert a[1] > -0.03, name_a
            assert a[2] < room.width + 0.03, name_a
            assert a[3] < room.depth + 0.03, name_a
            for name_b, b, low_b, high_b in boxes[i + 1 :]:
                overlap = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
                tall = min(high_a, high_b) - max(low_a, low_b)
                assert min(*overlap, tall) < 0.12, f"room {number}: {name_a} stands in {name_b}"
    assert kinds == set(ROOM_KINDS)
    assert len(seen) >= 20
    assert len(CLASSES) == len(set(CLASSES)) >= 12


def test_clean_cloud():
    cloud, meta = make_room(SyntheticSettings(noise="clean", **SMALL), 0)
    assert cloud.coord.dtype == np.float32
    assert cloud.color.dtype == np.uint8
    np.testing.assert_allclose(np.linalg.norm(cloud.normal, axis=1), 1, atol=1e-4)
    width, depth, height = meta["room_size"]
    assert (cloud.coord > -0.01).all()
    assert (cloud.coord < np.array([width, depth, height]) + 0.01).all()
    floor = cloud.segment == CLASS_ID["floor"]
    assert floor.sum() > 200
    assert (cloud.normal[floor, 2] > 0.99).all()
    assert (cloud.normal[cloud.segment == CLASS_ID["ceiling"], 2] < -0.99).all()
    assert len(np.unique(cloud.segment)) >= 6
    # every visible point faces a camera
    cameras = np.array(meta["cameras"])
    facing = ((cameras[None] - cloud.coord[:, None]) * cloud.normal[:, None]).sum(axis=2).max(axis=1)
    assert (facing > 0).all()


def test_density_fills_a_two_centimetre_grid():
    _, scan = make_scan(SyntheticSettings(noise="clean", density=2500, kind="bathroom", views=4), 3)
    floor = scan.points.coord[scan.points.segment == CLASS_ID["floor"]][:, :2]
    cells = {tuple(c) for c in np.floor(floor / 0.02).astype(int)}
    wide = {tuple(c) for c in np.floor(floor / 0.1).astype(int)}
    assert len(cells) > 0.6 * 25 * len(wide) * 0.8


def test_noise_levels_are_ordered():
    error = {}
    for noise in NOISE_LEVELS:
        rows = []
        for index in range(3):
            settings = SyntheticSettings(seed=5, noise=noise, points=15_000, normals="true")
            _, scan = make_scan(settings, index)
            cloud, _ = make_room(settings, index)
            rows.append(surface_error(cloud.coord, scan.points.coord, scan.points.normal).mean())
        error[noise] = np.mean(rows)
    assert error["clean"] < 1e-6
    assert error["clean"] < error["mild"] < error["pi3"] < error["worse"]
    assert 0.01 < error["pi3"] < 0.06


def test_noise_keeps_labels_and_makes_holes_and_normals():
    noisy, _ = make_room(SyntheticSettings(noise="pi3", **SMALL), 1)
    np.testing.assert_allclose(np.linalg.norm(noisy.normal, axis=1), 1, atol=1e-4)
    floor = noisy.segment == CLASS_ID["floor"]
    assert (noisy.normal[floor, 2] > 0.7).mean() > 0.7
    assert np.isfinite(noisy.coord).all()
    assert noisy.segment.max() < len(CLASSES)


def read_bytes(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_seed_same_bytes_whatever_the_workers(tmp_path):
    settings = SyntheticSettings(seed=11, **SMALL)
    names = generate(tmp_path / "one", 3, settings, workers=1)
    generate(tmp_path / "two", 3, settings, workers=2)
    one, two = read_bytes(tmp_path / "one" / "train"), read_bytes(tmp_path / "two" / "train")
    assert one == two
    assert len(set(names)) == 3
    assert read_meta(tmp_path / "one" / "train" / names[2])["generator"]["index"] == 2
    other, _ = make_room(SyntheticSettings(seed=12, **SMALL), 0)
    assert not np.array_equal(other.coord[:10], np.load(tmp_path / "one" / "train" / names[0] / "coord.npy")[:10])


def test_second_run_keeps_and_changed_settings_redo(tmp_path):
    settings = SyntheticSettings(**SMALL)
    name = generate(tmp_path, 1, settings)[0]
    file = tmp_path / "train" / name / "coord.npy"
    before = file.stat().st_mtime_ns
    generate(tmp_path, 1, settings)
    assert file.stat().st_mtime_ns == before
    generate(tmp_path, 1, SyntheticSettings(points=4000, views=5))
    assert len(np.load(file)) <= 4000


@pytest.mark.parametrize(
    "command", [["-m", "data_tools.synthetic.rooms.generate"], ["data_tools/synthetic/rooms/generate.py"]]
)
def test_command_line(tmp_path, command):
    arguments = [
        "--out",
        str(tmp_path / "my rooms"),
        "--num",
        "1",
        "--points",
        "3000",
        "--noise",
        "mild",
        "--no-labels",
    ]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([sys.executable, *command, *arguments], cwd=ROOT, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    (scene,) = (tmp_path / "my rooms" / "train").iterdir()
    assert {p.name for p in scene.iterdir()} == {"coord.npy", "color.npy", "normal.npy", "meta.json"}


def test_bad_settings(capsys, tmp_path):
    with pytest.raises(ValueError, match="choose from"):
        SyntheticSettings(noise="loud")
    assert main(["--out", str(tmp_path), "--points", "3"]) == 2
    assert "points >= 100" in capsys.readouterr().err

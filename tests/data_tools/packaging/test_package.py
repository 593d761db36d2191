"""From files to scene folders: format, repairs, failures, names, resume, kills."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_tools.clouds.io import Cloud, write_ply
from data_tools.packaging.clouds import PackageSettings, guess_unit, package_cloud
from data_tools.packaging.run import find_clouds, plan
from data_tools.stages.files import clean_partial, make_partial
from data_tools.stages.scene_folder import is_done, read_meta, safe_name, write_scene
from tests.rooms import synthetic_room

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def room():
    return synthetic_room(seed=3, noise="mild", points=20_000, normals="true")[0]


def cli(*arguments, **kwargs):
    command = [sys.executable, "data_tools/package.py", *map(str, arguments)]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env, timeout=120, **kwargs)


def test_turned_room_in_millimetres_comes_back(tmp_path, room):
    turn = Rotation.random(random_state=5).as_matrix()
    moved = Cloud((room.coord @ turn.T * 1000 + 400).astype(np.float32), room.color, segment=room.segment)
    path = write_ply(tmp_path / "room.ply", moved)
    record = package_cloud(path, tmp_path / "out" / "train", PackageSettings(labels=True))
    assert record.status == "done", record.reason
    assert record.result["unit"] == "mm"
    folder = tmp_path / "out" / "train" / "room"
    coord, normal = np.load(folder / "coord.npy"), np.load(folder / "normal.npy")
    assert coord.dtype == np.float32
    assert np.load(folder / "color.npy").dtype == np.uint8
    assert (np.load(folder / "segment.npy") == room.segment).all()
    assert abs(np.ptp(coord[:, 2]) - np.ptp(room.coord[:, 2])) < 0.3
    assert abs(np.quantile(coord[:, 2], 0.002)) < 0.01
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-4)
    matrix = np.array(read_meta(folder)["transform"])
    np.testing.assert_allclose(moved.coord @ matrix[:3, :3].T + matrix[:3, 3], coord, atol=2e-3)
    up = turn[:, 2] @ (matrix[:3, :3] / np.linalg.norm(matrix[0, :3])).T
    assert np.degrees(np.arccos(up[2])) < 3


def test_given_unit_and_axis_win(tmp_path, room):
    np.save(tmp_path / "r.npy", np.stack([room.coord[:, 0], room.coord[:, 2], -room.coord[:, 1]], axis=1) * 100)
    record = package_cloud(tmp_path / "r.npy", tmp_path / "o" / "train", PackageSettings("cm", "y", "none"))
    assert (record.result["unit"], record.result["up"]) == ("cm (given)", "y (given)")
    coord = np.load(tmp_path / "o" / "train" / "r" / "coord.npy")
    assert np.abs(np.ptp(coord, axis=0) - np.ptp(room.coord, axis=0)).max() < 0.01
    assert not (tmp_path / "o" / "train" / "r" / "normal.npy").exists()


@pytest.mark.parametrize(
    ("height", "width", "unit", "fits"),
    [(2.5, 5, "m", True), (250, 500, "cm", True), (2500, 5000, "mm", True), (2.6, 30, "m", True), (0.8, 1.7, "m", True),
     (2400, 12000, "mm", True), (240, 1200, "cm", True), (0.01, 0.02, "m", False), (1e7, 1e7, "m", False)],
)  # fmt: skip
def test_units(height, width, unit, fits):
    assert guess_unit(height, width) == (unit, fits)


def test_repairs_are_counted(tmp_path, room):
    coord = np.concatenate([room.coord, room.coord[:7], [[np.nan, 0, 0], [np.inf, 1, 1], [9000, 0, 0]]])
    np.save(tmp_path / "r.npy", coord.astype(np.float64))
    record = package_cloud(tmp_path / "r.npy", tmp_path / "o" / "train", PackageSettings(up="z"))
    assert record.result["dropped"] == {"not finite": 2, "repeated": 7, "far outliers": 1}
    assert record.result["points"] == len(room)
    assert any("normals estimated" in note for note in record.notes)
    assert "no colour" in record.notes


def test_bad_clouds_are_records(tmp_path):
    cases = {
        "one.npy": np.zeros((1, 3)),
        "equal.npy": np.ones((50, 3)),
        "nan.npy": np.full((50, 3), np.nan),
        "wrong.npy": np.zeros((5, 4)),
    }
    for name, array in cases.items():
        np.save(tmp_path / name, array)
        record = package_cloud(tmp_path / name, tmp_path / "o" / "train")
        assert record.status == "failed", name
        assert name in record.reason
        assert "\n" not in record.reason
    assert package_cloud(tmp_path / "missing.ply", tmp_path / "o" / "train").status == "failed"
    assert not list(tmp_path.rglob("coord.npy"))


def test_command_line_with_bad_items_and_resume(tmp_path, room):
    source = tmp_path / "my scans ü"
    (source / "b").mkdir(parents=True)
    write_ply(source / "room 1.ply", room)
    write_ply(source / "b" / "room 1.ply", Cloud(room.coord[::2], room.color[::2]))
    (source / "text.ply").write_text("no cloud")
    (source / "self.ply").symlink_to("self.ply")
    (tmp_path / "nothing").mkdir()
    np.savetxt(source / "b" / "Küche.xyz", room.coord[:5000])
    out = tmp_path / "out"
    first = cli(
        source, tmp_path / "gone.ply", tmp_path / "nothing", "--out", out, "--jobs", 2, "--up", "z", "--license", "pi3"
    )
    assert first.returncode == 1, first.stderr
    assert "3 done, 0 rejected, 4 failed, 0 as before" in first.stdout
    assert "not a PLY" in first.stdout
    assert "Traceback" not in first.stderr
    names = sorted(p.name for p in (out / "train").iterdir())
    assert {"Küche", "room 1"} <= set(names)
    assert len([n for n in names if n.startswith("room 1")]) == 2
    failures = json.loads((out / "package_failures.json").read_text(encoding="utf-8"))
    assert sorted(Path(row["source"]).name for row in failures) == ["gone.ply", "nothing", "self.ply", "text.ply"]
    card = (out / "dataset_card.md").read_text(encoding="utf-8")
    assert "CC BY-NC 4.0" in card
    assert json.loads((out / "stats.json").read_text())["splits"]["train"]["scenes"] == 3
    assert sorted(p.name for p in out.iterdir()) == ["dataset_card.md", "package_failures.json", "stats.json", "train"]
    stamp = {n: (out / "train" / n / "coord.npy").stat().st_mtime_ns for n in names}
    (source / "text.ply").unlink()
    (source / "self.ply").unlink()
    second = cli(source, "--out", out, "--up", "z")
    assert second.returncode == 0, second.stderr
    assert "0 done, 0 rejected, 0 failed, 3 as before" in second.stdout
    assert stamp == {n: (out / "train" / n / "coord.npy").stat().st_mtime_ns for n in names}
    third = cli(source, "--out", out, "--up", "z", "--normals", "none")
    assert "3 done" in third.stdout
    assert not list((out / "train").rglob("normal.npy"))


def test_reconstructions_are_told_from_clouds(tmp_path, room):
    folder = tmp_path / "clouds/tour_000"
    write_ply(folder / "cloud.ply", room)
    (folder / "cameras.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"tour_000 is a reconstruction.*postprocess.py .*clouds --out OUT"):
        find_clouds([tmp_path / "clouds"], tmp_path / "out")
    assert find_clouds([folder / "cloud.ply"], tmp_path / "out") == [folder / "cloud.ply"]


def test_wrong_arguments(tmp_path):
    (tmp_path / "empty").mkdir()
    done = cli(tmp_path / "empty", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "holds no cloud" in done.stderr
    assert cli(tmp_path, "--out", tmp_path / "out", "--val-share", "2").returncode == 2
    for split in ("../elsewhere", "", "a/b", ".hidden"):
        refused = cli(tmp_path, "--out", tmp_path / "out", "--split", split)
        assert refused.returncode == 2
        assert "must be the plain name of a folder" in refused.stderr
    help_text = cli("--help").stdout
    assert "--val-share" in help_text
    assert "python data_tools/package.py" in help_text


def test_names_are_unique_and_independent_of_order(tmp_path):
    paths = []
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / ("Room.npy" if folder == "b" else "room.npy")
        np.save(path, np.full((3, 3), len(paths)))
        paths.append(path)
    jobs = plan(paths, tmp_path / "out", "train", 0.0)
    names = [job.name for job in jobs]
    assert names[0] == "room"
    assert len({name.casefold() for name in names}) == 3
    assert names == [job.name for job in plan(paths, tmp_path / "out", "train", 0.0)]
    # another run with another cloud of that name does not take the first one's folder
    package_cloud(paths[0], tmp_path / "out" / "train", name="room")
    write_scene(
        tmp_path / "out" / "train" / "room",
        Cloud(np.eye(3, dtype=np.float32)),
        {"source": {"path_id": "x", "fingerprint": "y"}},
    )
    assert plan(paths[:1], tmp_path / "out", "train", 0.0)[0].name != "room"
    split = [plan([Path(f"scene{i}.npy")], tmp_path / "out", "train", 0.3)[0].split_dir.name for i in range(200)]
    assert 30 < split.count("val") < 90


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a/b", "a_b"),
        ("..", "scene"),
        (".hidden", "hidden"),
        ("-x", "x"),
        ("Küche 1", "Küche 1"),
        ("a\nb", "a_b"),
        ("é" * 200, "é" * 90),
    ],
)
def test_safe_names(text, name):
    assert safe_name(text) == name


def test_float16_normals_and_scene_folder_as_input(tmp_path, room):
    package_cloud(
        write_ply(tmp_path / "r.ply", room), tmp_path / "o" / "train", PackageSettings(up="z", normal_dtype="float16")
    )
    folder = tmp_path / "o" / "train" / "r"
    assert np.load(folder / "normal.npy").dtype == np.float16
    again = package_cloud(folder, tmp_path / "p" / "train", PackageSettings(up="z", grid=0.05))
    assert again.status == "done"
    assert again.result["points"] < len(room)


def test_failed_write_leaves_nothing_under_the_name(tmp_path, room, monkeypatch):
    folder = tmp_path / "o" / "train" / "r"
    write_scene(folder, room, {"settings_hash": "old"})
    calls = []

    def full_disk(path, array):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        np.lib.format.write_array(open(path, "wb"), array)  # noqa: SIM115

    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_scene(folder, room, {"settings_hash": "new"})
    assert is_done(folder, "old")
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["train"]


def test_killed_run_is_never_taken_as_done(tmp_path, room):
    source = tmp_path / "in"
    source.mkdir()
    for number in range(6):
        write_ply(source / f"r{number}.ply", Cloud(room.coord + number, room.color))
    out = tmp_path / "out"
    command = [sys.executable, "data_tools/package.py", str(source), "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 60
    while time.time() < deadline and not (out / "train" / "r1").is_dir():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # what a kill between two arrays leaves behind
    left = out / ".partial" / f"r5~{os.uname().nodename}-{process.pid}"
    left.mkdir(parents=True)
    np.save(left / "coord.npy", room.coord)
    scenes = [p for p in (out / "train").iterdir()]
    assert scenes
    assert all(is_done(p) for p in scenes)
    done = cli(source, "--out", out)
    assert done.returncode == 0, done.stderr
    assert not (out / ".partial").exists()
    assert sorted(p.name for p in (out / "train").iterdir()) == [f"r{i}" for i in range(6)]
    clean = tmp_path / "clean"
    assert cli(source, "--out", clean, "--jobs", 2).returncode == 0
    for file in sorted((clean / "train").rglob("*")):
        if file.is_file():
            assert file.read_bytes() == (out / "train" / file.relative_to(clean / "train")).read_bytes(), file


def test_partial_folders_of_the_living_stay(tmp_path):
    mine = tmp_path / ".partial" / f"r~{os.uname().nodename}-{os.getpid()}"
    mine.mkdir(parents=True)
    assert clean_partial(tmp_path) == 0
    assert mine.is_dir()


def test_partial_folders_are_made_while_another_process_removes_the_empty_area(tmp_path, monkeypatch):
    area, made = tmp_path / ".partial", Path.mkdir

    def mkdir(path, *args, parents=False, **options):
        """The other process is always just before: the area goes between its making and that of what is in it."""
        if parents and removals:
            removals.pop()
            raise FileNotFoundError(path)
        made(path, *args, parents=parents, **options)

    removals = [0] * 5
    monkeypatch.setattr(Path, "mkdir", mkdir)
    make_partial(area / "room~1")
    assert not removals
    assert (area / "room~1").is_dir()
    (area / "room~1" / "scrap").touch()
    make_partial(area / "room~1")
    assert not list((area / "room~1").iterdir())

"""Adapters with perfect networks, the stage around them: memory, records, determinism, the command line."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from data_tools.clouds.io import read_cloud
from data_tools.reconstruct import main, read_option, reconstruct_scene
from data_tools.reconstruction import Frames, Prediction, ReconstructSettings, build_reconstructor
from data_tools.reconstruction.depth_anything import DepthAnythingReconstructor
from data_tools.reconstruction.frames import FramesAhead, frames_for
from data_tools.reconstruction.geometry import scale_intrinsics
from data_tools.reconstruction.passes import predict_with_less
from data_tools.reconstruction.pi3 import Pi3Reconstructor
from data_tools.reconstruction.vggt import VggtReconstructor
from data_tools.stages.record import StageError
from tests.data_tools.box_room import (
    PerfectDepthAnything,
    PerfectPi3,
    PerfectVggt,
    camera_poses,
    lens,
    render,
    wall_distance,
    wall_normal,
)

VIEWS = 10
ROOT = Path(__file__).resolve().parents[3]
WHOLE = [(0, None)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "room"
    folder.mkdir()
    for view, pose in enumerate(camera_poses(VIEWS)):
        _, image = render(pose, lens(168, 224), 168, 224)
        cv2.imwrite(str(folder / f"{view / 2:.1f}.png"), image[..., ::-1])
    return folder


def settings_for(name, **more):
    options = {"pi3": {"pixels": 19000}, "vggt": {"longest": 154}, "depth_anything": {"process_res": 154}}
    return ReconstructSettings(backend=name, device="cpu", options=options.get(name, {}), **more)


def adapters():
    poses = camera_poses(VIEWS)
    return {
        "pi3": lambda s: Pi3Reconstructor(s, PerfectPi3(poses)),
        "vggt": lambda s: VggtReconstructor(s, PerfectVggt(poses)),
        "depth_anything": lambda s: DepthAnythingReconstructor(s, PerfectDepthAnything(poses, 3)),
        "depth_anything_4x4": lambda s: DepthAnythingReconstructor(s, PerfectDepthAnything(poses, 4)),
    }


@pytest.mark.parametrize("name", list(adapters()))
def test_a_perfect_network_gives_the_true_room(name, photos, tmp_path):
    settings = settings_for(name.removesuffix("_4x4"))
    record = reconstruct_scene(photos, WHOLE, tmp_path / "room", settings, reconstructor=adapters()[name](settings))
    assert record.status == "done", record.reason
    cloud = read_cloud(tmp_path / "room" / "cloud.ply")
    cameras = np.load(tmp_path / "room" / "cameras.npz")
    assert len(cloud) == record.result["points"] > 50_000
    assert wall_distance(cloud.coord).max() < 1e-3
    np.testing.assert_allclose(cameras["camera_to_world"], camera_poses(VIEWS), atol=1e-4)
    true = wall_normal(cloud.coord)
    inner = np.sort(np.minimum(cloud.coord, np.array([4, 5, 2.6]) - cloud.coord), axis=1)[:, 1] > 0.3
    assert ((cloud.normal[inner] * true[inner]).sum(axis=1) > 0.999).mean() > 0.99  # pixels at a slant reach corners
    middle = np.array([2, 2.5, 1.3]) - cloud.coord
    assert (cloud.normal * middle).sum(axis=1).min() > 0  # into the room, at the corners too
    np.testing.assert_allclose(np.linalg.norm(cloud.normal, axis=1), 1, atol=1e-5)
    assert cloud.confidence.min() > 0
    assert cloud.confidence.max() <= 1
    np.testing.assert_allclose(cameras["intrinsics"][:, 0, 0], lens(168, 224)[0, 0], rtol=0.01)
    assert np.abs(cameras["intrinsics"][:, :2, 2] - lens(168, 224)[:2, 2]).max() < 1.5
    assert cameras["image_size"].tolist() == [224, 168]
    assert cameras["frame_index"].tolist() == list(range(VIEWS))
    np.testing.assert_allclose(cameras["time"], np.arange(VIEWS) / 2)
    assert 1 <= len(list((tmp_path / "room" / "frames").glob("*.jpg"))) <= 8


def test_colours_stand_under_their_points(photos, tmp_path):
    settings = settings_for("pi3")
    reconstruct_scene(photos, WHOLE, tmp_path / "room", settings, reconstructor=adapters()["pi3"](settings))
    cloud = read_cloud(tmp_path / "room" / "cloud.ply")
    checker = (np.floor(cloud.coord / 0.25 + 1e-3).sum(axis=1) % 2) * 90 + 80
    wanted = np.clip(checker[:, None] + cloud.coord * 15, 0, 255)
    cells = np.abs(cloud.coord / 0.25 - np.rint(cloud.coord / 0.25))
    on_wall = np.sort(cells, axis=1)
    clear = on_wall[:, 1] > 0.2  # away from the borders of the checkers, which smear when images are resized
    wall_error = np.abs(cloud.color.astype(float) - wanted).max(axis=1)[clear]
    either = np.minimum(wall_error, np.abs(wall_error - 90))  # on a wall itself the floor of its axis is a coin toss
    assert np.median(either) < 3
    assert (either < 15).mean() > 0.95


@pytest.mark.parametrize(
    ("name", "size"), [("pi3", (672, 378)), ("vggt", (518, 294)), ("depth_anything", (504, 280)), ("sfm", (640, 360))]
)
def test_a_frame_is_resized_once_to_what_the_network_takes(name, size, tmp_path, monkeypatch):
    from data_tools.video.decode import RawFrame
    from data_tools.video.sampling import write_video

    wide = np.random.default_rng(0).integers(0, 256, (720, 1300, 3), np.uint8)
    write_video(tmp_path / "a.mp4", (wide[:, i : i + 1280] for i in range(4)), 10)
    settings, asked, decoded = ReconstructSettings(backend=name, device="cpu"), [], RawFrame.pixels
    monkeypatch.setattr(RawFrame, "pixels", lambda frame, *how: asked.append(how[0]) or decoded(frame, *how))
    frames = frames_for(tmp_path / "a.mp4", WHOLE, settings).frames
    assert asked == [size] * 4
    assert frames.images.shape == (4, size[1], size[0], 3)
    if name in adapters():
        monkeypatch.setattr(cv2, "resize", None)  # not once more
        prediction = adapters()[name](settings).reconstruct(frames, 0)
        assert prediction.points.shape[1:3] == (size[1], size[0])
        assert np.array_equal(prediction.color, frames.images)


def test_known_camera_reaches_pi3x_with_its_pixel_centres(photos, tmp_path):
    camera = lens(168, 224)
    known = (camera[0, 0], camera[1, 1], camera[0, 2], camera[1, 2])
    settings = ReconstructSettings(
        backend="pi3", device="cpu", intrinsics=known, options={"model": "pi3x", "pixels": 19000}
    )
    network = PerfectPi3(camera_poses(VIEWS))
    record = reconstruct_scene(
        photos, WHOLE, tmp_path / "room", settings, reconstructor=Pi3Reconstructor(settings, network)
    )
    height, width = network.seen["shape"][-2:]
    assert height % 14 == width % 14 == 0
    given = network.seen["intrinsics"][0, 0].numpy()
    np.testing.assert_allclose(given[:2, 2], [width / 2, height / 2], atol=1e-3)
    np.testing.assert_allclose(given[0, 0], camera[0, 0] * width / 224, rtol=1e-5)
    assert record.result["is_metric"]


@pytest.mark.parametrize(
    ("kind", "known", "frees", "edge"),
    [("pi3x", None, True, "normal"), ("pi3x", (100, 100, 50, 50), False, "normal"), ("pi3", None, False, "depth")],
)
def test_pi3x_frees_what_known_cameras_need_and_has_its_own_edge_rule(kind, known, frees, edge, monkeypatch):
    from data_tools.reconstruction import pi3

    network, freed = PerfectPi3(camera_poses(VIEWS)), []
    network.disable_multimodal = lambda: freed.append(True)
    monkeypatch.setattr(pi3, "import_package", lambda *_: SimpleNamespace(Pi3=None, Pi3X=None))
    monkeypatch.setattr(pi3, "load_model", lambda *_: network)
    settings = ReconstructSettings(device="cpu", intrinsics=known, options={"model": kind})
    backend = build_reconstructor("pi3", settings)
    assert bool(freed) == frees
    frames = Frames(np.zeros((3, 28, 42, 3), np.uint8), np.arange(3), np.arange(3.0))
    assert backend.reconstruct(frames, 0).edge == edge


def test_same_input_same_bytes(photos, tmp_path):
    settings = settings_for("vggt", deterministic=True, max_points=20_000)
    for place in ("one", "two"):
        reconstruct_scene(
            photos, WHOLE, tmp_path / place / "room", settings, reconstructor=adapters()["vggt"](settings)
        )
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert {"cloud.ply", "cameras.npz", "record.json"} <= {path.name for path in files}
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path
    again = reconstruct_scene(photos, WHOLE, tmp_path / "one" / "room", settings)
    assert again.skipped
    other = settings_for("vggt", deterministic=True, max_points=10_000)
    redone = reconstruct_scene(photos, WHOLE, tmp_path / "one" / "room", other, reconstructor=adapters()["vggt"](other))
    assert not redone.skipped
    assert redone.result["points"] == 10_000
    assert redone.result["points_before_cap"] > 10_000


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


class Hungry:
    """A backend with memory for so many frames."""

    name, max_frames, chunk_frames = "hungry", None, None

    def __init__(self, most, error):
        self.most, self.error, self.tried = most, error, []

    @staticmethod
    def frame_size(settings, width, height):
        return width, height

    def reconstruct(self, frames, seed):
        self.tried.append(len(frames))
        if len(frames) > self.most:
            raise self.error
        grid = (len(frames), 4, 5)
        return Prediction(
            np.zeros((*grid, 3), np.float32),
            np.ones(grid, bool),
            np.ones(grid, np.float32),
            np.zeros((*grid, 3), np.uint8),
            np.tile(np.eye(4), (len(frames), 1, 1)),
            np.tile(np.eye(3), (len(frames), 1, 1)),
            np.arange(len(frames)),
        )


def some_frames(count):
    return Frames(np.zeros((count, 8, 8, 3), np.uint8), np.arange(count), np.arange(count) / 10)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_takes_fewer_frames_evenly(error):
    notes, backend = [], Hungry(30, error)
    prediction, frames = predict_with_less(backend, some_frames(60), 0, notes)
    assert backend.tried == [60, 45, 33, 24]
    assert len(prediction) == len(frames) == 24
    assert len(notes) == 3
    assert notes[0] == "out of memory with 60 frames: tried again with 45"
    assert frames.index[0] == 0
    assert frames.index[-1] == 59
    assert np.diff(frames.index).max() <= 4


def test_the_number_that_fitted_is_where_the_next_scene_begins():
    backend, notes = Hungry(30, MemoryError()), []
    predict_with_less(backend, some_frames(60), 0, [])
    backend.tried.clear()
    assert len(predict_with_less(backend, some_frames(60), 0, notes)[1]) == 24
    assert backend.tried == [24]
    assert notes == ["24 of 60 frames: as many as fitted into memory before"]
    assert len(predict_with_less(backend, some_frames(20), 0, [])[1]) == 20
    backend.tried.clear()
    predict_with_less(backend, some_frames(60), 0, [], begins_whole=True)
    assert backend.tried == [60, 45, 33, 24]


def test_out_of_memory_without_end_is_a_record_that_may_be_tried_again(photos, tmp_path):
    settings = settings_for("pi3")
    record = reconstruct_scene(
        photos, WHOLE, tmp_path / "room", settings, reconstructor=Hungry(1, MemoryError("no room"))
    )
    assert record.status == "failed"
    assert not record.permanent
    assert "out of memory with 10 frames (no room); use smaller images" in record.reason
    assert [path.name for path in (tmp_path / "room").iterdir()] == ["record.json"]


def test_other_errors_of_a_backend_are_not_tried_again():
    backend = Hungry(1, RuntimeError("shapes do not match\nsecond line"))
    with pytest.raises(StageError, match=r"^hungry: shapes do not match$"):
        predict_with_less(backend, some_frames(60), 0, [])
    assert backend.tried == [60]


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.delenv("PI3_ROOT", raising=False)
    monkeypatch.setitem(sys.modules, "pi3", None)
    with pytest.raises(StageError, match=r"git clone https://github.com/yyfz/Pi3, then export PI3_ROOT=") as caught:
        build_reconstructor("pi3", ReconstructSettings(device="cpu"))
    assert not caught.value.permanent
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("VGGT_ROOT", "/nowhere/vggt")
    with pytest.raises(StageError, match="VGGT_ROOT=/nowhere/vggt holds no vggt/"):
        build_reconstructor("vggt", ReconstructSettings(backend="vggt", device="cpu"))


def test_unknown_option_and_unplaced_points_are_told(photos, tmp_path):
    with pytest.raises(StageError, match="pi3 has no option pixel; it has: model, pixels"):
        Pi3Reconstructor(ReconstructSettings(options={"pixel": 1}), object())
    settings = settings_for("pi3", confidence=0.99)
    record = reconstruct_scene(photos, WHOLE, tmp_path / "room", settings, reconstructor=adapters()["pi3"](settings))
    assert record.status == "failed"
    assert "0 points are left" in record.reason
    assert "confidence" in record.reason


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backend": "colmap"}, "backend 'colmap' is unknown"),
        ({"min_frames": 50, "max_frames": 20}, "give 1 <= min <= max"),
        ({"confidence": 2.0}, r"not in \[0, 1\]"),
        ({"intrinsics": (0, 1, 2, 3)}, "give fx,fy,cx,cy"),
        ({"edge_tolerance": 0}, "edge tolerance must be > 0"),
    ],
)
def test_wrong_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ReconstructSettings(**values)


def test_shapes_of_predictions_are_checked():
    good = vars(Hungry(9, None).reconstruct(some_frames(3), 0))
    with pytest.raises(ValueError, match=r"confidence has shape \(3, 4, 4\); \(3, 4, 5\) is needed"):
        Prediction(**{**good, "confidence": np.zeros((3, 4, 4), np.float32)})
    with pytest.raises(ValueError, match="no rigid poses"):
        Prediction(**{**good, "camera_to_world": np.full((3, 4, 4), 2.0)})
    with pytest.raises(ValueError, match="uint8 is needed"):
        Frames(np.zeros((2, 4, 4, 3)), np.arange(2), np.arange(2.0))


def test_intrinsics_scale_with_their_half_pixel():
    camera = np.array([[100.0, 0, 31.5], [0, 100.0, 23.5], [0, 0, 1]])
    half = scale_intrinsics(camera, (48, 64), (24, 32))
    np.testing.assert_allclose(half[:2, 2], [15.5, 11.5])
    np.testing.assert_allclose(scale_intrinsics(half, (24, 32), (48, 64)), camera)


def test_command_line(photos, tmp_path, capsys):
    assert main([str(tmp_path / "no.mp4"), "--out", str(tmp_path)]) == 2
    assert "no such video or folder" in capsys.readouterr().err
    assert main([str(photos), "--intrinsics", "1,2", "--out", str(tmp_path)]) == 2
    assert main([str(photos), "--option", "pixels", "--out", str(tmp_path)]) == 2
    assert read_option("pixels=100") == ("pixels", 100)
    assert read_option("model=pi3x") == ("model", "pi3x")
    assert read_option("ray_pose=true") == ("ray_pose", True)
    command = [sys.executable, "data_tools/reconstruct.py", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0
    assert "--option model=pi3x" in shown.stdout


def test_scenes_of_the_segment_stage(photos, tmp_path, monkeypatch):
    first, second = [[0, 1.1], [1.9, 2.1]], [[2.2, 9]]
    scenes = [{"scene_id": "room_000", "intervals": first}, {"scene_id": "room_001", "intervals": second}]
    (tmp_path / "scenes.json").write_text(json.dumps({"scenes": scenes}), encoding="utf-8")
    monkeypatch.setattr("data_tools.reconstruct.build_reconstructor", lambda name, settings: adapters()[name](settings))
    monkeypatch.setattr("data_tools.reconstruct._loaded", {})
    arguments = [str(photos), "--scenes", str(tmp_path), "--out", str(tmp_path / "clouds"), "--option", "pixels=9000"]
    assert main(arguments) == 0
    first = np.load(tmp_path / "clouds" / "room_000" / "cameras.npz")
    second = np.load(tmp_path / "clouds" / "room_001" / "cameras.npz")
    assert first["frame_index"].tolist() == [0, 1, 2, 4]
    record = json.loads((tmp_path / "clouds" / "room_000" / "record.json").read_text())
    assert record["result"]["intervals"] == [[0, 1.1], [1.9, 2.1]]
    assert second["frame_index"].tolist() == [5, 6, 7, 8, 9]
    cloud = tmp_path / "clouds/room_001/cloud.ply"
    before = cloud.read_bytes()
    cloud.unlink()  # as the chain does when a scene is finished
    assert main(arguments) == 0
    assert cloud.read_bytes() == before


def test_frames_of_the_next_scene_are_decoded_beside_the_last():
    began = [Event() for _ in range(4)]

    def load(number):
        began[number].set()
        if number == 3:
            raise StageError("no frames")
        return number

    loads = [None if number == 1 else partial(load, number) for number in range(4)]
    ahead = FramesAhead(loads)
    assert not began[0].is_set()  # nothing before it is asked for
    assert ahead.take(0) == 0
    assert began[2].wait(5)  # the next that is needed, while this one is in the network
    assert not began[3].is_set()  # and no more than that
    assert not began[1].is_set()
    assert ahead.take(2) == 2
    with pytest.raises(StageError, match="no frames"):
        ahead.take(3)


KILLED = """
import os, signal, sys
from pathlib import Path
from data_tools.reconstruction import assemble
from data_tools import reconstruct
from tests.data_tools.reconstruction.test_reconstruct import adapters, settings_for

def die(folder, frames):
    folder.mkdir()
    (folder / "half.jpg").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)

assemble.write_thumbnails = die
settings = settings_for("vggt")
backend = adapters()["vggt"](settings)
reconstruct.reconstruct_scene(Path(sys.argv[1]), [(0, None)], Path(sys.argv[2]), settings, reconstructor=backend)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_while_writing_leaves_nothing_and_resumes(photos, tmp_path):
    folder = tmp_path / "clouds" / "room"
    command = [sys.executable, "-c", KILLED, str(photos), str(folder)]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert shown.returncode == -9, shown.stderr
    assert not folder.exists()
    settings = settings_for("vggt")
    for place in (folder, tmp_path / "calm" / "room"):
        record = reconstruct_scene(photos, WHOLE, place, settings, reconstructor=adapters()["vggt"](settings))
        assert record.status == "done"
    names = sorted(str(path.relative_to(folder.parent)) for path in folder.parent.rglob("*") if path.is_file())
    assert all(name.startswith("room/") for name in names)
    for path in (tmp_path / "calm" / "room").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (folder / path.relative_to(tmp_path / "calm" / "room")).read_bytes()

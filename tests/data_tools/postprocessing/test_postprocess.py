"""The post-processing as a whole: known rooms, factors that can be undone, refusals, files, the command line."""

import json

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from data_tools.clouds.io import Cloud, CloudError, read_cloud, write_ply
from data_tools.postprocess import main
from data_tools.postprocessing.cameras import read_cameras, write_cameras
from data_tools.postprocessing.pipeline import process
from data_tools.postprocessing.scene import postprocess_cloud, postprocess_scene
from data_tools.postprocessing.settings import Limits, PostprocessSettings
from data_tools.stages.files import write_json
from data_tools.stages.record import StageRecord, read_record
from data_tools.stages.scene_folder import read_meta
from tests.data_tools.postprocessing.postprocess_rooms import moved, room

TURN = Rotation.from_euler("xyz", [110, 25, 70], degrees=True).as_matrix()


def put(folder, cloud, cameras=None, result=None):
    """A reconstruction's folder."""
    folder.mkdir(parents=True)
    write_ply(folder / "cloud.ply", cloud)
    if cameras is not None:
        write_cameras(folder / "cameras.npz", cameras)
    if result is not None:
        record = StageRecord("reconstruct", folder.name, settings_hash="abc", result=result)
        write_json(folder / "record.json", {k: v for k, v in vars(record).items() if k != "skipped"})
    return folder


def apply(transform, coord):
    transform = np.array(transform)
    return coord @ transform[:3, :3].T + transform[:3, 3]


@pytest.mark.parametrize("noise", ["clean", "pi3"])
def test_a_turned_room_comes_back(noise):
    cloud, cameras, size = room(1, noise, 50_000)
    turned, seen = moved(cloud, cameras, TURN, 0.4, (3, -2, 5))
    scene = process(turned, seen, PostprocessSettings(scale="height"), "room")
    meta, out = scene.meta, scene.cloud
    factor = meta["scale"]["factor"]
    assert meta["scale"]["rule"] == "height (ceiling)"
    assert abs(factor * 0.4 - 2.5 / size[2]) < 0.03
    assert np.allclose(apply(meta["transform"], turned.coord[scene.index].astype(float)), out.coord, atol=1e-4)
    assert abs(np.median(out.coord[out.coord[:, 2] < 0.08, 2])) < 0.03  # the floor is at zero
    true = cloud.coord[scene.index] * (factor * 0.4)  # as the room stood, up to heading and shift
    assert abs(np.corrcoef(true[:, 2], out.coord[:, 2])[0, 1]) > 0.999
    assert (out.color == turned.color[scene.index]).all()
    assert (out.confidence == turned.confidence[scene.index]).all()
    linear = np.array(meta["transform"])[:3, :3] / factor
    given = turned.normal[scene.index] @ linear.T
    assert ((given * out.normal).sum(axis=1) >= -1e-6).all()  # the side is kept
    assert np.allclose(np.linalg.norm(out.normal, axis=1), 1, atol=1e-4)
    pose = scene.cameras.camera_to_world
    assert np.allclose(pose[:, :3, 3], apply(meta["transform"], seen.centers))
    assert np.allclose(pose[:, :3, :3] @ pose[:, :3, :3].transpose(0, 2, 1), np.eye(3))
    json.dumps(meta)


def test_what_is_removed_is_counted():
    cloud, cameras, _ = room(1, "mild", 50_000)
    cloud.coord[:70] = np.nan
    cloud.coord[70] = 1e6
    scene = process(cloud, cameras, PostprocessSettings(point_cap=30_000, scale="none", min_points=0), "room")
    points = scene.meta["points"]
    removed = points["removed"]
    assert removed["not_finite"] == 70
    assert removed["over_cap"] == len(cloud) - 70 - 30_000
    assert 0 < removed["outliers"] <= 300
    assert points["input"] - sum(removed.values()) == points["output"] == len(scene.cloud) == len(scene.index)
    assert np.abs(scene.cloud.coord).max() < 20


def test_spacing_is_the_one_asked_for():
    cloud, cameras, _ = room(2, "pi3", 50_000)
    settings = PostprocessSettings(scale="none", spacing=0.04, min_points=5_000)
    out, meta = postprocess_cloud(cloud, cameras, settings)
    distance = cKDTree(out.coord).query(out.coord, k=2)[0][:, 1]
    assert abs(np.median(distance) / 0.04 - 1) < 0.03
    assert meta["spacing"]["rule"] == "voxel"
    assert 5_000 < len(out) < 40_000


def test_score_falls_with_the_noise():
    scores = {
        noise: [
            process(*room(index, noise, 50_000)[:2], PostprocessSettings(scale="none"), "room").quality.score
            for index in (1, 2)
        ]
        for noise in ("clean", "mild", "pi3", "worse")
    }
    for better, poorer in (("clean", "mild"), ("mild", "pi3"), ("pi3", "worse")):
        assert min(scores[better]) > max(scores[poorer]), scores
    assert min(scores["clean"]) > 0.85
    assert max(scores["worse"]) < 0.5


def test_score_does_not_hang_on_the_scale_drawn():
    cloud, cameras, _ = room(1, "pi3", 50_000)
    scores = []
    for name in ("a", "b"):
        scene = process(cloud, cameras, PostprocessSettings(scale="scannet"), name)
        assert 2.2 - 0.01 <= scene.meta["layout"]["ceiling"] <= 3.6 + 0.01
        scores.append(scene.quality.score)
    assert np.ptp(scores) < 0.12


def test_room_without_ceiling_and_without_cameras():
    cloud, _, _ = room(1, "pi3", 50_000)
    cut = cloud.select(cloud.coord[:, 2] < 1.9)
    cut.normal = cut.confidence = cut.color = None
    scene = process(cut, None, PostprocessSettings(scale="height"), "room")
    assert scene.cameras is None
    assert scene.meta["layout"]["ceiling"] is None
    assert scene.meta["scale"]["rule"] == "scannet"
    assert scene.meta["normals"]["facing"] == "inside of the room"
    floor = np.abs(scene.cloud.coord[:, 2]) < 0.03
    assert (scene.cloud.normal[floor, 2] > 0.5).mean() > 0.9


def test_what_makes_no_scene_says_so():
    rng = np.random.default_rng(0)
    settings = PostprocessSettings(scale="none")
    with pytest.raises(CloudError, match="40 finite points, a scene needs 100"):
        process(Cloud(rng.random((40, 3)).astype(np.float32)), None, settings, "tiny")
    with pytest.raises(CloudError, match="finite points"):
        process(Cloud(np.full((500, 3), np.nan, dtype=np.float32)), None, settings, "nan")
    with pytest.raises(CloudError, match="equal"):
        process(Cloud(np.ones((500, 3), dtype=np.float32)), None, settings, "equal")
    cloud, _, _ = room(0, "clean", 20_000)
    cloud.coord = cloud.coord * np.float32(1000)
    with pytest.raises(CloudError, match="2\\^16 cells"):
        process(cloud, None, settings, "huge")


def test_same_bytes_twice_in_any_folder_with_any_number_of_threads(tmp_path):
    cloud, cameras, _ = room(2, "pi3", 50_000)
    source = put(tmp_path / "clouds" / "video_001", *moved(cloud, cameras, TURN), {"video": "abc", "is_metric": False})
    files = []
    for place, workers in (("one", 1), ("else/where", 2)):
        out = tmp_path / place
        record = postprocess_scene(source, out / "train" / "video_001", workers=workers)
        assert record.status == "done", record.reason
        paths = sorted(path for path in out.rglob("*") if path.is_file())
        files.append({str(path.relative_to(out)): path.read_bytes() for path in paths})
    assert files[0] == files[1]
    names = {name.rsplit("/", 1)[1] for name in files[0]}
    arrays = {"coord.npy", "color.npy", "normal.npy"}
    assert names == {"meta.json", "preview.png", "cameras.npz", "record.json"} | arrays
    again = postprocess_scene(source, tmp_path / "one" / "train" / "video_001")
    assert again.skipped
    changed = postprocess_scene(source, tmp_path / "one" / "train" / "video_001", PostprocessSettings(seed=5))
    assert not changed.skipped


def test_files_hold_what_the_record_says(tmp_path):
    cloud, cameras, _ = room(1, "mild", 50_000)
    source = put(tmp_path / "clouds" / "v_000", cloud, cameras, {"backend": "pi3", "is_metric": True})
    record = postprocess_scene(
        source, tmp_path / "train" / "v_000", provenance={"video": "xyz", "intervals": [[1.5, 9]]}
    )
    folder = tmp_path / "train" / "v_000"
    meta = read_meta(folder)
    assert meta["scale"] == {
        "factor": 1.0,
        "rule": "metric",
        "is_metric": True,
        "said": "metres of the reconstruction",
    }
    assert (meta["video"], meta["intervals"], meta["reconstruction"]["backend"]) == ("xyz", [[1.5, 9]], "pi3")
    assert meta["settings_hash"] == PostprocessSettings().digest()
    assert "numpy" in meta["tools"]
    assert str(tmp_path) not in (folder / "meta.json").read_text()
    written = read_cloud(folder)
    assert len(written) == record.result["points"] == meta["points"]["output"] == meta["num_points"]
    assert meta["arrays"] == ["color", "coord", "normal"]
    assert read_cameras(folder / "cameras.npz").extra["frame_index"].tolist() == list(range(12))
    near = cKDTree(apply(meta["transform"], cloud.coord.astype(float))).query(written.coord[::50])[0]
    assert near.max() < 1e-3


def test_bad_scenes_leave_their_reason(tmp_path):
    cloud, cameras, _ = room(1, "worse", 50_000)
    source = put(tmp_path / "clouds" / "ghost", cloud, cameras)
    strict = PostprocessSettings(limits=Limits(max_double=0.02))
    record = postprocess_scene(source, tmp_path / "clean" / "ghost", strict)
    assert record.status == "rejected"
    assert record.reason.startswith("ghosted walls: ")
    assert record.result["quality"]["double"] > 0.02
    assert [path.name for path in (tmp_path / "clean" / "ghost").iterdir()] == ["record.json"]
    assert postprocess_scene(source, tmp_path / "clean" / "ghost", strict).skipped
    (tmp_path / "clouds" / "empty").mkdir()
    missing = postprocess_scene(tmp_path / "clouds" / "empty", tmp_path / "clean" / "empty")
    assert (missing.status, missing.permanent) == ("failed", False)
    assert "run reconstruct.py" in missing.reason
    broken = put(tmp_path / "clouds" / "broken", cloud)
    (broken / "cloud.ply").write_bytes((broken / "cloud.ply").read_bytes()[:2000])
    record = postprocess_scene(broken, tmp_path / "clean" / "broken")
    assert (record.status, record.permanent) == ("failed", True)
    assert "cut off" in record.reason


def test_what_is_refused_stays_out_of_the_data_set(tmp_path):
    cloud, cameras, _ = room(1, "worse", 50_000)
    source = put(tmp_path / "clouds" / "ghost", cloud, cameras)
    final, refused = tmp_path / "train" / "ghost", tmp_path / "_work" / "rejected" / "ghost"
    strict = PostprocessSettings(limits=Limits(max_double=0.02))
    for is_again in (False, True):
        record = postprocess_scene(source, final, strict, refused=refused)
        assert (record.status, record.skipped) == ("rejected", is_again)
    assert not final.exists()
    assert [path.name for path in refused.iterdir()] == ["record.json"]
    loose = PostprocessSettings(limits=Limits(0, 1, 9, 0, 0))
    assert postprocess_scene(source, final, loose, refused=refused).status == "done"
    assert not refused.exists()
    before = {path.name: path.read_bytes() for path in final.iterdir()}
    record = postprocess_scene(source, final, strict, refused=refused)
    assert record.reason.endswith("; the earlier result stays")
    assert {path.name: path.read_bytes() for path in final.iterdir()} == before
    assert read_record(refused).reason == record.reason


def test_command_line(tmp_path, capsys):
    for index in (1, 2):
        cloud, cameras, _ = room(index, "mild", 50_000)
        put(tmp_path / "clouds" / f"scene{index}", cloud, cameras)
    tiny = Cloud(np.random.default_rng(0).random((30, 3)).astype(np.float32))
    put(tmp_path / "clouds" / "tiny", tiny)
    out = ["--out", str(tmp_path / "data"), "--split", "val"]
    assert main([str(tmp_path / "clouds"), *out, "--scale", "height"]) == 1
    text = capsys.readouterr().out
    assert "2 done, 0 rejected, 1 failed, 0 as before" in text
    assert read_record(tmp_path / "data/_work/rejected/tiny").reason.startswith("tiny: 30 finite points")
    assert sorted(path.name for path in (tmp_path / "data/val").iterdir()) == ["scene1", "scene2"]
    assert (tmp_path / "data/val/scene1/coord.npy").is_file()
    assert (tmp_path / "data/stats.json").is_file()
    assert main([str(tmp_path / "clouds" / "scene2"), *out, "--scale", "height"]) == 0
    assert "1 as before" in capsys.readouterr().out
    assert main([str(tmp_path / "nowhere"), *out]) == 2
    assert main([str(tmp_path / "clouds"), *out, "--spacing", "3"]) == 2
    assert "spacing 3.0 must be in [0, 1)" in capsys.readouterr().err

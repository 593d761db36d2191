"""Folders as the stages leave them, made by hand: small, quick, with every state and hostile names."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from data_tools.clouds.io import Cloud, write_ply
from data_tools.stages.files import write_json
from data_tools.stages.record import StageRecord
from data_tools.stages.scene_folder import write_scene
from tests.rooms import box_room

HOSTILE = "x<img src=1 onerror=alert(1)>&\"'#%41 é"


def room(seed=0, count=3000):
    """A box room without labels whose floor's middle is the origin, as in finished scenes."""
    cloud = box_room(count, (4.0, 5.0, 2.5), seed)
    return Cloud(cloud.coord - np.float32([2, 2.5, 0]), cloud.color, cloud.normal)


def put_scene(out, name, split="train", seed=0, count=3000, **meta):
    write_scene(out / split / name, room(seed, count), meta)


def put_record(folder, stage, status="done", reason="", **result):
    record = StageRecord(stage, folder.name, status, reason, True, result=result)
    values = {key: value for key, value in vars(record).items() if key != "skipped"}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "record.json", values)
    return folder


def put_picture(path, color, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def put_video(work, name, scenes, title="A tour", url="https://example.org/watch?v=1&t=2"):
    put_record(work / "videos" / name, "collect", id=name, title=title, url=url, duration=60.0)
    folder = put_record(work / "segments" / name, "segment", scenes=len(scenes))
    listed = [{"scene_id": scene, "intervals": [[1.0, 9.0]], "label": "bedroom"} for scene in scenes]
    write_json(folder / "scenes.json", {"video": {"id": name, "duration": 60.0}, "labels": "clip", "scenes": listed})
    put_picture(folder / "timeline.png", (90, 120, 200), (400, 60))
    put_picture(folder / "thumbs" / "000.jpg", (120, 90, 60))


def put_cloud(work, name):
    """Reconstruct's folder: the cloud in the first camera's axes (y down), three cameras."""
    folder = put_record(work / "clouds" / name, "reconstruct", points=3000, backend="sfm", frames_posed=17)
    cloud = room(1, 2000)
    turn = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=np.float32)
    write_ply(folder / "cloud.ply", Cloud(cloud.coord @ turn.T, cloud.color, cloud.normal @ turn.T))
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = [0, 0.5, 1]
    np.savez(folder / "cameras.npz", camera_to_world=poses, intrinsics=np.eye(3))
    for number in range(3):
        put_picture(folder / "frames" / f"{number:03d}.jpg", (60 + 60 * number, 100, 140), (640, 480))


def put_finished(out, name, score, seed):
    """A scene folder as post-processing writes it."""
    meta = {
        "video": "tour",
        "label": "bedroom",
        "transform": np.diag([1.0, 1, 1, 1]).tolist(),
        "scale": {"factor": 1.25, "rule": "scannet"},
        "spacing": {"before": 0.01, "after": 0.0133},
        "points": {"input": 9000, "output": 3000},
        "size": [4.0, 5.0, 2.5],
        "quality": {"score": score, "coverage": 0.8, "noise": 0.004},
        "notes": ["turned by 3 degrees"],
    }
    put_scene(out, name, seed=seed, **meta)
    put_record(out / "train" / name, "postprocess", points=3000)
    put_picture(out / "train" / name / "preview.png", (160, 200, 160), (400, 300))


def put_whole(out):
    """Videos and scenes in every state; returns OUT."""
    work = out / "_work"
    put_video(work, "tour", [f"tour_{n:03d}" for n in range(5)], title=HOSTILE)
    put_record(work / "videos" / "gone", "collect", "failed", "gone: video unavailable (HTTP 404); leave it out")
    put_record(work / "videos" / "outside", "collect", title="garden")
    put_record(work / "segments" / "outside", "segment", "rejected", "outside: no indoor part of 10 s in 61.2 s")
    for number, score in ((0, 0.91), (1, 0.74)):
        name = f"tour_{number:03d}"
        put_cloud(work, name)
        put_finished(out, name, score, number)
    put_cloud(work, "tour_002")
    put_record(work / "rejected" / "tour_002", "postprocess", "rejected", "tour_002: coverage 0.31 is under 0.4")
    put_record(work / "clouds" / "tour_003", "reconstruct", "failed", "tour_003: 3 of 40 frames posed; film slower")
    put_scene(out, HOSTILE, split="val", seed=5)
    (out / "package_failures.json").write_text(
        json.dumps([{"source": "/data/a/flat.ply", "scene": "flat", "reason": "/data/a/flat.ply: holds no point"}])
    )
    return out

"""Fake stages with real files, for tests of the chain: quick, seeded, and breakable on demand.

A fake video is a text file ``room <scenes> <seed>``. What else it says makes a stage fail:
``no-room``, ``reject:<scene number>``, ``crash:<scene number>`` (the worker dies), ``crash-once:<scene number>``,
``bug:<scene number>``, ``slow:<seconds>``, ``hang:<scene number>``, ``cuda:<scene number>`` (every later call of the
worker fails too), ``cuda-always`` (so does every call), ``same:<text>`` (segmentation fails for good with it).
``shows:<seed>`` gives its scenes embeddings, ``marked`` disturbs them as another encoding and a logo would.

    python -m tests.data_tools.chain.chain_fakes VIDEO... --out OUT     (the command line over the fakes)
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_tools.chain import options, preflight
from data_tools.chain.items import Call, SceneItem
from data_tools.chain.run import StageTable
from data_tools.chain.stages import provenance
from data_tools.clouds.io import Cloud, read_cloud, write_ply
from data_tools.packaging.clouds import fingerprint
from data_tools.stages.files import replacing, write_json
from data_tools.stages.record import RejectedError, StageError, StageRecord, run_stage, text_hash
from data_tools.stages.scene_folder import fill_scene, settings_hash

BROKEN: list[str] = []  # calls that broke this process's pretended GPU context
GPU = "CHAIN_FAKE_GPU"  # environment: reconstruction runs in a GPU slot
CALLS = "CHAIN_FAKE_CALLS"  # environment: a folder that gets an empty file per call of a stage's work


@dataclass(frozen=True)
class FakeSettings:
    """One number, so that settings can change."""

    value: int = 0
    labels: str = "none"
    backend: str = "sfm"
    points: int = 2000
    copies: float = 0.0

    def digest(self):
        return settings_hash({"value": self.value, "points": self.points})


def fake_settings(backend="sfm", labels="none", recipe="best"):
    """As ``options.usual_settings``; ``release`` segments otherwise."""
    is_other = {"segment": int(recipe == "release")}
    return {name: FakeSettings(is_other.get(name, 0)) for name in ("collect", "segment", "reconstruct", "postprocess")}


def _text(call):
    return call.source.read_text() if call.source.is_file() else ""  # a fetched video may have been deleted


def _told(call, word):
    """The value behind ``word:`` in the video's text that is meant for this scene (or the video)."""
    number = call.scene.scene_id.rpartition("_")[2].lstrip("0") or "0" if call.scene else ""
    for found in re.finditer(rf"{word}(?::(\S+))?", _text(call)):
        if found[1] is None or found[1] == number or not call.scene:
            return found[1] or "yes"
    return None


def _note_call(call):
    if os.environ.get(CALLS):
        Path(os.environ[CALLS], f"{call.stage}~{call.name}~{os.getpid()}~{time.time_ns()}").touch()


def _wait(call):
    found = re.search(r"slow:(\S+)", call.source.read_text())
    time.sleep(float(found[1]) if found else 0)


def segment(call: Call) -> StageRecord:
    def work(folder, record):
        _note_call(call)
        words = call.source.read_text().split()
        if not words:
            raise StageError(f"{call.source.name}: 0 bytes; copy the file again")
        found = re.search(r"same:(\S+)", " ".join(words))
        if found:
            raise StageError(f"{call.name}: {found[1]}", permanent="passing" not in words)
        if "no-room" in words:
            raise RejectedError(f"{call.name}: no room in the video")
        count = int(words[1]) - call.settings.value
        (folder / "thumbs").mkdir()
        (folder / "thumbs/0.jpg").write_bytes(bytes(range(256)))
        scenes = [[f"{call.name}_{i:03d}", 10.0 * i, 10.0 * i + 8] for i in range(count)]
        write_json(folder / "scenes.json", scenes)
        shows = re.search(r"shows:(\d+)", " ".join(words))
        if shows:
            seeds = [[int(shows[1]), number] for number in range(count)]
            np.save(folder / "looks.npy", np.array([looks(seed, "marked" in words) for seed in seeds], np.float16))
        record.result["scenes"] = count

    return run_stage("segment", call.folder, call.settings.digest(), fingerprint(call.source), work)


def looks(seed, is_marked=False):
    """(16, 64) embeddings of length 1 along a walk through a room: neighbours at about 0.9, any two rooms over 0.6."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.standard_normal((16, 64)), axis=0) / 4
    found = 1.1 * np.random.default_rng(0).standard_normal(64) + walk
    found += (0.2 * rng.standard_normal((16, 64)) + 0.2 * np.ones(64)) * is_marked
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def read_scenes(folder: Path) -> list[SceneItem]:
    rows = json.loads((folder / "scenes.json").read_text())
    return [SceneItem(name, ((start, end),), "bedroom", 0.9) for name, start, end in rows]


def _break(call):
    if _told(call, "crash"):
        os.kill(os.getpid(), signal.SIGKILL)
    if _told(call, "once"):
        mark = call.source.with_suffix(".crashed")
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if _told(call, "hang"):
        time.sleep(600)
    if _told(call, "cuda") or _told(call, "cuda-always"):
        first = call.source.with_suffix(f".cuda{call.scene.scene_id}")
        if not first.exists() or _told(call, "cuda-always"):
            first.touch()
            BROKEN.append(call.name)
    if BROKEN:
        raise StageError("pi3: CUDA error: an illegal memory access was encountered", permanent=False)
    if _told(call, "bug"):
        raise IndexError("index 3 is out of bounds")


def frames(call: Call) -> StageRecord:
    _note_call(call)
    if _told(call, "no-frames"):
        raise StageError(f"{call.name}: no frame decodes")
    with replacing(call.frames) as path:
        path.write_text(call.name)
    return StageRecord("frames", call.name)


def reconstruct(call: Call) -> StageRecord:
    def work(folder, record):
        _note_call(call)
        if call.frames is not None and call.frames.is_file():
            _note_call(replace(call, stage="ahead"))
        _wait(call)
        _break(call)
        seed = int(text_hash(call.name, call.settings.value)[:8], 16)
        rng = np.random.default_rng(seed)
        coord = (rng.random((call.settings.points, 3)) * [4, 3, 2.5]).astype(np.float32)
        color = rng.integers(0, 255, (call.settings.points, 3)).astype(np.uint8)
        write_ply(folder / "cloud.ply", Cloud(coord=coord, color=color))
        (folder / "frames").mkdir()
        (folder / "frames/0.jpg").write_bytes(rng.bytes(500))
        record.result["points"] = call.settings.points

    inputs = text_hash(fingerprint(call.source), call.scene.intervals)
    return run_stage("reconstruct", call.folder, call.settings.digest(), inputs, work)


def postprocess(call: Call) -> StageRecord:
    def work(folder, record):
        _note_call(call)
        if os.environ.get("CHAIN_FAKE_CRASH") == "postprocess":
            os.kill(os.getpid(), signal.SIGKILL)
        if _told(call, "reject"):
            raise RejectedError(f"{call.name}: score 0.1 is under 0.25")
        cloud = read_cloud(call.inputs / "cloud.ply")
        cloud.coord = cloud.coord * np.float32(1 + call.settings.value / 10)
        fill_scene(folder, call.name, cloud, {"value": call.settings.value, **provenance(call)})

    inputs = text_hash(fingerprint(call.inputs / "cloud.ply"), _text(call))
    return run_stage("postprocess", call.folder, call.settings.digest(), inputs, work)


def collect(call: Call) -> StageRecord:
    def work(folder, record):
        _note_call(call)
        if "gone" in call.video.url:
            raise StageError(f"{call.name}: video is private")
        (folder / "video.mp4").write_text("room 1 7")
        record.result.update(file="video.mp4", fingerprint=fingerprint(folder / "video.mp4"))

    is_gone = not (call.folder / "video.mp4").is_file()
    inputs = text_hash(call.video.url)
    return run_stage("collect", call.folder, call.settings.digest(), inputs, work, is_gone)


FAKES = StageTable(
    {
        "collect": collect,
        "segment": segment,
        "frames": frames,
        "reconstruct": reconstruct,
        "postprocess": postprocess,
    },
    read_scenes,
)


def main(argv: list[str]) -> int:
    """The command line over the fakes."""
    from data_tools import build_roomtours

    options.usual_settings = fake_settings
    preflight.LEAST_FREE = 0  # a test fills a small disk
    has_gpu = bool(os.environ.get(GPU))
    if has_gpu:
        options.PACKAGES = {**options.PACKAGES, "sfm": ("os", "")}
    return build_roomtours.main([*argv, "--quiet", "--no-report", "--gpus", "0," if has_gpu else "0"], FAKES)


if __name__ == "__main__":
    from tests.data_tools.chain import chain_fakes  # workers find the functions under the module's own name

    sys.exit(chain_fakes.main(sys.argv[1:]))

"""The stages as the chain calls them: name -> function of a call. Heavy libraries are imported in the workers only."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_tools.chain.items import Call, SceneItem, StageFunction
from data_tools.packaging import PackageSettings, Record, fingerprint, prepare_cloud
from data_tools.scene_folder import read_meta, settings_hash, write_scene
from data_tools.stage import PASSING_ERRNO, StageRecord

_BACKENDS: dict[str, Any] = {}  # what a worker keeps from scene to scene


def collect(call: Call) -> StageRecord:
    """Fetch a video; a download that was cut off goes on."""
    from data_tools.collecting.queue import collect_patiently
    from data_tools.collecting.sources import VideoSource

    video = call.video
    source = VideoSource(video.video_id, video.url, None, video.ranges, dict(video.extra))
    return collect_patiently(source, call.folder, call.settings, say=lambda text: print(text, file=sys.stderr))


def segment(call: Call) -> StageRecord:
    """Find the scenes of a video."""
    from data_tools.segment import segment_video

    assert call.source is not None
    return segment_video(call.source, call.folder, call.settings)


def reconstruct(call: Call) -> StageRecord:
    """A scene's frames to a cloud and cameras; the model stays in the worker."""
    from data_tools.reconstruct import reconstruct_scene
    from data_tools.reconstructors import build_reconstructor

    assert call.source is not None
    assert call.scene is not None
    digest = call.settings.digest()
    if digest not in _BACKENDS:
        _BACKENDS.clear()
        _BACKENDS[digest] = build_reconstructor(call.settings.backend, call.settings)
    return reconstruct_scene(
        call.source, call.scene.start, call.scene.end, call.folder, call.settings, reconstructor=_BACKENDS[digest]
    )


def postprocess(call: Call) -> StageRecord:
    """A cloud as reconstructed to one in metres, z up, judged."""
    from data_tools.postprocess import postprocess_scene

    assert call.inputs is not None
    return postprocess_scene(call.inputs, call.folder, call.settings, provenance=provenance(call))


def provenance(call: Call) -> dict[str, Any]:
    """Where a scene comes from, for its meta.json: no path of this machine, no time stamp."""
    video, scene = call.video, call.scene or SceneItem(call.name)
    facts: dict[str, Any] = {"video": video.video_id, "scene": scene.scene_id, "start": scene.start, "end": scene.end}
    optional = {"label": scene.label, "probability": scene.probability, "url": video.url, **dict(video.extra)}
    optional.update(call.facts)
    return {**facts, **{name: value for name, value in optional.items() if value not in ("", None)}}


def package(call: Call) -> StageRecord:
    """A clean cloud to a scene folder of the data set.

    As ``package.package_cloud``, but meta.json names the video and the stage settings instead of a file's place, so
    that its bytes are the same wherever the data set is built.
    """
    assert call.inputs is not None
    path, settings = call.inputs / "cloud.ply", call.settings
    record = StageRecord("package", call.name, settings_hash=settings.digest())
    try:
        record.input_hash = fingerprint(path)
        extra = {**provenance(call), "postprocess": read_meta(call.inputs) or {}}
        digest = settings_hash({"settings": settings.digest(), "source": record.input_hash, "extra": extra})
        known = read_meta(call.folder)
        if known is not None and (known.get("settings_hash"), known.get("chain_key")) == (digest, call.key):
            record.skipped = True
            return record
        _write(call, path, record, {**extra, "chain_key": call.key, "settings_hash": digest})
    except ValueError as error:  # CloudError: the cloud itself is at fault
        record.status, record.permanent = "failed", True
        record.reason = " ".join(str(error).split())
    except OSError as error:
        record.status = "failed"
        cure = "free space or limits on the disk" if error.errno in PASSING_ERRNO else "check the file and its rights"
        record.reason = f"{error.filename or call.name}: {error.strerror or error}; {cure}, then start it again"
    return record


def _write(call: Call, path: Path, record: StageRecord, facts: dict[str, Any]) -> None:
    from data_tools.clouds import read_cloud

    settings: PackageSettings = call.settings
    found = Record(call.name, call.name)
    cloud, made = prepare_cloud(read_cloud(path), settings, found)
    meta = {
        **facts,
        **made,
        "source": {"file": path.name, "fingerprint": record.input_hash},
        "settings": asdict(settings),
        "dropped": found.dropped,
        "notes": found.notes,
    }
    write_scene(call.folder, cloud, meta, settings.normal_dtype)
    record.result = {"points": found.points, "size": found.size}
    record.notes = found.notes


def read_scenes(folder: Path) -> list[SceneItem]:
    """The scenes that the segment stage left."""
    from data_tools.segment import read_scenes as read

    return [SceneItem(s.scene_id, s.start, s.end, s.label, s.probability) for s in read(folder)]


FUNCTIONS: dict[str, StageFunction] = {
    "collect": collect,
    "segment": segment,
    "reconstruct": reconstruct,
    "postprocess": postprocess,
    "package": package,
}

"""The stages as the chain calls them: name -> function of a call. Heavy libraries are imported in the workers only."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

from data_tools.chain.items import FRAMES, Call, SceneItem, StageFunction
from data_tools.stages.files import replacing
from data_tools.stages.record import StageRecord, read_record


def collect(call: Call) -> StageRecord:
    """Fetch a video, one try (`downloads` waits and asks again); a download that was cut off goes on."""
    from data_tools.collection.fetch import collect_video
    from data_tools.collection.sources import VideoSource

    video = call.video
    source = VideoSource(video.video_id, video.url, None, video.ranges, dict(video.extra))
    record = read_record(call.folder)
    is_redone = record is not None and record.key not in ("", call.key)
    return collect_video(source, call.folder, call.settings, overwrite=is_redone)


def segment(call: Call) -> StageRecord:
    """Find the scenes of a video."""
    from data_tools.segment import segment_video

    assert call.source is not None
    return segment_video(call.source, call.folder, call.settings)


def reconstruct(call: Call) -> StageRecord:
    """A scene's frames to a cloud and cameras; the stage keeps its model in the worker from scene to scene."""
    from data_tools.reconstruct import reconstruct_scene

    assert call.source is not None
    assert call.scene is not None
    is_ahead = call.frames is not None and call.frames.is_file()
    return reconstruct_scene(
        call.source,
        call.scene.intervals,
        call.folder,
        call.settings,
        packets=_packets(call),
        frames=partial(_read_frames, call.frames) if is_ahead else None,
    )


def frames(call: Call) -> StageRecord:
    """Decode and choose the frames of a scene, while its GPU works on another one."""
    from data_tools.reconstruct import frames_for, is_done

    assert call.source is not None
    assert call.scene is not None
    assert call.frames is not None
    if not is_done(call.source, call.scene.intervals, call.folder, call.settings):
        found = frames_for(call.source, call.scene.intervals, call.settings, _packets(call))
        with replacing(call.frames) as partial_path, partial_path.open("wb") as handle:
            pickle.dump(found, handle, protocol=5)
    return StageRecord(FRAMES, call.name)


def _packets(call: Call) -> Path | None:
    return call.inputs / "packets.npy" if call.inputs is not None else None


def _read_frames(path: Path) -> Any:
    with path.open("rb") as handle:
        return pickle.load(handle)  # of this run's own `frames`


def postprocess(call: Call) -> StageRecord:
    """A cloud as reconstructed to a scene folder: metres, z up, judged."""
    from data_tools.postprocess import postprocess_scene

    assert call.inputs is not None
    return postprocess_scene(call.inputs, call.folder, call.settings, provenance=provenance(call))


def provenance(call: Call) -> dict[str, Any]:
    """Where a scene comes from, for its meta.json: no path of this machine, no time stamp."""
    video, scene = call.video, call.scene or SceneItem(call.name)
    facts: dict[str, Any] = {"video": video.video_id, "scene": scene.scene_id, "intervals": scene.intervals}
    optional = {"label": scene.label, "probability": scene.probability, "url": video.url, **dict(video.extra)}
    optional.update(call.facts)
    return {**facts, **{name: value for name, value in optional.items() if value not in ("", None)}}


def read_scenes(folder: Path) -> list[SceneItem]:
    """The scenes that the segment stage left."""
    from data_tools.segment import read_scenes as read

    return [SceneItem(s.scene_id, s.intervals, s.label, s.probability) for s in read(folder)]


FUNCTIONS: dict[str, StageFunction] = {
    "collect": collect,
    "segment": segment,
    FRAMES: frames,
    "reconstruct": reconstruct,
    "postprocess": postprocess,
}

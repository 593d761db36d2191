"""What a run needs on this machine, asked once, before the first video: packages, weights, rights, room on the disk."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_tools.chain.items import STAGES, Places, VideoItem
from data_tools.chain.options import PACKAGES, clip_is_cached
from data_tools.collection.preflight import check_tools
from data_tools.collection.sources import VideoSource
from data_tools.stages.files import replacing

LEAST_FREE = 256 * 2**20  # bytes
MODULES = {  # module to what installs it
    "av": "av",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "scipy": "scipy",
    "pycolmap": "pycolmap",
    "torch": "torch",
    "open_clip": "open-clip-torch",
}
HUB_SECONDS = 10.0


def check_places(places: Places) -> list[str]:
    """A line for each folder that cannot be written, or has next to no room."""
    lines = []
    for folder in dict.fromkeys((places.out, places.work)):
        try:
            with replacing(folder / "preflight") as probe:
                probe.write_bytes(b"x")
            (folder / "preflight").unlink()
            free = shutil.disk_usage(folder).free
        except OSError as error:
            lines.append(f"{folder}: cannot be written ({error.strerror}); check the path and its rights")
            continue
        if free < LEAST_FREE:
            lines.append(f"{folder}: {free / 2**20:.0f} MB are free, {LEAST_FREE / 2**20:.0f} MB needed; make room")
    return lines


def check_stages(videos: Sequence[VideoItem], stages: Mapping[str, Any]) -> dict[str, list[str]]:
    """Lines for what is missing, by the stage that needs it.

    Args:
        videos: to be done.
        stages: settings by stage.
    """
    fetched = [VideoSource(v.video_id, v.url) for v in videos if v.path is None]
    needs_av = any(v.path is None or not v.path.is_dir() for v in videos)
    segment, reconstruct = stages["segment"], stages["reconstruct"]
    modules = {
        "segment": ["PIL", *(["av"] if needs_av else []), *(["open_clip"] if segment.labels == "clip" else [])],
        "reconstruct": ["cv2", *(["pycolmap"] if reconstruct.backend == "sfm" else ["torch"])],
        "postprocess": ["scipy", "PIL"],
    }
    found = {"collect": check_tools(fetched)[0]}
    for stage, names in modules.items():
        missing = [name for name in names if importlib.util.find_spec(name) is None]
        found[stage] = [
            f"{stage} needs {name}, which is not installed: pip install {MODULES[name]}" for name in missing
        ]
    found["segment"] += _check_clip(segment) if not found["segment"] else []
    found["reconstruct"] += _check_backend(reconstruct)
    return {stage: found[stage] for stage in STAGES if found.get(stage)}


def _check_clip(settings: Any) -> list[str]:
    if settings.labels != "clip" or settings.clip_weights or clip_is_cached():
        return []
    import open_clip

    config = open_clip.get_pretrained_cfg(settings.clip_model, "openai")
    return _check_hub(config.get("hf_hub", "").strip("/"), "segment.clip_weights")


def _check_backend(settings: Any) -> list[str]:
    if settings.backend not in PACKAGES:
        return []
    module, variable = PACKAGES[settings.backend]
    root = os.environ.get(variable, "")
    if root and not (Path(root) / module).is_dir():
        return [f"{variable}={root} holds no {module}/; see docs/reconstruct.md"]
    if not root and importlib.util.find_spec(module) is None:
        return [
            f"backend {settings.backend} is not installed here ({variable} names a checkout); see docs/reconstruct.md"
        ]
    weights = settings.weights or _hub_of(settings)
    if Path(weights).expanduser().exists():
        return []
    if settings.weights and (Path(weights).is_absolute() or weights.startswith((".", "~"))):
        return [f"reconstruct.weights {weights}: no such file or folder; check the path"]
    return _check_hub(weights, "reconstruct.weights")


def _hub_of(settings: Any) -> str:
    from data_tools.reconstruction import depth_anything, mapanything, pi3, vggt

    model = settings.options.get("model", settings.backend)
    if settings.backend == "pi3":
        return pi3.MODELS[model][2]
    if settings.backend == "mapanything":
        return mapanything.HUB if model == "mapanything" else ""  # the package knows where the models it wraps are
    return vggt.HUB if settings.backend == "vggt" else depth_anything.HUB


def _check_hub(name: str, setting: str) -> list[str]:
    """A line where weights of the hub are neither on this machine nor to be had."""
    from huggingface_hub import HfApi, constants

    if not name or any((Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}").glob("snapshots/*/*")):
        return []
    try:
        HfApi().model_info(name, timeout=HUB_SECONDS)
    except Exception as error:  # the hub client's errors share no base class
        why = (
            f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}" if str(error).strip() else "no answer"
        )
        return [f"weights {name} are not on this machine and cannot be had ({why}); give a file: --set {setting}=FILE"]
    return []


def needed(counts: Mapping[str, int]) -> set[str]:
    """The stages that a run will call, from what a dry run counted: what is not segmented may need all after it."""
    order = list(STAGES)
    first = [order.index(stage) for stage in order if counts.get(stage)]
    return set(order[min(first) :]) if first else set()

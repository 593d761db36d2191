"""The one writer of the scene folder format, shared by every tool that makes scenes.

``<out>/<split>/<scene>/{coord.npy float32 (N, 3) metres z-up, color.npy uint8 0..255, normal.npy float32,
[segment.npy, instance.npy int32], meta.json}``: what the host's ``DefaultDataset`` and ``RoomToursDataset`` read.
A scene is written to ``<out>/.partial`` and renamed, so a folder under its own name is always whole.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.clouds.types import Cloud, CloudError
from data_tools.stages.files import replacing_folder, write_json

FORMAT_VERSION = 1
META = "meta.json"
SEPARATORS = str.maketrans('/\\:*?"<>|', "_" * 9)
ARRAY_TYPES = {"coord": np.float32, "color": np.uint8, "normal": np.float32, "segment": np.int32, "instance": np.int32}


def settings_hash(settings: dict[str, Any]) -> str:
    """16 hexadecimal digits that change when a setting does."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def safe_name(name: str) -> str:
    """A folder name of any text: unicode and blanks stay, separators, control characters and leading dots/dashes go."""
    text = unicodedata.normalize("NFC", name)
    text = text.translate(SEPARATORS)
    if not text.isprintable():
        text = "".join("_" if unicodedata.category(c)[0] == "C" else c for c in text)
    text = text.strip()
    text = text.lstrip(".-").rstrip(". ")
    while len(text.encode()) > 180:  # file systems end at 255 bytes; temporary names add to it
        text = text[:-1]
    return text or "scene"


def read_meta(folder: Path) -> dict[str, Any] | None:
    """A scene's meta.json, or None where it is missing or damaged."""
    try:
        value = json.loads((folder / META).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def is_done(folder: Path, digest: str | None = None) -> bool:
    """Whether a scene folder is whole, and made with these settings if ``digest`` is given."""
    meta = read_meta(folder)
    if meta is None or (digest is not None and meta.get("settings_hash") != digest):
        return False
    return all((folder / f"{name}.npy").is_file() for name in meta.get("arrays", ["coord"]))


def write_scene(folder: Path, cloud: Cloud, meta: dict[str, Any], normal_dtype: str = "float32") -> dict[str, Any]:
    """Write a scene folder; an older one under the name is replaced.

    Args:
        cloud: coord in metres, z up; what it has of color, normal, segment, instance is written.
        meta: goes into meta.json, with the format version, arrays and counts added. Keep time stamps out of it.
        normal_dtype: "float32", or "float16" to halve it on disk.

    Raises:
        CloudError: no point, or a coordinate that is not finite.
        OSError: the disk is full or not writable; nothing is left under the scene's name that was not there.
    """
    with replacing_folder(folder, folder.parent.parent) as partial:
        return fill_scene(partial, folder.name, cloud, meta, normal_dtype)


def fill_scene(
    folder: Path, name: str, cloud: Cloud, meta: dict[str, Any], normal_dtype: str = "float32"
) -> dict[str, Any]:
    """`write_scene` into a folder that is there, for who gives it its place; raises the same."""
    if not len(cloud) or not np.isfinite(cloud.coord).all():
        raise CloudError(f"{name}: {len(cloud)} points, all must be finite; drop the others before writing")
    arrays = {name: value for name, value in cloud.arrays().items() if name in ARRAY_TYPES}
    types = {**ARRAY_TYPES, "normal": np.dtype(normal_dtype)}
    meta = {
        **meta,
        "format_version": FORMAT_VERSION,
        "name": name,
        "arrays": sorted(arrays),
        "num_points": len(cloud),
        "extent": [round(float(v), 4) for v in np.ptp(cloud.coord, axis=0)],
    }
    for kind, value in arrays.items():
        np.save(folder / f"{kind}.npy", np.ascontiguousarray(value, dtype=types[kind]))
    write_json(folder / META, meta)
    return meta

"""One reconstruction to one scene folder of the data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_tools.clouds.io import CLOUD_SUFFIXES, Cloud, CloudError, read_cloud
from data_tools.packaging.clouds import fingerprint
from data_tools.postprocessing.cameras import Cameras, read_cameras, write_cameras
from data_tools.postprocessing.layout import Layout
from data_tools.postprocessing.pipeline import Scene, process
from data_tools.postprocessing.preview import draw_preview
from data_tools.postprocessing.quality import reject_reason
from data_tools.postprocessing.scale import scene_rng
from data_tools.postprocessing.settings import PostprocessSettings
from data_tools.stages.record import (
    RejectedError,
    StageError,
    StageRecord,
    read_record,
    run_stage,
    text_hash,
    tool_versions,
)
from data_tools.stages.scene_folder import fill_scene, safe_name

STAGE = "postprocess"
CLOUD, CAMERAS, PREVIEW = "cloud.ply", "cameras.npz", "preview.png"
TOOLS = ("lam3c-plugin", "numpy", "scipy", "pillow")


def postprocess_cloud(
    cloud: Cloud,
    cameras: Cameras | None,
    settings: PostprocessSettings | None = None,
    name: str = "scene",
    is_metric: bool = False,
    workers: int = 1,
) -> tuple[Cloud, dict[str, Any]]:
    """Post-process a cloud in memory; see `pipeline.process` for the arguments.

    Returns:
        The cloud in metres, z up, with normals; and every factor applied (``transform``: input to output).

    Raises:
        CloudError: no scene can be made of it.
    """
    scene = process(cloud, cameras, settings or PostprocessSettings(), name, is_metric, workers)
    return scene.cloud, scene.meta


def cloud_file(source: Path) -> Path:
    """The cloud of a reconstruction's folder, or the plain cloud file itself.

    Raises:
        StageError: the folder has none.
    """
    if source.is_dir() and not (source / "coord.npy").is_file():
        file = source / CLOUD
        if not file.is_file():
            record = read_record(source)
            why = f" ({record.reason})" if record is not None and record.reason else ""
            raise StageError(
                f"{source}: holds no {CLOUD}{why}; run reconstruct.py for this scene first", permanent=False
            )
        return file
    return source


def input_mark(source: Path, provenance: dict[str, Any] | None) -> str:
    """What the result depends on: the cloud, its cameras, where they come from.

    Raises:
        StageError: the cloud is missing.
    """
    file = cloud_file(source)
    if not file.exists():
        raise StageError(f"{file}: does not exist; check the path", permanent=False)
    cameras = file.parent / CAMERAS if source.is_dir() else None
    marks = [fingerprint(file), fingerprint(cameras) if cameras is not None and cameras.is_file() else ""]
    return text_hash(*marks, json.dumps(_provenance(source, provenance), sort_keys=True, default=str))


def _provenance(source: Path, given: dict[str, Any] | None) -> dict[str, Any]:
    """Video and times as the caller says, and what the reconstruction's record holds; no folders of this machine."""
    record = read_record(source) if source.is_dir() else None
    known = {"file": source.name} if given is None and record is None else dict(given or {})
    if record is not None:
        known["reconstruction"] = {"settings_hash": record.settings_hash, **record.result}
    return known


def postprocess_scene(
    cloud_folder: str | Path,
    folder: str | Path,
    settings: PostprocessSettings | None = None,
    overwrite: bool = False,
    provenance: dict[str, Any] | None = None,
    workers: int = 1,
    refused: Path | None = None,
) -> StageRecord:
    """Post-process one scene into ``folder``: its arrays, meta.json, preview.png, cameras.npz, record.json.

    Args:
        cloud_folder: of the reconstruction, with cloud.ply and perhaps cameras.npz; or a plain cloud file.
        folder: the scene's, ``OUT/<split>/<scene>``; its name is the scene's name and, with the seed, decides every
            draw.
        provenance: source video id, times, perhaps ``is_metric``; goes into meta.json beside the result of the
            reconstruction's record.
        refused: takes the record of what is rejected or failed, so that ``OUT/<split>`` holds scenes only; None leaves
            it in ``folder``.

    Returns:
        The record; "rejected" with the reason and the quality where the scene is under the limits.
    """
    source, folder = Path(cloud_folder), Path(folder)
    settings = settings or PostprocessSettings()
    try:
        mark = input_mark(source, provenance)
    except (StageError, OSError) as error:
        permanent = isinstance(error, StageError) and error.permanent
        return StageRecord(STAGE, folder.name, "failed", str(error), permanent, settings.digest())
    origin = _provenance(source, provenance)

    def work(partial: Path, record: StageRecord) -> None:
        _work(source, origin, settings, workers, partial, record)

    return run_stage(STAGE, folder, settings.digest(), mark, work, overwrite, refused)


def _work(
    source: Path,
    origin: dict[str, Any],
    settings: PostprocessSettings,
    workers: int,
    partial: Path,
    record: StageRecord,
) -> None:
    name = record.item
    try:
        cloud = read_cloud(cloud_file(source))
        cameras = read_cameras(source / CAMERAS) if source.is_dir() else None
        is_metric = bool({**origin.get("reconstruction", {}), **origin}.get("is_metric"))
        scene = process(cloud, cameras, settings, name, is_metric, workers)
    except (CloudError, ValueError) as error:
        raise StageError(" ".join(str(error).split())) from None
    except MemoryError:
        raise StageError(f"{name}: does not fit into memory; lower --point-cap or run fewer --jobs", False) from None
    record.notes = scene.notes
    record.result = {
        "points": len(scene.cloud),
        "size": scene.meta["size"],
        "scale": scene.meta["scale"],
        "spacing": scene.meta["spacing"]["after"],
        "height": scene.meta["layout"]["ceiling"],
        "quality": scene.meta["quality"],
        "verdict": scene.meta["verdict"],
        "removed": scene.meta["points"]["removed"],
    }
    reason = reject_reason(scene.quality, len(scene.cloud), settings.limits)
    if reason:
        raise RejectedError(reason)
    write_result(partial, name, scene, origin, settings)


def write_result(
    folder: Path, name: str, scene: Scene, provenance: dict[str, Any], settings: PostprocessSettings
) -> None:
    """Write a scene's files into an existing folder; no time stamps, no paths of this machine."""
    meta = {**provenance, "tools": tool_versions(TOOLS), **scene.meta}
    fill_scene(folder, name, scene.cloud, meta, settings.normal_dtype)
    if scene.cameras is not None:
        write_cameras(folder / CAMERAS, scene.cameras)
    if settings.preview:
        size = " x ".join(f"{v:.1f}" for v in meta["size"])
        q, apart = meta["quality"], 1000 * meta["spacing"]["after"]
        caption = (
            f"{len(scene.cloud):,} points · {size} m ({meta['scale']['said']}) · {apart:.1f} mm apart · coverage "
            f"{q['coverage']:.0%} · double {q['double']:.0%} · noise {q['noise'] * 1000:.0f} mm"
        )
        title, rng = f"{name} · score {q['score']:.2f}", scene_rng(name, settings.seed, "preview")
        draw_preview(folder / PREVIEW, scene.cloud, Layout(**meta["layout"]), title, caption, rng)


def find_scenes(sources: list[Path]) -> list[tuple[str, Path]]:
    """Scenes to do, (name, source): folders with cloud.ply, folders of such folders, plain clouds.

    Raises:
        ValueError: a path does not exist or holds no cloud, or two scenes have one name; one line.
    """
    found: list[tuple[str, Path]] = []
    for source in sources:
        if source.is_file() or (source / CLOUD).is_file():
            found.append((safe_name(source.resolve().name if source.is_dir() else source.stem), source))
            continue
        if not source.is_dir():
            raise ValueError(f"{source}: does not exist; check the path")
        inside = [p for p in sorted(source.iterdir()) if not p.name.startswith(".")]
        inner = [(safe_name(p.name), p) for p in inside if (p / CLOUD).is_file()]
        inner += [(safe_name(p.stem), p) for p in inside if p.is_file() and p.suffix.lower() in CLOUD_SUFFIXES]
        if not inner:
            raise ValueError(f"{source}: holds no scene folder with {CLOUD} and no cloud; check the path")
        found += inner
    taken: dict[str, Path] = {}
    for name, source in found:
        if name in taken and taken[name].resolve() != source.resolve():
            raise ValueError(f"{source} and {taken[name]} have one name, {name!r}; rename one or use two --out folders")
        taken[name] = source
    return list(taken.items())

"""Reconstruct rooms from video: frames in; a cloud with colours, normals and confidence, and the cameras out.

    python data_tools/reconstruct.py room.mp4 --out clouds --backend sfm
    python data_tools/reconstruct.py tour.mp4 --scenes work/segments/tour --out clouds
    python data_tools/reconstruct.py tour.mp4 --start 12 --end 40 --out clouds --backend pi3 --option model=pi3x
    python data_tools/reconstruct.py photos/ --out clouds --backend sfm --intrinsics 525,525,319.5,239.5
    python data_tools/reconstruct.py room.mp4 --out clouds --backend vggt --weights weights/VGGT-1B.safetensors

A video is one scene unless --scenes names what segment.py found in it; a folder of images is one scene. Each leaves
OUT/NAME/{cloud.ply, cameras.npz, frames/*.jpg, record.json}. What is done with the same settings is skipped; the run
may be killed at any moment and started again. docs/reconstruct.md tells which backend for what, and how to get it.
Exit code: 0 all well, 1 some scenes failed, 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data_tools.reconstruction.assemble import CLOUD, build_cloud, write_scene_files
from data_tools.reconstruction.base import (
    BACKENDS,
    DEVICES,
    DTYPES,
    EDGES,
    SKIES,
    Frames,
    Prediction,
    Reconstructor,
    ReconstructSettings,
    build_reconstructor,
)
from data_tools.reconstruction.chunks.surface import seen_best
from data_tools.reconstruction.chunks.tour import work_folder
from data_tools.reconstruction.frames import FramesAhead, Intervals, SceneFrames, frames_for
from data_tools.reconstruction.masks import keep_masks
from data_tools.reconstruction.passes import predict_scene
from data_tools.stages.command_line import count, run_main, usage_errors
from data_tools.stages.record import (
    StageError,
    StageRecord,
    is_current,
    read_record,
    run_stage,
    text_hash,
    tool_versions,
)
from data_tools.stages.run import print_records, run_items
from data_tools.stages.scene_folder import safe_name

__all__ = ["ReconstructSettings", "main", "reconstruct_scene"]

FEWEST_POINTS = 100
LIBRARIES = ("numpy", "torch", "pycolmap", "opencv-python-headless", "opencv-python", "av", "depth-anything-3")

_loaded: dict[str, Reconstructor] = {}  # the last backend, with its weights, for the next scene of this process


def reconstruct_scene(
    video: Path,
    intervals: Intervals,
    folder: Path,
    settings: ReconstructSettings,
    overwrite: bool = False,
    reconstructor: Reconstructor | None = None,
    packets: Path | None = None,
    frames: Callable[[], SceneFrames] | None = None,
) -> StageRecord:
    """Reconstruct one scene into ``folder``.

    Args:
        video: a video file or a folder of images.
        intervals: (start, end) seconds in order of time, an end of None for the source's; frames come from all.
        folder: the scene's, for example ``clouds/<scene_id>``; its name is the item's.
        settings: see there.
        overwrite: make it again.
        reconstructor: a backend to use; None builds the one of the settings, once a process.
        packets: ``packets.npy`` of the segment stage, where the video was segmented.
        frames: gives the scene's frames, decoded elsewhere by `frames_for`; None decodes them here.

    Returns:
        The record; nothing is raised for a bad scene.
    """

    def work(partial_folder: Path, record: StageRecord) -> None:
        if not video.exists():
            raise StageError(f"{video.name}: no such video or folder; check the path", permanent=False)
        backend = reconstructor or _backend(settings)
        found = frames() if frames else frames_for(video, intervals, settings, packets, backend)
        with work_folder(folder, text_hash(settings.digest(), _input_hash(video, intervals))) as chunks:
            prediction, used = predict_scene(backend, found.frames, settings, record.notes, chunks)
            try:
                _finish(partial_folder, record, settings, backend, found, prediction, used)
                record.result["intervals"] = [list(interval) for interval in intervals]
            except MemoryError:
                reason = f"out of memory with the points of {len(prediction)} views; use a smaller --max-frames"
                raise StageError(reason, permanent=False) from None

    return run_stage("reconstruct", folder, settings.digest(), _input_hash(video, intervals), work, overwrite)


def _finish(
    folder: Path,
    record: StageRecord,
    settings: ReconstructSettings,
    backend: Reconstructor,
    found: SceneFrames,
    prediction: Prediction,
    frames: Frames,
) -> None:
    keep, dropped = keep_masks(prediction, frames, settings)
    if "chunks" in prediction.figures:
        before = int(keep.sum())
        keep = seen_best(prediction, keep)
        dropped["seen better"] = round((before - int(keep.sum())) / keep.size, 4)
    points = int(keep.sum())
    if points < FEWEST_POINTS:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in dropped.items() if share)
        raise StageError(
            f"{points} points are left of {keep.size} (dropped: {shares}); a lower --confidence keeps more"
        )
    cloud = build_cloud(prediction, keep, settings.max_points, settings.seed)
    write_scene_files(folder, cloud, prediction, frames, found.size)
    record.notes += [*found.notes, *prediction.notes]
    record.result = {
        "backend": backend.name,
        "is_metric": prediction.is_metric,
        "frames_seen": found.seen,
        "frames": len(frames),
        "frames_replaced": found.replaced,
        "views": len(prediction),
        "grid": list(prediction.points.shape[1:3]),
        "points": len(cloud),
        "points_before_cap": points,
        "dropped": dropped,
        "figures": prediction.figures,
        "tools": tool_versions(LIBRARIES),
    }


def _backend(settings: ReconstructSettings) -> Reconstructor:
    key = settings.digest()
    if key not in _loaded:
        _loaded.clear()  # two networks do not fit one GPU
        _loaded[key] = build_reconstructor(settings.backend, settings)
    return _loaded[key]


def is_done(video: Path, intervals: Intervals, folder: Path, settings: ReconstructSettings) -> bool:
    """Whether `reconstruct_scene` with these settings would skip this scene."""
    return is_current(read_record(folder), settings.digest(), _input_hash(video, intervals))


def _input_hash(video: Path, intervals: Intervals) -> str:
    from data_tools.packaging.clouds import fingerprint

    try:
        source = fingerprint(video)
    except OSError:
        source = ""  # the work finds out and says so
    return text_hash(source, tuple(map(tuple, intervals)))


@dataclass(frozen=True)
class SceneItem:
    """A scene of the command line: its source, its times, its name, the times of its video's packets."""

    video: Path
    intervals: Intervals
    name: str
    packets: Path | None = None


def find_scenes(args: argparse.Namespace) -> list[SceneItem]:
    """The scenes that the arguments name.

    Raises:
        ValueError: a source that is not there, or a list of scenes that cannot be read; one line.
    """
    missing = [str(path) for path in args.sources if not path.exists()]
    if missing:
        raise ValueError(f"{missing[0]}: no such video or folder; check the path")
    if args.scenes is None:
        items = [SceneItem(path, ((args.start, args.end),), safe_name(path.stem or path.name)) for path in args.sources]
        names = [item.name for item in items]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sources are named {twice[0]}; rename one, or give them to two runs")
        return items
    if len(args.sources) != 1:
        raise ValueError(f"--scenes goes with one video, {len(args.sources)} are given")
    path = args.scenes / "scenes.json" if args.scenes.is_dir() else args.scenes
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["scenes"]
        rows = [(tuple((float(a), float(b)) for a, b in s["intervals"]), str(s["scene_id"])) for s in listed]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: cannot be read as scenes ({error}); make it with segment.py") from None
    return [SceneItem(args.sources[0], *row, path.with_name("packets.npy")) for row in rows]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, base = parser.add_argument, ReconstructSettings()
    add("sources", nargs="+", type=Path, metavar="VIDEO_OR_FOLDER")
    add("--out", type=Path, default=Path("clouds"), help="a folder a scene goes here (default clouds)")
    add("--scenes", type=Path, help="scenes.json of segment.py, or its folder: reconstruct these of the one video")
    add("--start", type=float, default=0.0, help="seconds (default 0)")
    add("--end", type=float, help="seconds (default: the end)")
    add("--backend", choices=list(BACKENDS), default=base.backend, help=f"default {base.backend}")
    add("--weights", default="", help="file, folder or hub name (default: the backend's own from the hub)")
    add("--option", action="append", default=[], metavar="NAME=VALUE", help="setting of the backend, repeatable")
    add("--device", choices=DEVICES, default="auto")
    add("--dtype", choices=DTYPES, default="auto", help="default: bf16 or fp16 on a GPU, fp32 on a CPU")
    add(
        "--min-frames",
        type=int,
        default=base.min_frames,
        help=f"a scene's frames, at least (default {base.min_frames})",
    )
    add("--max-frames", type=int, default=base.max_frames, help=f"at most (default {base.max_frames})")
    add(
        "--frame-rate",
        type=float,
        default=base.frame_rate,
        help=f"a second, between them (default {base.frame_rate:g})",
    )
    add("--chunk-frames", type=int, default=0, help="frames of one pass, at most (default: 300; sfm: all)")
    add("--max-side", type=int, default=base.max_side, help=f"pixels sfm reads frames at (default {base.max_side})")
    add("--keep-blurred", action="store_true", help="take the evenly spaced frames as they are")
    add("--confidence", type=float, help="drop points under it, 0 to 1 (default: the backend's rule)")
    add("--edge", choices=EDGES, default=base.edge, help="jumps of depth to drop (default: the backend's rule)")
    add("--edge-tolerance", type=float, default=base.edge_tolerance, help=f"relative (default {base.edge_tolerance})")
    add("--border", type=int, default=0, help="pixels to drop along the image's sides (default 0)")
    add("--sky", choices=SKIES, default="none", help="color: drop what looks like sky at the top of the image")
    add("--mask-folder", default="", help="FRAME_NUMBER.png, black where points are to go")
    add("--dynamic", action="store_true", help="drop what neighbouring views see through")
    add("--max-points", type=int, default=base.max_points, help=f"a scene (default {base.max_points:,}; 0 all)")
    add("--intrinsics", help="fx,fy,cx,cy of the full resolution, where the camera is known")
    add("--seed", type=count, default=0)
    add("--deterministic", action="store_true", help="same input, same bytes; slower")
    add("--overwrite", action="store_true", help="do again what is done")
    return parser.parse_args(argv)


def settings_of(args: argparse.Namespace) -> ReconstructSettings:
    """Settings of the command line.

    Raises:
        ValueError: a value out of range, or an option that is not NAME=VALUE.
    """
    same = ("backend", "weights", "device", "dtype", "min_frames", "max_frames", "frame_rate", "max_side", "confidence")
    same += ("edge", "edge_tolerance", "border", "sky", "mask_folder", "dynamic", "max_points", "seed", "deterministic")
    same += ("chunk_frames",)
    values: dict[str, Any] = {name: getattr(args, name) for name in same}
    values["min_frames"] = min(args.min_frames, args.max_frames)
    if args.intrinsics:
        try:
            values["intrinsics"] = tuple(float(number) for number in args.intrinsics.split(","))
        except ValueError:
            raise ValueError(f"--intrinsics {args.intrinsics}: give four numbers, fx,fy,cx,cy") from None
    return ReconstructSettings(
        **values, replace_blurred=not args.keep_blurred, options=dict(read_option(text) for text in args.option)
    )


def read_option(text: str) -> tuple[str, Any]:
    """``name=value`` with the value as a number or true/false where it is one, else as text."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ValueError(f"--option {text}: give NAME=VALUE")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value


def reconstruct_all(
    items: Sequence[SceneItem], out: Path, settings: ReconstructSettings, overwrite: bool = False
) -> list[StageRecord]:
    """Reconstruct scenes one after the other; the frames of the next one are decoded meanwhile.

    Returns:
        A record a scene, in order; nothing is raised for a bad one.
    """

    def is_there(item: SceneItem) -> bool:
        folder, record = out / item.name, read_record(out / item.name)
        is_gone = record is not None and record.status == "done" and not (folder / CLOUD).is_file()  # as the chain does
        return not overwrite and not is_gone and is_done(item.video, item.intervals, folder, settings)

    def load(item: SceneItem) -> Callable[[], SceneFrames] | None:
        return None if is_there(item) else partial(frames_for, item.video, item.intervals, settings, item.packets)

    ahead = FramesAhead([load(item) for item in items])

    def work(entry: tuple[int, SceneItem]) -> StageRecord:
        number, item = entry
        frames, is_wanted = partial(ahead.take, number), not is_there(item)
        return reconstruct_scene(item.video, item.intervals, out / item.name, settings, is_wanted, frames=frames)

    return run_items("reconstruct", list(enumerate(items)), work, name=lambda entry: entry[1].name)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the command line; returns the exit code."""
    args = parse_args(argv)
    return run_main(lambda: _run(args), "reconstruct", out=args.out)


def _run(args: argparse.Namespace) -> int:
    with usage_errors():
        settings = settings_of(args)
        items = find_scenes(args)
    return print_records(reconstruct_all(items, args.out, settings, args.overwrite))


if __name__ == "__main__":
    sys.exit(main())

"""Cut room-tour videos into scenes, one room each: times, labels, probabilities; the video itself is left as it is.

Frames are decoded once. CLIP labels some of them a second (indoor or not, then the type of room); shot cuts, dissolves
and fades end a scene, as does another room. Without weights, ``--labels none`` takes the shots as scenes.

    python data_tools/segment.py tour.mp4 --work data/roomtours/_work --clip-weights ViT-B-32.pt
    python data_tools/segment.py data/roomtours/_work/videos --jobs 4                  # all that collect.py fetched
    python data_tools/segment.py tours/ --labels none                                  # no weights: cuts only
    python data_tools/segment.py tours/ --labels labels/ --rooms "bedroom,kitchen"     # labels/<video>.csv: time,label

Writes WORK/segments/<video>/{scenes.json, timeline.png, thumbs/*.jpg, record.json}. What is done already with the same
settings is skipped; the run may be killed at any moment and started again.
Exit code: 0 all well (a video without a room is rejected, not failed), 1 some videos failed, 2 wrong arguments or no
CLIP weights, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data_tools.segmentation.run import Scene, find_videos, is_done, read_scenes, segment_video
from data_tools.segmentation.settings import DEFAULT_ROOMS, SegmentSettings
from data_tools.stages.command_line import count, run_main, usage_errors
from data_tools.stages.record import StageError, StageRecord
from data_tools.stages.run import print_records, run_items

__all__ = ["Scene", "SegmentSettings", "find_videos", "main", "read_scenes", "segment_video"]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    usual = SegmentSettings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO_OR_FOLDER")
    parser.add_argument("--work", type=Path, default=Path("data/roomtours/_work"), help="default data/roomtours/_work")
    parser.add_argument("--labels", default=usual.labels, help="clip (default), none, FILE.csv or a folder of them")
    parser.add_argument("--rooms", default=",".join(DEFAULT_ROOMS), help="room types to tell apart, with commas")
    for name, text in (
        ("rate", "frames a second that are labelled"),
        ("smoothing", "seconds of temporal smoothing"),
        ("min-indoor", "seconds; shorter indoor runs are dropped"),
        ("min-room", "seconds; shorter rooms join a neighbour of the same shot"),
        ("max-length", "seconds; longer scenes are split evenly, 0 never"),
        ("margin", "seconds kept away from frames that show no room"),
        ("cut-threshold", "least difference at a shot cut, 0..1"),
        ("temperature", "divides CLIP's logits; above 1 softens"),
        ("prior-outdoor", "share of frames expected to show outdoors"),
        ("prior-other", "share of frames expected to show no place at all"),
    ):
        default = getattr(usual, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=float, default=default, help=f"{text} (default {default:g})")
    parser.add_argument("--clip-model", default=usual.clip_model, help=f"of open_clip (default {usual.clip_model})")
    parser.add_argument(
        "--clip-weights", default="", metavar="PATH", help="local file; default: OpenAI's, from the hub"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 … (default: a GPU if there is one)")
    parser.add_argument("--precision", choices=["auto", "fp16", "fp32"], default="auto", help="auto: half on a GPU")
    parser.add_argument("--batch", type=int, default=usual.batch, help=f"frames at a time (default {usual.batch})")
    parser.add_argument("--overwrite", action="store_true", help="do again what is done")
    parser.add_argument("--jobs", type=count, default=1, help="processes (default 1)")
    return parser.parse_args(argv)


def settings_of(args: argparse.Namespace) -> SegmentSettings:
    """Settings of the command line; raises ValueError as they do."""
    names = set(SegmentSettings.__dataclass_fields__)
    values = {name: value for name, value in vars(args).items() if name in names}
    values["rooms"] = tuple(room.strip().lower() for room in args.rooms.split(",") if room.strip())
    return SegmentSettings(**values)


def _segment_item(item: tuple[str, Path], work: Path, settings: SegmentSettings, overwrite: bool) -> StageRecord:
    video_id, path = item
    return segment_video(path, _folder(work, video_id), settings, overwrite)


def _folder(work: Path, video_id: str) -> Path:
    return work / "segments" / video_id


def main(argv: list[str] | None = None) -> int:
    """Entry of the command line; returns the exit code."""
    args = parse_args(argv)
    return run_main(lambda: _run(args), "segment", out=args.work)


def _run(args: argparse.Namespace) -> int:
    with usage_errors(StageError):
        settings = settings_of(args)
        videos = find_videos(args.videos)
        is_all_done = all(is_done(path, _folder(args.work, name), settings) for name, path in videos)
        if settings.kind == "clip" and (args.overwrite or not is_all_done):
            from data_tools.segmentation.clip import load_clip

            load_clip(settings)  # before any video: without weights every one of them would fail
    if settings.kind == "none":
        print("segment: no labels: scenes are shots, and outdoor shots stay in")
    work = partial(_segment_item, work=args.work, settings=settings, overwrite=args.overwrite)
    records = run_items("segment", videos, work, lambda item: item[0], max(1, args.jobs), "video")
    scenes = sum(record.result.get("scenes", 0) for record in records)
    print(f"{scenes} scenes in {args.work / 'segments'}")
    return print_records(records, "video")


if __name__ == "__main__":
    sys.exit(main())

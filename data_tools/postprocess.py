"""Reconstructed clouds to scene folders: metres, z up, even spacing, normals, a quality score. One command.

Takes what reconstruct.py writes (folders with cloud.ply and cameras.npz), or plain clouds of any frame and unit, and
writes OUT/SPLIT/<scene>/{coord,color,normal}.npy with meta.json (every factor applied), preview.png, cameras.npz and
record.json: what pre-training reads. What falls under the limits leaves a record with its reason in WORK/rejected.

    python data_tools/postprocess.py data/roomtours/_work/clouds --out data/roomtours --jobs 4
    python data_tools/postprocess.py my_room.ply --out data/my_rooms --scale height
    python data_tools/postprocess.py clouds/ --out data/my_rooms --split val --max-double 0.25 --min-score 0.5

What is done already with the same settings is skipped; the run may be killed at any moment and started again.
Exit code: 0 all well (rejected scenes are well), 1 some scenes failed, 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data_tools.packaging.card import write_summary
from data_tools.postprocessing.quality import room_lines
from data_tools.postprocessing.scene import find_scenes, postprocess_cloud, postprocess_scene
from data_tools.postprocessing.settings import CAP_RULES, SCALE_RULES, Limits, PostprocessSettings
from data_tools.stages.command_line import count, run_main, usage_errors
from data_tools.stages.record import StageRecord
from data_tools.stages.run import print_records, run_items
from data_tools.stages.splits import check_split, written_splits

__all__ = ["Limits", "PostprocessSettings", "main", "postprocess_cloud", "postprocess_scene"]


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The options that make `PostprocessSettings`, for this script and for others that run the stage."""
    usual, limits = PostprocessSettings(), Limits()
    add = parser.add_argument
    add("--point-cap", type=int, default=usual.point_cap, help="most points that are worked on (default %(default)s)")
    add("--cap-rule", choices=CAP_RULES, default=usual.cap_rule, help="who is drawn (default %(default)s)")
    add("--outlier-limit", type=float, default=usual.outlier_limit, help="most points removed, share (default 0.01)")
    add("--up", default=usual.up, help="auto (default), or the axis that is up: x, y, z, or --up=-y")
    add("--scale", choices=SCALE_RULES, default=usual.scale, help="auto: metric where the backend is, else scannet")
    add("--spacing", type=float, default=usual.spacing, help="of the points, metres; 0 keeps all (default %(default)s)")
    add("--min-points", type=int, default=usual.min_points, help="thinning stops here (default %(default)s)")
    add("--neighbours", type=int, default=usual.neighbours, help="points per plane of the normals (default 32)")
    add("--float16-normals", action="store_true", help="a fifth less on disk; they are read as float32")
    add("--min-score", type=float, default=limits.min_score, help="reject below (default %(default)s)")
    add("--max-double", type=float, default=limits.max_double, help="reject above, share (default %(default)s)")
    add("--max-noise", type=float, default=limits.max_noise, help="reject above, metres (default %(default)s)")
    add("--min-coverage", type=float, default=limits.min_coverage, help="reject below (default %(default)s)")
    add("--least-points", type=int, default=limits.min_points, help="reject with fewer (default %(default)s)")
    add("--no-preview", action="store_true", help="draw no preview.png")
    add("--seed", type=count, default=usual.seed)


def settings_of(args: argparse.Namespace) -> PostprocessSettings:
    """Settings of the parsed options.

    Raises:
        ValueError: a number out of range; one line.
    """
    same = ("point_cap", "cap_rule", "outlier_limit", "up", "scale", "spacing", "min_points", "neighbours", "seed")
    return PostprocessSettings(
        **{name: getattr(args, name) for name in same},
        normal_dtype="float16" if args.float16_normals else "float32",
        limits=Limits(args.min_score, args.max_double, args.max_noise, args.min_coverage, args.least_points),
        preview=not args.no_preview,
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clouds", nargs="+", type=Path, metavar="CLOUD_OR_FOLDER")
    parser.add_argument("--out", type=Path, required=True, help="the data set: scenes go to OUT/SPLIT/NAME")
    parser.add_argument("--split", default="train", help="default %(default)s")
    parser.add_argument("--work", type=Path, help="WORK/rejected holds records of the others (default OUT/_work)")
    parser.add_argument("--jobs", type=count, default=1, help="processes (default 1)")
    parser.add_argument("--overwrite", action="store_true", help="do again what is done")
    add_settings(parser)
    return parser.parse_args(argv)


def _one(item: tuple[str, Path], args: argparse.Namespace, settings: PostprocessSettings, workers: int) -> StageRecord:
    name, source = item
    split = (written_splits(args.out, name) or [args.split])[0]
    rejected = (args.work or args.out / "_work") / "rejected"
    return postprocess_scene(source, args.out / split / name, settings, args.overwrite, None, workers, rejected / name)


def main(argv: list[str] | None = None) -> int:
    """Entry of the command line; returns the exit code."""
    args = parse_args(argv)
    return run_main(lambda: _run(args), "postprocess", out=args.out)


def _run(args: argparse.Namespace) -> int:
    with usage_errors():
        check_split(args.split)
        settings = settings_of(args)
        scenes = find_scenes(args.clouds)
        args.out.mkdir(parents=True, exist_ok=True)
    work = partial(_one, args=args, settings=settings, workers=-1 if args.jobs <= 1 else 1)
    records = run_items("postprocess", scenes, work, name=lambda item: item[0], jobs=args.jobs)
    write_summary(args.out)
    print_scores(records)
    return print_records(records)


def print_scores(records: list[StageRecord]) -> None:
    """A line a scene: points, size, the score; below it what the size is worth, and the verdict on each part."""
    print(f"{'scene':32} {'state':8} {'points':>9}  {'size (m)':18} {'score':>5}  what was found")
    for record in records:
        result = record.result
        size = " x ".join(f"{v:.1f}" for v in result.get("size", []))
        score = f"{result['quality']['score']:.2f}" if "quality" in result else "-"
        points = f"{result['points']:,}" if "points" in result else "-"
        words = record.reason or "; ".join(record.notes)
        print(f"{record.item:32} {record.status:8} {points:>9}  {size:18} {score:>5}  {words}")
        for line in room_lines(result)[1:]:
            print(f"{'':34}{line}")


if __name__ == "__main__":
    sys.exit(main())

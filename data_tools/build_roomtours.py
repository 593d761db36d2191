"""Room-tour videos to RoomTours, the folders that pre-training reads: one command.

collect -> segment -> reconstruct -> postprocess -> report, over videos, folders of videos, addresses and manifests.
What is done is skipped, a data set keeps the settings it was begun with, and the run may be killed at any moment.

    python data_tools/build_roomtours.py tour.mp4 --out data/roomtours
    python data_tools/build_roomtours.py tours/ --backend sfm --labels none --jobs 4
    python data_tools/build_roomtours.py roomtours.csv --backend pi3 --labels clip --gpus 0,0,1
    python data_tools/build_roomtours.py roomtours.csv --shard ${SLURM_ARRAY_TASK_ID}/64
    python data_tools/build_roomtours.py roomtours.csv --executor ray --ray-address auto
    python data_tools/build_roomtours.py tour.mp4 --set postprocess.limits.min_score=0.1 --set segment.rate=5
    python data_tools/build_roomtours.py roomtours.csv --recipe release --out data/roomtours_release
    python data_tools/build_roomtours.py tour.mp4 --redo postprocess --set postprocess.limits.min_score=0.2
    python data_tools/build_roomtours.py --status --out data/roomtours

Exit code: 0 all well (scenes may have been rejected), 1 some items failed, 2 wrong arguments or something is
missing on this machine, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data_tools.chain import finish, preflight, recorded
from data_tools.chain import options as words
from data_tools.chain.estimate import Estimate
from data_tools.chain.items import STAGES, Places
from data_tools.chain.plan import ChainSettings
from data_tools.chain.recipes import RECIPES
from data_tools.chain.recorded import Settings
from data_tools.chain.removed import clean, removed_area
from data_tools.chain.run import RunOptions, StageTable, dry_run, print_status, run_chain
from data_tools.chain.sources import in_shard, parse_shard, read_videos
from data_tools.chain.stages import FUNCTIONS, read_scenes
from data_tools.chain.trouble import ALIKE
from data_tools.stages.command_line import count, run_main, usage_errors
from data_tools.stages.locks import BusyError
from data_tools.stages.record import StageError
from data_tools.stages.splits import check_split

TABLE = StageTable(FUNCTIONS, read_scenes)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("inputs", nargs="*", metavar="VIDEO_OR_MANIFEST", help="video, folder, http(s) address, or list of videos")
    add("--out", type=Path, default=Path("data/roomtours"), help="the data set (default data/roomtours)")
    add("--work", type=Path, help="what the stages leave (default OUT/_work)")
    add("--recipe", choices=RECIPES, default="", help="settings of all stages (default best); docs/build_roomtours.md")
    add(
        "--backend",
        choices=words.BACKENDS,
        default="auto",
        help="auto: the recipe's, or pi3 with a GPU, else sfm",
    )
    add("--labels", default="auto", help="auto, clip, none, a CSV of time,label, or a folder of <video_id>.csv")
    add("--executor", choices=["local", "ray"], default="local", help="processes here, or a Ray cluster")
    add("--ray-address", default="", help="of a running cluster, such as auto; empty starts one on this machine")
    add("--jobs", type=count, default=0, help="CPU workers (default: by cores and memory)")
    add("--threads", type=count, default=0, help="threads of each worker (default: cores shared out)")
    add("--gpus", default="auto", help="auto (all), a number, or a GPU per slot such as 0,0,1")
    add("--shard", default="", help="i/n: work on one of n parts, by video (job arrays); i from 0 to n-1")
    add("--split", default="train", help="scenes go to OUT/SPLIT (default train)")
    add("--val-share", type=float, default=0.0, help="share of new videos, by name, that goes to OUT/val")
    add("--set", action="append", default=[], metavar="STAGE.FIELD=VALUE", help="a setting of a stage; repeatable")
    add("--deterministic", action="store_true", help="same input, same bytes: seeds, one thread a worker")
    add("--redo", choices=list(STAGES), default="", help="do a stage, and what follows, again with new settings")
    add("--keep-clouds", action="store_true", help="keep the clouds as reconstructed, 150 MB a scene")
    add("--retry-failed", action="store_true", help="try again what failed for good")
    add("--alike", type=count, default=ALIKE, help="equal failures in a row that stop a stage (%(default)s; 0 never)")
    add("--estimate", type=count, default=0, metavar="N", help="do N of the videos; say what all will take")
    add("--dry-run", action="store_true", help="say what would be done")
    add("--status", action="store_true", help="say what is done and why not; runs nothing, needs no input")
    add("--clean", action="store_true", help="delete what was taken out of the data set (WORK/removed); runs nothing")
    add("--no-report", action="store_true", help="do not write OUT/report")
    add("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(argv)
    if not args.inputs and not args.status and not args.clean:
        parser.error("name a video, a folder, an address or a list of videos (or --status, or --clean)")
    return args


def build(args: argparse.Namespace, places: Places) -> tuple[ChainSettings, RunOptions]:
    """Settings of the chain and of the run; says what "auto" became, and which recorded settings change.

    Raises:
        ValueError: a value that makes no sense, or another than the recorded one; one line.
    """
    is_ray = args.executor == "ray"
    if is_ray and args.gpus.isdigit():  # of the cluster, which this machine cannot see
        gpus = [str(number) for number in range(int(args.gpus))]
    else:
        gpus = words.gpu_slots(args.gpus, words.visible_gpus())
    if not 0 <= args.val_share < 1:
        raise ValueError(f"--val-share {args.val_share} is not in [0, 1)")
    check_split(args.split)
    if args.split == "report":
        raise ValueError("--split report: OUT/report holds the report; take another name, such as train")
    stages = stage_settings(args, places, gpus)
    backend, labels = stages.stages["reconstruct"].backend, stages.stages["segment"].labels
    wants = {"reconstruct"} if backend in words.PACKAGES else set()
    wants |= {"segment"} if labels == "clip" else set()
    settings = ChainSettings(
        stages,
        args.split,
        args.val_share,
        {"backend": backend},
        frozenset(wants) if gpus or is_ray else frozenset(),
        stages.stages["segment"].copies if labels == "clip" else 0.0,
        args.keep_clouds,
        args.retry_failed,
    )
    jobs = args.jobs if args.jobs > 0 else words.default_jobs()
    is_deterministic = any(getattr(stage, "deterministic", False) for stage in stages.stages.values())
    threads = args.threads if args.threads > 0 else max(1, words.default_cores() // jobs)
    shard = parse_shard(args.shard) if args.shard else None
    threads = 1 if is_deterministic else threads
    run = RunOptions(args.executor, jobs, gpus, threads, shard, args.ray_address)
    return settings, replace(run, report=not args.no_report, quiet=args.quiet, alike=args.alike)


def stage_settings(args: argparse.Namespace, places: Places, gpus: list[str]) -> Settings:
    """The stages' settings: those on record for this data set, with what the command line says.

    Raises:
        ValueError: a value that makes no sense, or another than the recorded one; one line.
    """
    known = recorded.read_recorded(places.work)
    recipes = recorded.recipes_of(known, args.recipe, args.redo)
    has = {name for name, entry in known.items() if name != args.redo and entry["recipe"] == recipes[name]}
    backend, why = words.choose_backend(
        args.backend, gpus, args.executor == "ray", "reconstruct" in has, recipes["reconstruct"]
    )
    labels, why_labels = words.choose_labels(args.labels, args.set, "segment" in has, recipes["segment"])
    usual = {stage: words.usual_settings(backend, labels, recipe)[stage] for stage, recipe in recipes.items()}
    labels = labels if args.labels != "auto" else "auto"
    changes = [*words.given_changes(usual, args.backend, labels, args.deterministic), *args.set]
    given: dict[str, list[str]] = {}
    for change in changes:
        stage, _, name = change.partition("=")[0].partition(".")
        given.setdefault(stage, []).append(name.partition(".")[0])
    found = recorded.settle(places, recipes, usual, lambda base: words.with_changes(base, changes), given, args.redo)
    backend, labels = found.stages["reconstruct"].backend, found.stages["segment"].labels
    is_off = found.stages["segment"].copies and labels != "clip"
    off = "; near-duplicates are not looked for without CLIP" if is_off else ""
    print(f"backend {backend} ({why}); labels {labels} ({why_labels}){off}")
    for line in recorded.changes_line(places, found):
        print(f"new setting: {line}")
    return found


def main(argv: list[str] | None = None, stages: StageTable = TABLE) -> int:
    """Entry of the command line; returns the exit code. ``stages``: other functions, for tests."""
    args = parse_args(argv)
    return run_main(lambda: _run(args, stages), "build_roomtours", (BusyError, OSError, StageError), args.out)


def _run(args: argparse.Namespace, stages: StageTable) -> int:
    places = Places(args.out.absolute(), (args.work or args.out / "_work").absolute())
    if (args.status or args.clean) and not places.work.is_dir():
        raise StageError(f"{places.work}: no such folder; check --out and --work")
    if args.status:
        print_status(places)
        return 0
    if args.clean:
        print(f"{clean(places)} folders deleted from {removed_area(places)}")
        return 0
    with usage_errors():
        settings, run = build(args, places)
        videos, problems = read_videos(args.inputs, settings.stages.stages["segment"].labels)
        if run.shard is not None:
            videos = in_shard(videos, run.shard)
        for problem in problems:
            print(f"build_roomtours: {problem}", file=sys.stderr)
        estimate = Estimate(videos, places, args.estimate, args.quiet) if args.estimate else None
        videos = estimate.chosen if estimate else videos
        is_one_room = len(videos) == 1 and videos[0].path is not None and run.shard is None and estimate is None
        settings = replace(settings, is_one_room=is_one_room)
        if args.redo == "postprocess":
            print(
                finish.again_line(places, dry_run(videos, places, settings, run, stages).get("reconstruct", 0)), end=""
            )
        if args.dry_run:
            counts = dry_run(videos, places, settings, run, stages)
            print(", ".join(f"{stage}: {count}" for stage, count in counts.items()))
            return 0
    missing = preflight.check_places(places)
    if run.executor == "local" and not missing:
        found = preflight.check_stages(videos, settings.stages.stages)
        wanted = preflight.needed(dry_run(videos, places, settings, run, stages)) if found else set()
        missing = [line for stage, lines in found.items() if stage in wanted for line in lines]
    for line in missing:
        print(f"build_roomtours: {line}", file=sys.stderr)
    if missing:
        return 2
    for line in finish.plan_lines(videos, settings.stages.stages["reconstruct"], min(2, words.default_cores())):
        print(line)
    code = run_chain(videos, places, settings, run, stages)
    if estimate and code in (0, 1):
        print(estimate.text(settings.gpu_stages))
    return code or bool(problems)


if __name__ == "__main__":
    sys.exit(main())

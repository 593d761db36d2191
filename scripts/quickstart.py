"""The quick start: scenes in, a pre-trained tiny LAM3C, its logs, a table and a picture out.

Run through `sh scripts/quickstart.sh`, which sets the environment up first.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["LAM3C_ENGINE"] = "embedded"  # the quick start needs nothing but pip

CONFIG = "lam3c/pretrain-lam3c-v1m1-2-tiny"
STEPS_AN_EPOCH = 8  # at least
CALLER = Path(os.environ.get("LAM3C_CALLER_DIR", ROOT))  # where the command was typed: paths are relative to it


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/quickstart.sh",
        description="Pre-train LAM3C on this machine and show what happened.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        "  sh scripts/quickstart.sh                          16 generated rooms\n"
        "  sh scripts/quickstart.sh --data my_scans/         your own clouds\n"
        "  sh scripts/quickstart.sh --data data/roomtours    scene folders are taken as they are\n"
        "  sh scripts/quickstart.sh --video                  a synthetic flat's video -> scenes -> pre-training\n"
        "  sh scripts/quickstart.sh --video my_tour.mp4      your own videos (some minutes per minute of video)\n"
        "  sh scripts/quickstart.sh --steps 400 --out exp/longer",
    )
    parser.add_argument(
        "--data", type=Path, nargs="+", metavar="PATH", help="clouds, folders of clouds, or one root of scene folders"
    )
    parser.add_argument(
        "--video",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="videos to make rooms of first, without weights and GPU; none named: the walk-through of a synthetic flat",
    )
    parser.add_argument("--steps", type=int, default=120, help="optimiser steps (default: %(default)s)")
    parser.add_argument("--rooms", type=int, default=16, help="rooms to generate without --data (default: %(default)s)")
    parser.add_argument("--noise", default="pi3", help="noise level of generated rooms (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of rooms, weights and views (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="results go here (default: exp/quickstart of this repository)")
    parser.add_argument("--resume", action="store_true", help="continue the last run in --out")
    args = parser.parse_args(argv)
    if args.steps < 2:
        parser.error(f"--steps must be at least 2, got {args.steps}")
    if args.rooms < 2:
        parser.error(f"--rooms must be at least 2, got {args.rooms}")
    if args.data and args.video is not None:
        parser.error("--data and --video exclude each other")
    args.data = [CALLER / path for path in args.data or []]
    args.video = None if args.video is None else [CALLER / path for path in args.video]
    for option, paths in (("--data", args.data), ("--video", args.video or [])):
        for path in paths:
            if not path.exists():
                parser.error(f"{option} {path}: no such file or folder")
    args.out = Path("exp/quickstart") if args.out is None else CALLER / args.out
    return args


def run(command: list[str], passing: tuple[int, ...] = (0,), **environment: str) -> None:
    """Run one stage in the repository's root and end with its exit code unless that is a ``passing`` one.

    Its own error line has been printed when it fails. Ctrl-C and SIGTERM are handed on, so that it can save and end.
    """
    print("==> " + shlex.join(command).replace(sys.executable, "python"), flush=True)
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment})
    stops = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda got, _: process.send_signal(got)) for number in stops}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code not in passing:
        sys.exit(code if code > 0 else 128 - code)


def is_scene_root(folder: Path) -> bool:
    """Whether ``folder`` already holds scene folders, <split>/<scene>/coord.npy."""
    return folder.is_dir() and next(folder.glob("*/*/coord.npy"), None) is not None


def prepare_data(args: argparse.Namespace) -> Path:
    """Return a root of scene folders: given, packaged from clouds, or generated.

    What is made lies in a folder of its own for every input, so that no scenes of another run are trained on.
    """
    if args.video is not None:
        return rooms_of_videos(args)
    if len(args.data) == 1 and is_scene_root(args.data[0]):
        return args.data[0]
    if args.data:
        clouds = [str(path.resolve()) for path in args.data]
        root = args.out / "data" / f"clouds-{name_of(clouds)}"
        # 1: some clouds could not be used; they have been named, and the others are trained on
        run([sys.executable, "data_tools/package.py", *clouds, "--out", str(root)], passing=(0, 1))
        return root
    root = args.out / "data" / f"rooms-{args.rooms}-{args.noise}-seed{args.seed}"
    generate = [sys.executable, "-m", "data_tools.synthetic.rooms.generate", "--out", str(root)]
    options = ["--num", args.rooms, "--seed", args.seed, "--noise", args.noise, "--workers", os.cpu_count() or 1]
    run([*generate, *map(str, options)])
    return root


def name_of(paths: list[str]) -> str:
    """Eight digits that tell inputs apart."""
    return f"{zlib.crc32(os.fsencode(chr(0).join(paths))):08x}"


def rooms_of_videos(args: argparse.Namespace) -> Path:
    """Video -> scenes -> clouds -> scene folders, on this machine alone; its report is in the folder returned."""
    chain = [sys.executable, "data_tools/build_roomtours.py", "--backend", "sfm"]
    if args.video:
        videos = [str(path.resolve()) for path in args.video]
        root = args.out / "data" / f"videos-{name_of(videos)}"
        # labels none: cuts alone part the scenes; with CLIP weights run build_roomtours.py yourself
        run([*chain, *videos, "--labels", "none", "--out", str(root)], passing=(0, 1))
        return root
    folder = args.out / "data" / f"walkthrough-seed{args.seed}"
    root = args.out / "data" / f"videos-walkthrough-seed{args.seed}"
    film = [sys.executable, "data_tools/synthetic/walkthrough/film.py", "--out", str(folder), "--seed", str(args.seed)]
    run([*film, "--fps", "15", "--jobs", str(os.cpu_count() or 1)])
    labels = str(folder / "labels.csv")  # the synthetic flat knows which room each frame shows
    run([*chain, str(folder / "walkthrough.mp4"), "--labels", labels, "--out", str(root)], passing=(0, 1))
    return root


def count_scenes(root: Path) -> int:
    """Scene folders under <root>/train."""
    return sum(1 for _ in (root / "train").glob("*/coord.npy"))


def run_folder(out: Path, is_resumed: bool) -> Path:
    """``run``, then ``run-2``, ``run-3``: a new one for a new run, the last one to resume."""
    from lam3c_plugin.embedded.engine.defaults import holds_run

    number = 1
    while holds_run(ROOT / _numbered(out / "run", number)):
        number += 1
    if is_resumed:
        return _numbered(out / "run", max(1, number - 1))
    folder = _numbered(out / "run", number)
    if number > 1:
        print(f"==> {_numbered(out / 'run', number - 1)} stays; this run goes to {folder}", flush=True)
    return folder


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.name}-{number}")


def train(args: argparse.Namespace, data_root: Path) -> Path:
    """Train the tiny config on the embedded engine; return the run's folder."""
    from lam3c_plugin.embedded.config import Config

    batch_size = Config.fromfile(str(ROOT / "configs" / f"{CONFIG}.py")).batch_size
    scenes = count_scenes(data_root)
    if scenes == 0:
        made_by = "build_roomtours" if args.video is not None else "package"
        sys.exit(
            f"error: {data_root}/train holds no scene with a coord.npy; see `python data_tools/{made_by}.py --help`"
        )
    loop = math.ceil(STEPS_AN_EPOCH * batch_size / scenes)  # a checkpoint an epoch: not one a step of few scenes
    epochs = math.ceil(args.steps / max(scenes * loop // batch_size, 1))
    run_dir = run_folder(args.out, args.resume)
    resume = run_dir / "model/model_last.pth"
    options = [
        f"save_path={str(run_dir)!r}",  # quoted: a comma in a path makes no list
        f"data.train.data_root={str(data_root)!r}",
        f"seed={args.seed}",
        f"epoch={epochs * loop}",
        f"eval_epoch={epochs}",
        f"max_steps={args.steps}",
    ]
    command = [sys.executable, "-m", "lam3c_plugin.embedded.train", "--config-file", f"configs/{CONFIG}.py"]
    if args.resume and resume.is_file():
        options += ["resume=True", f"weight={str(resume)!r}"]
    elif args.resume and not any((ROOT / run_dir / "model").glob("*.pth")):  # stopped before its first checkpoint
        command.append("--overwrite")
    run([*command, "--num-gpus", "1", "--options", *options], LAM3C_RESUME_COMMAND=resume_command(args))
    return run_dir


def resume_command(args: argparse.Namespace) -> str:
    """What to type to resume a stopped run."""
    given = ["--data", *map(str, args.data)] if args.data else []
    given += ["--video", *map(str, args.video)] if args.video is not None else []
    made = [] if given else ["--rooms", str(args.rooms), "--noise", args.noise]
    run_again = [*given, *made, "--seed", str(args.seed), "--steps", str(args.steps), "--out", str(args.out)]
    return shlex.join(["sh", "scripts/quickstart.sh", *run_again, "--resume"])


def main(argv: list[str] | None = None) -> int:
    """Prepare data, train, and print what came of it."""
    args = parse_arguments(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    data_root = prepare_data(args)
    started = time.perf_counter()
    run_dir = train(args, data_root)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak_gb = peak / (1 << 30 if sys.platform == "darwin" else 1 << 20)

    from lam3c_plugin.summary import draw_summary, print_summary

    healthy = print_summary(run_dir, args.steps, seconds, peak_gb)
    name = run_dir.name.replace("run", "quickstart", 1)  # a picture a run
    picture = draw_summary(run_dir, data_root, args.out / f"{name}.png")
    print(f"\npicture      {picture}")
    print(f"checkpoint   {run_dir / 'model/model_last.pth'}")
    if (data_root / "report/index.html").is_file():
        print(f"rooms        {data_root / 'report/index.html'}   (how the videos became rooms)")
    print(f"logs         {run_dir}   (tensorboard --logdir {run_dir})")
    if not os.environ.get("VIRTUAL_ENV") and not os.environ.get("CONDA_PREFIX"):
        print("first        . .venv/bin/activate   (in each new shell, for `lam3c` and `python data_tools/...`)")
    print(f"look         lam3c pca CLOUD --checkpoint {run_dir / 'model/model_last.pth'} --view")
    print(f"next         sh scripts/train.sh -c {CONFIG.replace('2-tiny', '0-base')}   (README: the first real run)")
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())

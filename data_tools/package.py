"""Package clouds that people have as scene folders that pre-training reads: one command.

Checks and mends, and says what it found: points that are not finite, repeats, far outliers, the unit, which way is up,
the colour range, missing normals. What cannot be used is recorded with its reason, and the rest goes on.

    python data_tools/package.py scans/ --out data/roomtours
    python data_tools/package.py room.ply flat.pcd "my scans/"*.laz --out data/roomtours --jobs 4 --val-share 0.05
    python data_tools/package.py export_mm.xyz --unit mm --up y --out data/roomtours --overwrite
    python data_tools/package.py pi3_clouds/ --out data/roomtours --license pi3
    python data_tools/package.py --shards 2GB data/roomtours
    python data_tools/package.py --upload hf://datasets/USER/NAME data/roomtours-shards

--shards writes the scenes of a data set as tar files to FOLDER-shards, which RoomToursDataset reads as they are;
--upload sends a folder to the Hugging Face Hub, with a card that names the licence. Both resume, and both together
write, then send. The upload is tested against a server on this machine; the hub itself was never reached.

A folder is searched for clouds (.ply .pcd .npz .npy .xyz .txt .csv .las .laz) and meshes (.obj .stl .glb .off);
a folder with coord.npy is one scene.
What is done already with the same settings is skipped; the run may be killed at any moment and started again.
Exit code: 0 all well, 1 some clouds failed (see package_failures.json), 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data_tools.packaging.card import LICENSES
from data_tools.packaging.clouds import UNITS, UPS, PackageSettings, package_cloud
from data_tools.packaging.run import find_clouds, print_table, run_all
from data_tools.packaging.shards import check_others, list_scenes, parse_size, run_shards
from data_tools.packaging.upload import parse_address, upload
from data_tools.stages.command_line import count, run_main, usage_errors
from data_tools.stages.record import StageError
from data_tools.stages.run import print_records
from data_tools.stages.splits import check_split

__all__ = ["PackageSettings", "main", "package_cloud"]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clouds", nargs="+", type=Path, metavar="CLOUD_OR_FOLDER")
    parser.add_argument("--out", type=Path, help="default data/roomtours; with --shards FOLDER-shards")
    parser.add_argument("--shards", metavar="SIZE", help="write a data set's FOLDER as tar files of 2GB, 500MB, ...")
    parser.add_argument("--upload", metavar="ADDRESS", help="send FOLDER, or its tar files, to hf://datasets/USER/NAME")
    parser.add_argument("--split", default="train", help="scenes go to OUT/SPLIT/NAME (default train)")
    parser.add_argument("--val-share", type=float, default=0.0, help="share of new scenes, by name, to OUT/val")
    parser.add_argument("--unit", choices=UNITS, default="auto", help="unit of the files' coordinates (default: guess)")
    parser.add_argument(
        "--up", choices=UPS, default="auto", help="up axis of the files (default: from floor and walls)"
    )
    parser.add_argument(
        "--normals",
        choices=["auto", "estimate", "keep", "none"],
        default="auto",
        help="auto: the file's, estimated where it has none; estimate: always; keep: the file's or none; none",
    )
    parser.add_argument("--grid", type=float, default=0.0, help="thin out to one point per cube of this size in metres")
    parser.add_argument(
        "--labels", action="store_true", help="write segment.npy / instance.npy where the file has them"
    )
    parser.add_argument("--float16-normals", action="store_true", help="half the size on disk")
    parser.add_argument("--license", default="", help=f"text for the dataset card, or one of: {', '.join(LICENSES)}")
    parser.add_argument("--overwrite", action="store_true", help="do again what is done")
    parser.add_argument("--jobs", type=count, default=1, help="processes (default 1)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Entry of the command line; returns the exit code."""
    args = parse_args(argv)
    run = _pack if args.shards or args.upload else _run
    return run_main(lambda: run(args), "package", (OSError, StageError), args.out)


def _pack(args: argparse.Namespace) -> int:
    """A data set to tar files, or to the hub, or both."""
    note, folder, code = LICENSES.get(args.license.lower(), args.license), args.clouds[0], 0
    with usage_errors():
        if len(args.clouds) > 1 or not folder.is_dir():
            raise ValueError(f"{args.clouds[-1]}: --shards and --upload take one folder, a data set's")
        if args.upload:
            parse_address(args.upload)
        size = parse_size(args.shards) if args.shards else 0
        out = args.out or folder.resolve().with_name(f"{folder.resolve().name}-shards")
        if folder.resolve() in (out.resolve(), *out.resolve().parents):
            raise ValueError(f"{out}: the tar files need a folder of their own; give another --out")
        scenes = list_scenes(folder) if args.shards else {}
        check_others(out, folder, scenes)
    if args.shards:
        code = print_records(run_shards(folder, out, scenes, size, max(1, args.jobs), note), "tar")
        folder = out
    if args.upload and not code:
        print(upload(folder, args.upload, note))
    return code


def _run(args: argparse.Namespace) -> int:
    out = args.out or Path("data/roomtours")
    with usage_errors():
        settings = PackageSettings(
            unit=args.unit,
            up=args.up,
            normals=args.normals,
            labels=args.labels,
            grid=args.grid,
            normal_dtype="float16" if args.float16_normals else "float32",
        )
        if not 0 <= args.val_share < 1:
            raise ValueError(f"--val-share {args.val_share} is not in [0, 1)")
        check_split(args.split)
        found = find_clouds(args.clouds, out)
    license_note = LICENSES.get(args.license.lower(), args.license)
    jobs = max(1, args.jobs)
    records = run_all(found, out, settings, args.split, args.val_share, jobs, args.overwrite, license_note)
    return print_table(records)


if __name__ == "__main__":
    sys.exit(main())

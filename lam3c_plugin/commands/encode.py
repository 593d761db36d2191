"""`lam3c encode`: point clouds in, per-point features out (docs/encode.md)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lam3c_plugin.commands.shared.options import add_page_options
from lam3c_plugin.errors import ConfigError


def add_parser(subparsers: Any) -> None:
    """Add ``encode`` to the command line."""
    parser = subparsers.add_parser(
        "encode",
        help="per-point features of point clouds",
        description="Encode point clouds (.ply .pcd .npz .npy .xyz .txt .csv .las .laz), folders of them and scene "
        "folders. Every cloud becomes a file in DIR; DIR/encode.jsonl says how each went. What is done is skipped, "
        "what fails is recorded and the rest goes on (exit code 1).",
    )
    parser.add_argument("inputs", metavar="IN", nargs="+", type=Path, help="cloud file, folder of clouds, scene folder")
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument("--checkpoint", metavar="NAME_OR_FILE", help="zoo name, checkpoint file or folder")
    weights.add_argument("--random", metavar="SIZE", help="random weights of size tiny, base or large, to try it out")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights (default: 0)")
    parser.add_argument("--teacher", action="store_true", help="of a training checkpoint the teacher, not the student")
    parser.add_argument("--format", choices=("npz", "ply"), default="npz", help="features, or points in PCA colours")
    parser.add_argument(
        "--per", choices=("point", "cell"), default="point", help="npz: a row a point, or a row a cell and its points"
    )
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="of the features on disk")
    parser.add_argument("--level", default="full", help="stages joined: full (default), or 0 (coarsest) to 4")
    parser.add_argument("--grid-size", type=float, default=0.02, help="metres (default: 0.02, as Base and Large)")
    parser.add_argument(
        "--chunk", default="auto", help="cells a pass may take: a number, auto (by memory; default), or none (one pass)"
    )
    parser.add_argument("--normals", choices=("estimate", "zero"), default="estimate", help="for files without normals")
    parser.add_argument("--ignore-normals", action="store_true", help="do not use normals from the files")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument("--overwrite", action="store_true", help="do again what is done")
    add_page_options(parser.add_argument_group("view: NAME.html and NAME.png, coloured by principal components"))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Encode what the command line names; 1 if any file failed."""
    from lam3c_plugin.encode.api import Encoder, load
    from lam3c_plugin.encode.files import FileSettings, encode_files, find_items

    items = find_items(args.inputs, args.format, args.out)  # before anything is downloaded
    if not 0 < args.grid_size < float("inf"):
        raise ConfigError(f"--grid-size {args.grid_size}: give metres, for example 0.02")
    level, chunk = parse_level(args.level), parse_chunk(args.chunk)
    if args.random:
        encoder = Encoder.random(args.random, args.seed, args.device)
    else:
        encoder = load(args.checkpoint, device=args.device, student=not args.teacher)
    settings = FileSettings(
        weights=encoder.fingerprint(),
        source=encoder.info.source,
        level=level,
        grid_size=args.grid_size,
        chunk=chunk,
        normals=args.normals,
        dtype=args.dtype,
        ignore_normals=args.ignore_normals,
        format=args.format,
        per=args.per,
    )
    print(f"{encoder.info.source}: {encoder.channels(level)} channels on {encoder.device}")  # a wrong level ends here
    for note in encoder.info.notes:
        print(f"note: {note}")
    counts = encode_files(
        encoder, items, args.out, settings, overwrite=args.overwrite, progress=_bar, say=_say_beside_bar
    )
    print(f"{args.out}: {counts['done']} encoded, {counts['skipped']} there already, {counts['failed']} failed")
    if args.view:
        _view(args, items)
    return 1 if counts["failed"] else 0


def _view(args: argparse.Namespace, items: Sequence[Any]) -> None:
    """Pages of everything that is encoded now, also of what was there already."""
    from lam3c_plugin.commands.shared.encoded import show_encoded
    from lam3c_plugin.encode.files import read_record

    record = read_record(args.out)
    for item in items:
        if record.get(item.name, {}).get("ok"):
            page = {"size": args.size, "max_points": args.max_points, "open_it": not args.no_open}
            print("; ".join(map(str, show_encoded(item.source, args.out / item.name, **page))))


def parse_level(text: str) -> int | str:
    """``--level`` as :meth:`Encoder.encode` takes it."""
    return int(text) if text.lstrip("-").isdigit() else text


def parse_chunk(text: str) -> int | str | None:
    """``--chunk`` as :meth:`Encoder.encode` takes it.

    Raises:
        ConfigError: neither a number of cells nor auto or none.
    """
    if text in ("auto", "none"):
        return None if text == "none" else text
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"--chunk {text}: give auto, none, or a number of cells, for example 65536")
    return int(text)


def _bar(items: Sequence[Any]) -> Iterator[Any]:
    from tqdm import tqdm

    with tqdm(items, unit="cloud", file=sys.stderr, disable=len(items) < 2 or None) as bar:
        for item in bar:
            bar.set_description(item.name[-40:])
            yield item


def _say_beside_bar(text: str) -> None:
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)

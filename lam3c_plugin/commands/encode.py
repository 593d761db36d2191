"""`lam3c encode`: point clouds in, per-point features out (docs/encode.md)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lam3c_plugin.commands.shared.options import add_encoder_options, add_page_options, parse_chunk, parse_level


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
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the results")
    parser.add_argument("--format", choices=("npz", "ply"), default="npz", help="features, or points in PCA colours")
    parser.add_argument(
        "--per",
        choices=("point", "cell"),
        default="point",
        help="npz: one row per point, or one row per cell and the rows of its points",
    )
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="of the features on disk")
    parser.add_argument("--ignore-normals", action="store_true", help="do not use normals from the files")
    parser.add_argument("--overwrite", action="store_true", help="do again what is done")
    add_encoder_options(parser)
    add_page_options(parser.add_argument_group("view: NAME.html and NAME.png, coloured by principal components"))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Encode what the command line names; 1 if any file failed."""
    from lam3c_plugin.commands.shared.files import say_made
    from lam3c_plugin.commands.shared.inputs import open_encoder
    from lam3c_plugin.encode.files import FileSettings, encode_files, find_items

    items = find_items(args.inputs, args.format, args.out)  # before anything is downloaded
    encoder, level = open_encoder(args), parse_level(args.level)
    settings = FileSettings(
        weights=encoder.fingerprint(),
        source=encoder.info.source,
        level=level,
        grid_size=args.grid_size,
        chunk=parse_chunk(args.chunk),
        normals=args.normals,
        dtype=args.dtype,
        ignore_normals=args.ignore_normals,
        no_level=args.no_level,
        format=args.format,
        per=args.per,
    )
    counts = encode_files(
        encoder, items, args.out, settings, overwrite=args.overwrite, progress=_bar, say=_say_beside_bar
    )
    if args.view:
        _view(args, items)
    made = f"{args.out}: {counts['done']} encoded, {counts['skipped']} there already, {counts['failed']} failed"
    there = [item.name for item in items if (args.out / item.name).is_file()]
    say_made(made, _next(args, there[0]) if there else "mend what is named above, and start it again")
    return 1 if counts["failed"] else 0


def _next(args: argparse.Namespace, name: str) -> str:
    if args.format == "ply":
        return f"{args.out / name} opens in any viewer of point clouds"
    return f'numpy.load("{args.out / name}")["feat"] has the features'


def _view(args: argparse.Namespace, items: Sequence[Any]) -> None:
    """Pages of everything that is encoded now, also of what was there already."""
    from lam3c_plugin.commands.shared.encoded import show_encoded
    from lam3c_plugin.encode.files import read_record

    record = read_record(args.out)
    for item in items:
        if record.get(item.name, {}).get("ok"):
            print("; ".join(map(str, show_encoded(args, item.source, args.out / item.name))))


def _bar(items: Sequence[Any]) -> Iterator[Any]:
    from tqdm import tqdm

    with tqdm(items, unit="cloud", file=sys.stderr, disable=len(items) < 2 or None) as bar:
        for item in bar:
            bar.set_description(item.name[-40:])
            yield item


def _say_beside_bar(text: str) -> None:
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)

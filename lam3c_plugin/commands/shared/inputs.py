"""What the commands over features share: the encoder asked for, reading clouds, a cloud's features at its cells."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lam3c_plugin.commands.shared.options import parse_chunk, parse_level
from lam3c_plugin.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lam3c_plugin.encode import Encoded, Encoder
    from lam3c_plugin.encode.upright import Input


def open_encoder(args: argparse.Namespace) -> Encoder:
    """The encoder that the options ask for, said in one line; ``args.grid_size`` becomes the cell that it takes.

    Raises:
        ConfigError: both a checkpoint and ``--random``; a wrong level, chunk or grid size.
        CheckpointError: the checkpoint cannot be used.
    """
    import lam3c_plugin.encode as encode
    from lam3c_plugin.encode.api import other_grid

    parse_chunk(args.chunk)
    if args.grid_size is not None and not 0 < args.grid_size < float("inf"):
        raise ConfigError(f"--grid-size {args.grid_size}: give metres, for example 0.02")
    if args.checkpoint and args.random:
        raise ConfigError("--checkpoint and --random exclude each other; give one of them")
    if args.random:
        encoder = encode.Encoder.random(args.random, args.seed, device=args.device)
    else:
        encoder = encode.load(args.checkpoint, device=args.device, student=not args.teacher)
    encoder.channels(parse_level(args.level))  # a wrong level ends here, not at the first cloud
    own = encoder.info.grid_size
    if args.grid_size is not None and own is not None and args.grid_size != own:
        print(f"warning: --grid-size {args.grid_size:g}: {other_grid(own)}", file=sys.stderr)
    encoder.grid_size = args.grid_size = args.grid_size or encoder.grid_size
    default = "" if args.checkpoint or args.random else "no --checkpoint given: the small weights of this package, "
    print(f"{default}{encoder!r}")
    for note in encoder.info.notes:
        print(f"note: {note}")
    return encoder


def for_each(args: argparse.Namespace, paths: Sequence[Path], work: Callable[[Input, str], None]) -> int:
    """Call ``work(item, name)`` for every input; one that cannot be used is said, and the rest goes on.

    Args:
        args: the command line's.
        paths: of the inputs.
        work: takes an input and the stem for its results.

    Returns:
        exit code: 0, or 1 where an input of several failed.

    Raises:
        DataError: the only input cannot be used.
    """
    from lam3c_plugin.encode.files import naming, read_input
    from lam3c_plugin.encode.upright import upright

    code = 0
    noted: list[tuple[str, list[str]]] = []
    for path, name in zip(paths, output_names(paths), strict=True):
        try:
            with naming(path):
                cloud = read_input(path)
                noted.append((name, cloud.notes))
                work(upright(cloud, args.no_level), name)
        except DataError as error:
            if len(paths) == 1:
                raise
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            code = 1
    say_notes(noted)
    return code


def say_notes(by_cloud: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Print what the readers of clouds noted, a line a kind, on stderr."""
    from data_tools.clouds.notes import grouped_notes

    for line in grouped_notes(by_cloud):
        print(f"note: {line}", file=sys.stderr)


def input_paths(given: Sequence[Path], out: Path | None = None) -> list[Path]:
    """The clouds that files and folders stand for, but for those in ``out``, the folder of results.

    Raises:
        DataError: a path does not exist, or a folder holds no cloud.
    """
    from lam3c_plugin.encode.files import inputs_of

    return [path for inside in inputs_of(given, out).values() for path in inside]


def output_names(paths: Sequence[Path]) -> list[str]:
    """A file name's stem for each input, no two alike."""
    names: list[str] = []
    for path in paths:
        stem = path.name if path.is_dir() else path.stem
        stem = re.sub(r"[^\w.+-]+", "_", stem) or "cloud"
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}_{number}", number + 1
        names.append(name)
    return names


def cell_features(encoder: Encoder, item: Input, args: argparse.Namespace) -> Encoded:
    """An input's features at one point per cell, encoded as the options say.

    Raises:
        PointCloudError: (a ``DataError``) the cloud or an option cannot be used.
    """
    from lam3c_plugin.encode.files import full_coord

    return encoder.encode_cells(
        full_coord(item.level),
        item.level.color,
        item.level.normal,
        level=parse_level(args.level),
        chunk=parse_chunk(args.chunk),
        normals=args.normals,
        color_range=255,
    )

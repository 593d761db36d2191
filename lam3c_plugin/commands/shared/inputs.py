"""What the commands over features share: the encoder asked for, reading clouds, a cloud's features at its cells."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lam3c_plugin.commands.encode import parse_chunk, parse_level
from lam3c_plugin.errors import ConfigError, DataError

if TYPE_CHECKING:
    from data_tools.clouds.io import Cloud
    from lam3c_plugin.encode import Encoder


def open_encoder(args: argparse.Namespace) -> Encoder:
    """The encoder that the options ask for.

    Raises:
        ConfigError: neither a checkpoint nor ``--random``, or both; a wrong level or chunk.
        CheckpointError: the checkpoint cannot be used.
    """
    import lam3c_plugin.encode as encode

    if args.checkpoint and args.random:
        raise ConfigError("--checkpoint and --random exclude each other; give one of them")
    if not args.checkpoint and not args.random:
        raise ConfigError(
            "give --checkpoint NAME_OR_FILE (`lam3c zoo list` has names) or --random tiny to try it without weights"
        )
    if args.random:
        encoder = encode.Encoder.random(args.random, args.seed, device=args.device)
    else:
        encoder = encode.load(args.checkpoint, device=args.device, student=not args.teacher)
    encoder.channels(parse_level(args.level))  # a wrong level ends here, not at the first cloud
    parse_chunk(args.chunk)
    return encoder


def for_each(paths: Sequence[Path], work: Callable[[Path, str], None]) -> int:
    """Calls ``work(path, name)`` for every input; one that cannot be used is said, and the rest goes on.

    Args:
        paths: of the inputs.
        work: takes an input and the stem for its results.

    Returns:
        exit code: 0, or 1 where an input of several failed.

    Raises:
        DataError: the only input cannot be used.
    """
    code = 0
    for path, name in zip(paths, output_names(paths), strict=True):
        try:
            with naming(path):
                work(path, name)
        except DataError as error:
            if len(paths) == 1:
                raise
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            code = 1
    return code


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the input's name in front of a ``DataError`` that has it not."""
    try:
        yield
    except DataError as error:
        if str(path) in str(error):
            raise
        raise DataError(f"{path}: {error}") from error


def read_input(path: str | Path) -> Cloud:
    """A cloud of any file format, or of a scene folder, without points that are not finite.

    Raises:
        DataError: it cannot be read, or has no finite point.
    """
    from data_tools.clouds.io import CloudError, drop_not_finite, read_cloud

    try:
        cloud, dropped = drop_not_finite(read_cloud(path))
    except CloudError as error:
        raise DataError(str(error)) from error
    if not len(cloud):
        raise DataError(f"{path}: none of its points has finite coordinates; export it again")
    if dropped:
        cloud.notes.append(f"{dropped} points that are not finite left out")
    return cloud


def input_paths(given: list[Path], out: Path | None = None) -> list[Path]:
    """Files and scene folders as they are; another folder stands for the clouds and scenes in it and below it.

    Args:
        given: paths.
        out: folder of results, which are no inputs.

    Raises:
        DataError: a path does not exist, or a folder holds no cloud.
    """
    from data_tools.clouds.io import CLOUD_SUFFIXES
    from lam3c_plugin.encode.files import search

    found: list[Path] = []
    for path in given:
        if not path.exists():
            raise DataError(f"{path} does not exist; give a cloud file ({' '.join(CLOUD_SUFFIXES)}) or a folder")
        if not path.is_dir() or (path / "coord.npy").is_file():
            found.append(path)
            continue
        inside = list(search(path, out))
        if not inside:
            raise DataError(f"{path} holds neither cloud files nor scene folders (with coord.npy)")
        found += inside
    return found


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


@dataclass
class CellFeatures:
    """A cloud's features at one point a cell: ``feat`` (M, C) and ``inverse`` (N,), the cell of each point."""

    feat: np.ndarray
    inverse: np.ndarray
    rows: np.ndarray


def cell_features(encoder: Any, cloud: Cloud, args: argparse.Namespace, level: int | str | None = None) -> CellFeatures:
    """Encode a cloud as the options say.

    Raises:
        PointCloudError: (a ``DataError``) the cloud or an option cannot be used.
    """
    from lam3c_plugin.encode.files import full_coord

    encoded = encoder.encode_cells(
        full_coord(cloud),
        cloud.color,
        cloud.normal,
        level=parse_level(args.level) if level is None else level,
        grid_size=args.grid_size,
        chunk=parse_chunk(args.chunk),
        normals=args.normals,
        color_range=255,
    )
    return CellFeatures(*(np.asarray(value) for value in (encoded.feat, encoded.inverse, encoded.rows)))

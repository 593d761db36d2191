"""Many clouds on disk to as many files of features: what to read, where to write, what is done already.

``encode.jsonl`` in the output folder has a line for every file that was tried: what it was made of, or why it failed.
A file is written under a temporary name and renamed, so that under its own name it is whole. A second run skips what
the last line of a file says was made from the same input with the same settings.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.clouds.find import clouds_of
from data_tools.clouds.io import CLOUD_SUFFIXES, Cloud, CloudError, read_cloud, usable_cloud, write_ply
from data_tools.clouds.notes import grouped_notes
from data_tools.drawing.pictures import to_uint8
from data_tools.stages.files import remove_leftovers, replacing
from data_tools.stages.lines import append_lines, read_lines
from lam3c_plugin.analysis.components import pca_colors
from lam3c_plugin.encode.api import Encoder
from lam3c_plugin.encode.upright import upright
from lam3c_plugin.errors import DataError, Lam3cError

RECORD = "encode.jsonl"
FORMATS = ("npz", "ply")


@dataclass(frozen=True)
class FileSettings:
    """What decides the bytes of an output, with its input.

    Attributes:
        weights: the encoder's fingerprint.
        source: where it is from, in words; for the reader alone.
        level: see `Encoder.encode`.
        grid_size: see `Encoder.encode`.
        chunk: see `Encoder.encode`.
        normals: see `Encoder.encode`.
        dtype: see `Encoder.encode`.
        ignore_normals: estimate (or zero) them although the file has some.
        no_level: take z as up, also where a cloud lies on its side.
        format: "npz" or "ply" (the points, coloured by the features' principal components).
        per: "point": a row of features for each point; "cell": for each cell, with each point's cell beside it.
    """

    weights: str
    source: str = ""
    level: int | str = "full"
    grid_size: float = 0.02
    chunk: int | str | None = "auto"
    normals: str = "estimate"
    dtype: str = "float16"
    ignore_normals: bool = False
    no_level: bool = False
    format: str = "npz"
    per: str = "point"


@dataclass(frozen=True)
class Item:
    """An input, a cloud file or a scene folder, and the name of its output below the output folder."""

    source: Path
    name: str


def inputs_of(given: Sequence[Path], out: Path | None = None) -> dict[Path, list[Path]]:
    """The clouds that files and folders stand for (`data_tools.clouds.find.clouds_of`).

    Raises:
        DataError: a path does not exist, or a folder cannot be read or holds no cloud.
    """
    try:
        found = clouds_of(given, out)
    except CloudError as error:
        raise DataError(str(error)) from error
    for path, inside in found.items():
        if not path.exists():
            raise DataError(f"{path} does not exist; give a cloud file ({' '.join(CLOUD_SUFFIXES)}) or a folder")
        if not inside:
            raise DataError(f"{path} holds neither cloud files ({' '.join(CLOUD_SUFFIXES)}) nor scene folders")
    return found


def find_items(inputs: Sequence[Path], suffix: str, out: Path | None = None) -> list[Item]:
    """The clouds named by files and folders, sorted within a folder; outputs keep their places below it.

    Raises:
        DataError: see `inputs_of`; or two inputs would have one output.
    """
    items = [
        Item(path, f"{_name(path, given if path != given else _absolute(given).parent)}.{suffix}")
        for given, inside in inputs_of(inputs, out).items()
        for path in inside
    ]
    seen: dict[str, Path] = {}
    for item in items:
        if item.name in seen:
            raise DataError(
                f"{seen[item.name]} and {item.source} would both become {item.name}: rename one, or run twice"
            )
        seen[item.name] = item.source
    return items


def _name(path: Path, root: Path) -> str:
    path = _absolute(path)
    stem = path if path.is_dir() else path.with_suffix("")
    return stem.relative_to(_absolute(root)).as_posix()


def _absolute(path: Path) -> Path:
    """The path without ``..``; links stay, for data is often linked to from elsewhere."""
    return Path(os.path.abspath(path))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the input's name in front of a ``DataError`` that has it not."""
    try:
        yield
    except DataError as error:
        if str(path) in str(error):
            raise
        raise DataError(f"{path}: {error}") from error


def read_input(path: str | Path) -> Cloud:
    """A cloud of any file format, or of a scene folder, without points that are not finite; ``notes`` says how many.

    Raises:
        DataError: it cannot be read, or its points are no surface.
    """
    try:
        return usable_cloud(read_cloud(path))
    except CloudError as error:
        raise DataError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def digest_of(item: Item, settings: FileSettings) -> str:
    """Changes when the settings do, or the size or time of the input."""
    files = [item.source, *sorted(item.source.glob("*.npy"))] if item.source.is_dir() else [item.source]
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    chosen = {key: value for key, value in asdict(settings).items() if key != "source"}
    text = json.dumps([chosen, stats], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def read_record(out: Path) -> dict[str, dict[str, Any]]:
    """The last line about each output; a line cut off by a kill is passed over."""
    return {entry["output"]: entry for entry in read_lines(out / RECORD) if "output" in entry}


def encode_files(
    encoder: Encoder,
    items: Sequence[Item],
    out: Path,
    settings: FileSettings,
    *,
    overwrite: bool = False,
    progress: Callable[[Sequence[Item]], Iterator[Item]] = iter,
    say: Callable[[str], None] = print,
) -> dict[str, int]:
    """Encode every item that is not done; a file that fails is recorded and the rest goes on.

    What the readers noted is in the record, and said once per kind at the end.

    Returns:
        how many were "done", "skipped" and "failed".

    Raises:
        DataError: the output folder cannot be written to.
    """
    counts = {"done": 0, "skipped": 0, "failed": 0}
    noted: list[tuple[str, list[str]]] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        record = read_record(out)
        for item in progress(items):
            digest, before = digest_of(item, settings), record.get(item.name, {})
            if not overwrite and before.get("digest") == digest and before.get("ok") and (out / item.name).is_file():
                counts["skipped"] += 1
                continue
            entry: dict[str, Any] = {"output": item.name, "input": str(item.source), "digest": digest}
            start = time.perf_counter()
            try:
                entry.update(ok=True, **encode_one(encoder, item, out / item.name, settings))
            except (Lam3cError, MemoryError) as error:
                reason = " ".join(str(error).split()) or "out of memory: give --chunk, or thin the cloud out"
                entry.update(ok=False, error=reason)
                say(f"failed: {reason if str(item.source) in reason else f'{item.source}: {reason}'}")
            noted.append((item.name, entry.get("notes", [])))
            entry["seconds"] = round(time.perf_counter() - start, 2)
            counts["done" if entry["ok"] else "failed"] += 1
            append_lines(out / RECORD, [entry])
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error.strerror or error}; what is done there is whole") from error
    for line in grouped_notes(noted):
        say(f"note: {line}")
    return counts


def encode_one(encoder: Encoder, item: Item, path: Path, settings: FileSettings) -> dict[str, Any]:
    """Read, encode, write one cloud; returns what the record says of it.

    Raises:
        DataError: the cloud cannot be used.
    """
    cloud = read_input(item.source)
    level = upright(cloud, settings.no_level).level
    normal = None if settings.ignore_normals else level.normal
    result = encoder.encode_cells(
        full_coord(level),
        level.color,
        normal,
        level=settings.level,
        grid_size=settings.grid_size,
        chunk=settings.chunk,
        normals=settings.normals,
        color_range=255,
        dtype="float32" if settings.format == "ply" else settings.dtype,
    )
    facts: dict[str, Any] = {
        "points": len(cloud),
        "cells": len(result.feat),
        "channels": int(result.feat.shape[1]),
        "color": cloud.color is not None,
        "normal": "file" if normal is not None else settings.normals,
        "pieces": list(result.pieces),
        "notes": cloud.notes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, f".{glob.escape(path.stem)}~*{path.suffix}")
    if settings.format == "ply":
        colors = to_uint8(pca_colors(result.feat))[result.inverse]
        write_ply(path, Cloud(cloud.coord, colors, cloud.normal, segment=cloud.segment, origin=cloud.origin))
    else:
        _write_npz(path, cloud, result.feat, result.rows, result.inverse, {**asdict(settings), **facts})
    return facts


def full_coord(cloud: Cloud) -> np.ndarray:
    """The file's coordinates (N, 3): float64 where they are far from the origin, which float32 could not hold."""
    return cloud.coord.astype(np.float64) + cloud.origin if cloud.origin.any() else cloud.coord


def _write_npz(
    path: Path, cloud: Cloud, feat: np.ndarray, rows: np.ndarray, inverse: np.ndarray, meta: Mapping[str, Any]
) -> None:
    arrays: dict[str, np.ndarray] = {"coord": cloud.coord, "origin": cloud.origin}
    if meta["per"] == "cell":
        arrays.update(feat=feat, rows=rows, inverse=inverse.astype(np.int32))
    else:
        arrays["feat"] = feat[inverse]
    if cloud.segment is not None:
        arrays["segment"] = cloud.segment
    arrays["meta"] = np.array(json.dumps(dict(meta)))
    with replacing(path) as partial:
        np.savez(partial, **arrays)

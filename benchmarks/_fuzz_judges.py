"""Judges of `_fuzz_clouds.py`: what others read from the same file. plyfile, laspy, trimesh; plain NumPy where none is.

A judge takes a path and gives the columns x, y, z and what else the file names, or raises whatever it raises.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

Columns = dict[str, np.ndarray]


def plyfile_columns(path: Path) -> Columns:
    """The vertices as plyfile reads them (a test dependency: GPL)."""
    from plyfile import PlyData

    head, found, body = path.read_bytes().partition(b"end_header")
    clean = re.sub(rb"\ncomment[^\n]*", b"", head)  # it refuses what is no ASCII there
    vertex = PlyData.read(io.BytesIO(clean + found + body), mmap=False)["vertex"]
    return {p.name.lower(): np.asarray(vertex[p.name]) for p in vertex.properties if not hasattr(p, "len_dtype")}


def trimesh_columns(path: Path) -> Columns:
    """The vertices as trimesh reads them, coordinates alone."""
    import trimesh

    logging.getLogger("trimesh").setLevel(logging.CRITICAL)
    geometry = trimesh.load(str(path), process=False)
    vertices = np.asarray(geometry.vertices, dtype=np.float64)
    return dict(zip("xyz", vertices.T, strict=True))


def laspy_columns(path: Path) -> Columns:
    """Points of a LAS file as laspy reads them."""
    import laspy

    las = laspy.read(str(path))
    if len(las.points) < las.header.point_count:
        raise ValueError("fewer points than the header promises")
    columns = {axis: np.asarray(getattr(las, axis)) for axis in "xyz"}
    return columns | {name: np.asarray(las[name]) for name in ("red", "green", "blue", "classification")}


def plain_pcd_columns(path: Path) -> Columns:
    """PCD, ascii or binary, straight from the specification; every field has one number."""
    data = path.read_bytes()
    words: dict[str, list[str]] = {}
    position = 0
    while "DATA" not in words:
        end = data.index(b"\n", position)
        line = data[position:end].decode("latin-1").split("#")[0].split()
        position = end + 1
        if line:
            words[line[0]] = line[1:]
    names, size = words["FIELDS"], words.get("POINTS") or words["WIDTH"] + words["HEIGHT"]
    count = int(np.prod([int(number) for number in size]))
    kinds = [f"<{kind.lower()}{size}" for kind, size in zip(words["TYPE"], words["SIZE"], strict=True)]
    if any(number != "1" for number in words.get("COUNT", [])) or len(names) != len(kinds) or count < 1:
        raise ValueError("not the kind that is made here")
    if words["DATA"] == ["binary"]:
        table = np.frombuffer(data, np.dtype([(f"f{i}", kind) for i, kind in enumerate(kinds)]), count, position)
        columns = {name: table[f"f{i}"] for i, name in enumerate(names)}
    elif words["DATA"] == ["ascii"]:
        rows = plain_rows(data[position:].decode("latin-1").splitlines(), count)
        columns = {name: rows[:, i] for i, name in enumerate(names)}
        if rows.shape[1] != len(names):
            raise ValueError("another number of columns")
    else:
        raise ValueError("not the kind that is made here")
    if "rgb" in columns:
        packed = columns.pop("rgb").astype(np.float32).view(np.uint32)
        columns |= {name: (packed >> shift & 255) for name, shift in (("red", 16), ("green", 8), ("blue", 0))}
    return columns


def plain_rows(lines: list[str], count: int | None = None) -> np.ndarray:
    """Numbers of text lines as Python's float has them; ragged rows raise."""
    rows = [[float(word) for word in line.replace(",", " ").split()] for line in lines if line.strip()]
    if count is not None and len(rows) != count:
        raise ValueError(f"{len(rows)} rows of {count}")
    if len({len(row) for row in rows}) != 1:
        raise ValueError("ragged")
    return np.array(rows)


def plain_text_columns(path: Path) -> Columns:
    """xyz text: a header of names, or the columns x y z red green blue."""
    lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if not line.startswith(("#", "//"))]
    names = ["x", "y", "z", "red", "green", "blue"]
    head = lines[0].replace(",", " ").split()
    if head[0].isalpha():
        names, lines = [name.lower() for name in head], lines[1:]
    rows = plain_rows(lines)
    if rows.shape[1] != len(names) and (rows.shape[1] != 3 or len(names) != 6):
        raise ValueError("another number of columns")
    return dict(zip(names, rows.T, strict=False))


def numpy_columns(path: Path) -> Columns:
    """npz with points, colors and labels as (N, 3) and (N,); npy with (N, 6), or with fields."""
    archive = np.load(path, allow_pickle=False)
    if isinstance(archive, np.ndarray):
        if archive.dtype.names:
            return {name.lower(): archive[name] for name in archive.dtype.names}
        return _matrix(archive)
    with archive:
        columns = _matrix(archive["points"])
        if "colors" in archive:
            columns |= dict(zip(("red", "green", "blue"), _like(archive["colors"], columns).T, strict=False))
        if "labels" in archive:
            columns["label"] = archive["labels"].reshape(-1)
    return columns


def _matrix(values: np.ndarray) -> Columns:
    values = values.reshape(-1, 3) if values.ndim == 3 and values.shape[2] == 3 else values
    if values.ndim != 2 or values.shape[1] not in (3, 6) or values.dtype.kind not in "fiu":
        raise ValueError("not the kind that is made here")
    return dict(zip(("x", "y", "z", "red", "green", "blue"), values.T, strict=False))


def _like(values: np.ndarray, columns: Columns) -> np.ndarray:
    values = values[0] if values.ndim == 3 and len(values) == 1 else values
    if values.shape != (len(columns["x"]), 3) or values.dtype.kind not in "fiu":
        raise ValueError("colours of another shape")
    return values


JUDGES: dict[str, list[Callable[[Path], Columns]]] = {
    "ply": [plyfile_columns, trimesh_columns],
    "pcd": [plain_pcd_columns],
    "las": [laspy_columns],
    "npz": [numpy_columns],
    "npy": [numpy_columns],
    "xyz": [plain_text_columns],
}

"""One scene of the RoomTours format as arrays, checked: from its folder, or from wherever else its files lie."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.lib import format as npy

from lam3c_plugin.errors import DataError

ReadFile = Callable[[str], "np.ndarray | None"]
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
HEADER_BYTES = 1 << 12  # that of an (N, 3) array takes 128


def read_scene(folder: str, color_scale: float = 1.0, read: ReadFile | None = None) -> dict[str, np.ndarray]:
    """Read ``folder/{coord,color,normal}.npy``; label files are not looked at.

    Returns:
        coord (N, 3) in metres, color (N, 3) 0-255, normal (N, 3), all float32; a missing colour or normal file gives
        zeros, as do single colours and normals that are not finite.

    Args:
        folder: the scene's folder; uint8, float16, float32 and float64 files are accepted.
        color_scale: factor that brings the colours on disk to 0-255.
        read: a file's name to its bytes (uint8, writable), or None where there is none; default: the folder's.

    Raises:
        DataError: no or unreadable coord.npy, arrays of other shapes or lengths, coordinates that are NaN or infinite,
            fewer than two points, or all points equal. The message names the folder.
    """
    is_folder = read is not None or os.path.isdir(folder)
    read = read or partial(read_file, folder)
    coord = _read(folder, "coord", read)
    if coord is None:
        reason = "has no coord.npy" if is_folder else "is not a folder"
        raise DataError(f"scene {os.path.abspath(folder)} {reason}")
    _check_coord(folder, coord)
    scene = {"coord": coord}
    for key, scale in (("color", color_scale), ("normal", 1.0)):
        values = _read(folder, key, read)
        if values is None:
            scene[key] = np.zeros_like(coord)
            continue
        if len(values) != len(coord):
            raise DataError(
                f"scene {os.path.abspath(folder)}: {key}.npy has {len(values)} rows, coord.npy {len(coord)}"
            )
        if not np.isfinite(values.sum()):
            values[~np.isfinite(values).all(axis=1)] = 0
        scene[key] = values if scale == 1 else values * np.float32(scale)
    return scene


def read_file(folder: str, name: str) -> np.ndarray | None:
    """The bytes of a file of a folder; None where there is no such file.

    Raises:
        OSError: it cannot be read.
        ValueError: it ends early.
    """
    try:
        file = os.open(os.path.join(folder, name), os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return None
    try:
        return read_part(file, 0, os.fstat(file).st_size)
    finally:
        os.close(file)


def read_part(file: int, start: int, size: int) -> np.ndarray:
    """``size`` bytes of an open file from ``start`` on, in memory of their own.

    In as few calls as the system allows: a cold disk is asked for megabytes at a time (a mapped file: 128 KiB).

    Raises:
        OSError: it cannot be read.
        ValueError: the file ends before.
    """
    data = np.empty(size, np.uint8)
    view, done = memoryview(data), 0
    while done < size:
        if hasattr(os, "preadv"):
            got = os.preadv(file, [view[done:]], start + done)
        else:  # Windows
            os.lseek(file, start + done, os.SEEK_SET)
            part = os.read(file, size - done)
            got, view[done : done + len(part)] = len(part), part
        if not got:
            raise ValueError(f"the file ends after {start + done} bytes of {start + size}")
        done += got
    return data


def _read(folder: str, key: str, read: ReadFile) -> np.ndarray | None:
    """One array (N, 3) as float32, in memory of its own; None where there is no such file."""
    try:
        data = read(f"{key}.npy")
        if data is None:
            return None
        head = io.BytesIO(data[:HEADER_BYTES].tobytes())
        shape, is_fortran, dtype = HEADERS[npy.read_magic(head)](head)
        if dtype.hasobject:
            raise ValueError("it holds pickled objects")
    except (OSError, ValueError, KeyError) as error:
        detail = " ".join(str(error).split())
        raise DataError(f"scene {os.path.abspath(folder)}: {key}.npy cannot be read: {detail}") from None
    if len(shape) != 2 or shape[1] != 3 or dtype.kind not in "fiu":
        raise DataError(
            f"scene {os.path.abspath(folder)}: {key}.npy is {dtype} {shape}, expected numbers of the shape (N, 3)"
        )
    if head.tell() + shape[0] * 3 * dtype.itemsize > len(data):
        raise DataError(f"scene {os.path.abspath(folder)}: {key}.npy cannot be read: it has not its {shape[0]} rows")
    array = np.ndarray(shape, dtype, data, head.tell(), order="F" if is_fortran else "C")
    return np.require(array, np.float32, ["C", "A", "W"])


def _check_coord(folder: str, coord: np.ndarray) -> None:
    where = f"scene {os.path.abspath(folder)}"
    if len(coord) < 2:
        raise DataError(f"{where} has {'one point' if len(coord) else 'no points'}")
    spread = [float(np.ptp(coord[:, axis])) for axis in range(3)]
    if not np.isfinite(spread).all():  # NaN and inf pass through min and max
        broken = int((~np.isfinite(coord).all(axis=1)).sum())
        raise DataError(f"{where}: {broken} of {len(coord)} points have NaN or infinite coordinates")
    if max(spread) == 0:
        raise DataError(f"{where}: all {len(coord)} points are equal")

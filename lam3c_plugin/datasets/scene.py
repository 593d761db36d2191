"""One scene folder of the RoomTours format as arrays, checked."""

from __future__ import annotations

import os

import numpy as np

from lam3c_plugin.errors import DataError


def read_scene(folder: str, color_scale: float = 1.0) -> dict[str, np.ndarray]:
    """Read ``folder/{coord,color,normal}.npy``; label files are not looked at.

    Returns:
        coord (N, 3) in metres, color (N, 3) 0-255, normal (N, 3), all float32; a missing colour or normal file gives
        zeros, as do single colours and normals that are not finite.

    Args:
        folder: the scene's folder; uint8, float16, float32 and float64 files are accepted.
        color_scale: factor that brings the colours on disk to 0-255.

    Raises:
        DataError: no or unreadable coord.npy, arrays of other shapes or lengths, coordinates that are NaN or infinite,
            fewer than two points, or all points equal. The message names the folder.
    """
    coord = _read(folder, "coord")
    if coord is None:
        reason = "has no coord.npy" if os.path.isdir(folder) else "is not a folder"
        raise DataError(f"scene {os.path.abspath(folder)} {reason}")
    _check_coord(folder, coord)
    scene = {"coord": coord}
    for key, scale in (("color", color_scale), ("normal", 1.0)):
        values = _read(folder, key)
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


def _read(folder: str, key: str) -> np.ndarray | None:
    """One array (N, 3) as float32, in memory of its own; None where there is no such file."""
    path = os.path.join(folder, f"{key}.npy")
    try:
        # mapped: uint8 and float16 files become float32 straight from the page cache, without a copy in between
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        detail = " ".join(str(error).split())
        raise DataError(f"scene {os.path.abspath(folder)}: {key}.npy cannot be read: {detail}") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "fiu":
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise DataError(f"scene {os.path.abspath(folder)}: {key}.npy is {found}, expected numbers of the shape (N, 3)")
    return np.array(array, dtype=np.float32, order="C")


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

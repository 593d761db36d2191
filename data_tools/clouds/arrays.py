"""NumPy arrays: npz, npy, and scene folders read back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data_tools.clouds.columns import (
    SCALAR_NAMES,
    build_cloud,
    cloud_from_columns,
    cloud_from_matrix,
    pick,
    plain_name,
    unused,
)
from data_tools.clouds.predictions import CONFIDENCE_OF, VGGT_COORD, holds_logits, without_unsure
from data_tools.clouds.types import Cloud, CloudError

COORD_NAMES = (*VGGT_COORD, "coord", "coords", "xyz", "points", "pts", "pts3d", "point", "position", "positions", "pos",
               "points3d", "vertices")  # fmt: skip
COLOR_NAMES = ("color", "colors", "colour", "colours", "rgb", "rgbs", "images", "image", "imgs")
NORMAL_NAMES = ("normal", "normals")
SCENE_ARRAYS = ("coord", "color", "normal", "confidence", "segment", "instance")


def _load(path: Path) -> np.ndarray | np.lib.npyio.NpzFile:
    try:
        return np.load(path, allow_pickle=False)
    except MemoryError:
        raise
    except Exception as error:  # NumPy raises whatever the damage makes of it
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CloudError(f"{path}: NumPy cannot read it ({reason}); save it again with np.save/np.savez") from None


def _channel_axes(shape: tuple[int, ...], channels: tuple[int, ...]) -> list[int]:
    """Axes that may be x, y, z (or r, g, b): the last, or the first of a point list or of a network's images."""
    if len(shape) < 2:
        return []
    first = 0 if len(shape) == 2 else len(shape) - 3
    return [axis for axis in (len(shape) - 1, first) if shape[axis] in channels]


def _coord_rows(path: Path, name: str, value: np.ndarray, notes: list[str]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Coordinates of any layout as (N, 3 | 6 | 9), and the shape (...) of the points.

    Raises:
        CloudError: no axis can be x, y, z, or two can.
    """
    axes = _channel_axes(value.shape, (3, 6, 9) if value.ndim == 2 else (3,))
    if not axes:
        raise CloudError(f"{path}: {name!r} has shape {value.shape}; save coordinates as (N, 3)")
    if len(axes) > 1:
        raise CloudError(f"{path}: {name!r} has shape {value.shape}, rows or columns may be the points; save (N, 3)")
    if axes[0] != value.ndim - 1:
        notes.append(f"{name!r} of shape {value.shape} transposed")
    moved = np.moveaxis(value, axes[0], -1)
    return moved.reshape(-1, moved.shape[-1]), moved.shape[:-1]


def _like_points(
    path: Path, name: str, value: np.ndarray, points: tuple[int, ...], channels: tuple[int, ...], notes: list[str]
) -> np.ndarray:
    """Colours or normals of any layout as (N, 3), the rows as those of the coordinates; a fourth channel goes.

    Raises:
        CloudError: no layout fits the points, or two do.
    """
    total = int(np.prod(points))
    grid = tuple(size for size in points if size > 1)

    def fits(axis: int) -> bool:
        rest = [size for index, size in enumerate(value.shape) if index != axis and size > 1]
        flat = len(rest) <= 1 or len(grid) <= 1
        return int(np.prod(rest)) == total if flat else tuple(rest) == grid

    axes = [axis for axis in _channel_axes(value.shape, channels) if fits(axis)]
    if not axes:
        raise CloudError(f"{path}: {name!r} has shape {value.shape}, which does not fit points of shape {points}")
    if len(axes) > 1:
        raise CloudError(f"{path}: {name!r} has shape {value.shape}, rows or columns may be the points; save (N, 3)")
    if axes[0] != value.ndim - 1 and value.ndim < 4:  # (S, 3, H, W) is how networks have their images
        notes.append(f"{name!r} of shape {value.shape} transposed")
    moved = np.moveaxis(value, axes[0], -1).reshape(total, -1)
    if moved.shape[1] == 4:
        notes.append(f"alpha of {name!r} left out")
    return moved[:, :3]


def _cloud_from_named(path: Path, arrays: Mapping[str, np.ndarray]) -> Cloud:
    """A cloud of whole arrays under any of our names, those of a network's prediction included."""

    def read(name: str) -> np.ndarray:
        try:
            return np.asarray(arrays[name])
        except MemoryError:
            raise
        except Exception:  # as in `_load`; object arrays are among them, they are never unpickled
            raise CloudError(f"{path}: array {name!r} is unreadable; save the file again") from None

    notes: list[str] = []
    names: dict[str, str] = {}
    for name in arrays:
        if names.setdefault(plain_name(name), name) != name:
            notes.append(f"array {name!r} is there twice (as {names[plain_name(name)]!r}): the first is read")
    coord_name = pick(names, COORD_NAMES, "coordinates", notes)
    if coord_name is None:
        have = ", ".join(arrays) or "nothing"
        raise CloudError(f"{path}: holds no array named coord, points, xyz or world_points (found: {have}); rename it")
    coord = read(coord_name)
    if coord.dtype.names:
        return cloud_from_columns(path, [(name, coord[name].reshape(-1)) for name in coord.dtype.names], notes)
    rows, points = _coord_rows(path, coord_name, coord, notes)
    parts: dict[str, np.ndarray | None] = {"color": None, "normal": None}
    for target, wanted, channels in (("color", COLOR_NAMES, (3, 4)), ("normal", NORMAL_NAMES, (3,))):
        name = pick(names, wanted, target, notes)
        if name is not None:
            parts[target] = _like_points(path, name, read(name), points, channels, notes)
    if rows.shape[1] > 3:
        if parts["color"] is None and parts["normal"] is None:
            return cloud_from_matrix(path, rows, notes)
        notes.append(f"columns 4 to {rows.shape[1]} of {coord_name!r} left out")
    own = CONFIDENCE_OF.get(plain_name(coord_name), "conf")
    scalars = {}
    for target, wanted in SCALAR_NAMES.items():
        if target == "confidence":
            wanted = tuple(dict.fromkeys((own, *wanted, *CONFIDENCE_OF.values(), "points_conf")))
        name = pick(names, wanted, target, notes)
        if name is not None:
            scalars[target] = (name, read(name))
    known = (*COORD_NAMES, *COLOR_NAMES, *NORMAL_NAMES, *CONFIDENCE_OF.values(), "points_conf")
    notes += unused(names, {*known, *(name for group in SCALAR_NAMES.values() for name in group)})
    cloud = build_cloud(path, rows[:, :3], parts["color"], parts["normal"], scalars, notes)
    is_prediction = coord.ndim >= 4 or (
        coord.ndim == 3 and cloud.confidence is not None and holds_logits(cloud.confidence)
    )
    if own != "conf":
        return without_unsure(cloud, "vggt")
    return without_unsure(cloud, "pi3") if is_prediction else cloud


def read_arrays(path: Path) -> Cloud:
    """Read an archive of named arrays (``coord``/``points``/``xyz``, ``color``, ``normal``, ``conf``, ...), or npy.

    A single array is (N, 3 | 6 | 9), its transpose, or structured with fields x, y, z, ...

    Points may be image-shaped, (3, N) is transposed with a note. Predictions of VGGT (``world_points``, ``images``,
    confidences) and pi3 (``points``, ``conf``) lose the points under their backend's threshold.

    Raises:
        CloudError: unreadable, without coordinates, of shapes that do not fit or may be read in two ways.
    """
    archive = _load(path)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        return _cloud_from_array(path, archive)
    with archive:
        return _cloud_from_named(path, archive)


def _cloud_from_array(path: Path, array: np.ndarray) -> Cloud:
    if array.dtype.names:
        fields = {name: array[name] for name in array.dtype.names}
        if any(plain_name(name) in COORD_NAMES for name in fields):  # fields of three numbers
            flat = array.reshape(-1)
            return _cloud_from_named(path, {name: flat[name] for name in array.dtype.names})
        return cloud_from_columns(path, [(name, value.reshape(-1)) for name, value in fields.items()])
    notes: list[str] = []
    rows, _ = _coord_rows(path, "array", array, notes)
    return cloud_from_matrix(path, rows, notes)


def read_scene_folder(path: Path) -> Cloud:
    """Read a scene folder (``coord.npy`` and what lies beside it) back into a cloud.

    Raises:
        CloudError: no ``coord.npy``, or arrays that do not fit each other.
    """
    found = {name: np.asarray(_load(path / f"{name}.npy")) for name in SCENE_ARRAYS if (path / f"{name}.npy").is_file()}
    if "coord" not in found:
        raise CloudError(f"{path}: is a folder without coord.npy; give a cloud file or a scene folder")
    for name in ("coord", "color", "normal"):
        value = found.get(name)
        if value is not None and (value.ndim != 2 or value.shape[1] != 3):
            raise CloudError(f"{path}: {name}.npy has shape {value.shape}, (N, 3) is needed; package it again")
    scalars = {name: (f"{name}.npy", found[name]) for name in SCENE_ARRAYS[3:] if name in found}
    return build_cloud(path, found["coord"], found.get("color"), found.get("normal"), scalars)

"""NumPy, text and LAS/LAZ clouds, and scene folders read back."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from data_tools.clouds.types import Cloud, CloudError, build_cloud, cloud_from_columns, cloud_from_matrix

NPZ_NAMES = {
    "coord": ("coord", "coords", "xyz", "points", "pts", "position", "positions", "points3d", "vertices"),
    "color": ("color", "colors", "colour", "colours", "rgb"),
    "normal": ("normal", "normals"),
    "confidence": ("confidence", "conf"),
    "segment": ("segment", "semantic", "label", "labels"),
    "instance": ("instance", "instances"),
}


def _load(path: Path) -> np.ndarray | np.lib.npyio.NpzFile:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CloudError(f"{path}: NumPy cannot read it ({reason}); save it again with np.save/np.savez") from None


def _cloud_from_named(path: Path, found: dict[str, np.ndarray]) -> Cloud:
    """A cloud of whole arrays under our names; image-shaped (..., 3) arrays are flattened."""
    rows = {name: value.reshape(-1, 3) for name, value in found.items() if name in ("coord", "color", "normal")}
    scalars = {name: value.reshape(-1) for name, value in found.items() if name not in rows}
    return build_cloud(path, rows["coord"], rows.get("color"), rows.get("normal"), scalars)


def read_npz(path: Path) -> Cloud:
    """Read an archive of named arrays (``coord``/``points``/``xyz``, ``color``, ``normal``, ``conf``, ...).

    Raises:
        CloudError: unreadable, or without coordinates.
    """
    archive = _load(path)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        return cloud_from_matrix(path, archive)
    with archive:
        keys = {key.lower(): key for key in archive.files}
        found: dict[str, np.ndarray] = {}
        for target, names in NPZ_NAMES.items():
            key = next((keys[name] for name in names if name in keys), None)
            if key is not None:
                try:
                    found[target] = archive[key]
                except (ValueError, EOFError, OSError, zipfile.BadZipFile):
                    raise CloudError(f"{path}: array {key!r} is unreadable; save the file again") from None
    if "coord" not in found:
        have = ", ".join(keys.values()) or "nothing"
        raise CloudError(f"{path}: holds no array named {', '.join(NPZ_NAMES['coord'][:4])} (found: {have}); rename it")
    try:
        return _cloud_from_named(path, found)
    except ValueError as error:
        raise CloudError(
            str(error) if isinstance(error, CloudError) else f"{path}: {error}; save (N, 3) arrays"
        ) from None


def read_npy(path: Path) -> Cloud:
    """Read (N, 3 | 6 | 9) or a structured array with fields x, y, z, ...

    Raises:
        CloudError: unreadable or of another shape.
    """
    array = _load(path)
    if not isinstance(array, np.ndarray):
        return read_npz(path)
    if array.dtype.names:
        return cloud_from_columns(path, {name: array[name].reshape(-1) for name in array.dtype.names})
    return cloud_from_matrix(path, array)


def read_text(path: Path) -> Cloud:
    """Read a table of numbers, parted by blanks, commas or semicolons; a header line with names is used.

    Raises:
        CloudError: not text, ragged, or not 3, 6 or 9 columns without a header.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise CloudError(f"{path}: is not a text file; name it by its real format") from None
    names, first = _text_header(lines)
    if first >= len(lines):
        raise CloudError(f"{path}: holds no line of numbers; export the points again")
    delimiter = next((mark for mark in ",;" if mark in lines[first]), None)
    try:
        values = np.loadtxt(lines[first:], delimiter=delimiter, comments=("#", "//"), ndmin=2)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise CloudError(f"{path}: is not a table of numbers ({reason}); export x y z [r g b [nx ny nz]]") from None
    if len(names) == values.shape[1] and {"x", "y", "z"} <= set(names):
        return cloud_from_columns(path, {name: values[:, i] for i, name in enumerate(names)})
    return cloud_from_matrix(path, values)


def _text_header(lines: list[str]) -> tuple[list[str], int]:
    """Column names, if a line has them, and the index of the first line of numbers."""
    names: list[str] = []
    for index, line in enumerate(lines[:50]):
        words = line.lstrip("#/ ").replace(",", " ").replace(";", " ").split()
        is_comment = line.lstrip().startswith(("#", "//"))
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            names = [word.strip('"').lower() for word in words]
            continue
        if not is_comment and (len(numbers) > 1 or index + 1 == len(lines)):
            return names, index
    return names, len(lines)


def read_las(path: Path) -> Cloud:
    """Read LAS/LAZ through laspy.

    Raises:
        CloudError: laspy is missing, or it cannot read the file.
    """
    try:
        import laspy
    except ImportError:
        raise CloudError(f"{path}: reading {path.suffix} needs laspy; pip install 'laspy[lazrs]'") from None
    try:
        las = laspy.read(str(path))
        coord = np.stack([np.asarray(las.x), np.asarray(las.y), np.asarray(las.z)], axis=1)
        names = {name.lower() for name in las.point_format.dimension_names}
        color = None
        if {"red", "green", "blue"} <= names:
            color = np.stack([np.asarray(las[name]) for name in ("red", "green", "blue")], axis=1)
    except Exception as error:  # laspy raises many kinds, its LAZ back ends others again
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CloudError(f"{path}: laspy cannot read it ({reason}); for .laz: pip install 'laspy[lazrs]'") from None
    return build_cloud(path, coord, color if color is None or color.any() else None)


def read_scene_folder(path: Path) -> Cloud:
    """Read a scene folder (``coord.npy`` and what lies beside it) back into a cloud.

    Raises:
        CloudError: no ``coord.npy``, or arrays that do not fit each other.
    """
    found: dict[str, np.ndarray] = {}
    for name in NPZ_NAMES:
        if (path / f"{name}.npy").is_file():
            value = _load(path / f"{name}.npy")
            found[name] = np.asarray(value)
    if "coord" not in found:
        raise CloudError(f"{path}: is a folder without coord.npy; give a cloud file or a scene folder")
    try:
        return _cloud_from_named(path, found)
    except ValueError as error:
        raise CloudError(
            str(error) if isinstance(error, CloudError) else f"{path}: {error}; package it again"
        ) from None

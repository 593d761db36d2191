"""The plain cloud, its error, and the rules that turn a file's columns into it (NumPy only)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

XYZ_NAMES = (("x", "y", "z"),)
COLOR_NAMES = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
NORMAL_NAMES = (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"))
SCALAR_NAMES = {
    "confidence": ("confidence", "conf", "scalar_confidence"),
    "segment": ("segment", "label", "semantic", "class", "scalar_label", "scalar_segment", "scalar_class"),
    "instance": ("instance", "instance_id", "scalar_instance"),
}
FAR_FROM_ORIGIN = 1000.0  # beyond this a float32 coordinate is coarser than 0.1 mm; the cloud is shifted first


class CloudError(ValueError):
    """A cloud that cannot be used; the message is one line that names the file and the cure."""


@dataclass
class Cloud:
    """A point cloud in plain arrays; row i of every array is point i.

    Attributes:
        coord: (N, 3) float32, in the file's unit (metres once packaged), relative to ``origin``.
        color: (N, 3) uint8 0..255, or None.
        normal: (N, 3) float32 of unit length (zero where unknown), or None.
        confidence: (N,) float32, or None.
        segment: (N,) int32 class of a point, -1 where unknown, or None.
        instance: (N,) int32 object of a point, -1 where unknown, or None.
        origin: (3,) float64; ``coord + origin`` are the file's coordinates (map coordinates do not fit float32).
        notes: what the reader had to do or guess, in words.
    """

    coord: np.ndarray
    color: np.ndarray | None = None
    normal: np.ndarray | None = None
    confidence: np.ndarray | None = None
    segment: np.ndarray | None = None
    instance: np.ndarray | None = None
    origin: np.ndarray = field(default_factory=lambda: np.zeros(3))
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Hold the shapes together, so that a wrong array fails here and not in a later stage."""
        if self.coord.ndim != 2 or self.coord.shape[1] != 3:
            raise CloudError(f"coord has shape {self.coord.shape}; (N, 3) is needed")
        for name, value in self.arrays().items():
            wanted = self.coord.shape if name in ("coord", "color", "normal") else self.coord.shape[:1]
            if value.shape != wanted:
                raise CloudError(f"{name} has shape {value.shape}, coord {self.coord.shape}; every point needs one row")

    def __len__(self) -> int:
        return len(self.coord)

    def arrays(self) -> dict[str, np.ndarray]:
        """The per-point arrays that are there, by name, coord first."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("origin", "notes")}
        return {name: value for name, value in values.items() if value is not None}

    def select(self, index: np.ndarray) -> Cloud:
        """The points of a boolean mask or an index array, as a new cloud."""
        kept = {name: value[index] for name, value in self.arrays().items()}
        return Cloud(**kept, origin=self.origin.copy(), notes=list(self.notes))


def color_to_uint8(values: np.ndarray) -> tuple[np.ndarray, str]:
    """Bring colours of any usual range to 0..255.

    Args:
        values: (N, 3) of any numeric type: 0..255, 0..1, -1..1 (floats) or 0..65535.

    Returns:
        (N, 3) uint8 and a note in words, empty when nothing was done.
    """
    if values.dtype == np.uint8 or values.size == 0:
        return values.astype(np.uint8), ""
    number = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(number.min()), float(number.max())
    is_float, note = values.dtype.kind == "f", ""
    if is_float and low < -1e-3 and high <= 1.001 and low >= -1.001:
        number, note = (number + 1.0) * 127.5, "colour -1..1 -> 0..255"
    elif is_float and high <= 1.001:
        # a file of 0..255 floats with no value above 1 would be black to the eye: 0..1 is the sane reading
        number, note = number * 255.0, "colour 0..1 -> 0..255"
    elif high > 255.0:
        number, note = number / 257.0, "colour 16 bit -> 0..255"
    return np.clip(np.rint(number), 0, 255).astype(np.uint8), note


def looks_like_normals(values: np.ndarray) -> bool:
    """Whether three unnamed columns are unit vectors rather than colours."""
    number = values[:: max(1, len(values) // 5000)].astype(np.float64)
    length = np.linalg.norm(number, axis=1)
    unit = np.abs(length - 1.0) < 0.02
    return bool(number.size and unit.mean() > 0.95 and (number < -1e-6).any())


def unit_rows(normal: np.ndarray) -> np.ndarray:
    """(N, 3) float32 rows of length one; zero rows and rows that are not finite become zero."""
    value = np.nan_to_num(np.asarray(normal, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    length = np.linalg.norm(value, axis=1, keepdims=True)
    return np.divide(value, length, out=np.zeros_like(value), where=length > 1e-12).astype(np.float32)


def build_cloud(
    path: Path,
    coord: np.ndarray,
    color: np.ndarray | None = None,
    normal: np.ndarray | None = None,
    scalars: Mapping[str, np.ndarray] | None = None,
) -> Cloud:
    """Make a `Cloud` of raw arrays: types, colour range, unit normals, an origin for far coordinates.

    Args:
        path: the file, for the messages.
        coord: (N, 3) of any real type.
        color: (N, 3) of any range that `color_to_uint8` knows, or None.
        normal: (N, 3), or None.
        scalars: (N,) arrays under ``confidence``, ``segment``, ``instance``.

    Raises:
        CloudError: no point, or arrays of different length.
    """
    if coord.dtype.kind not in "fiu":
        raise CloudError(f"{path}: coordinates are of type {coord.dtype}; write them as numbers")
    if coord.ndim != 2 or coord.shape[1] != 3 or len(coord) == 0:
        raise CloudError(f"{path}: coordinates have shape {coord.shape}, (N, 3) with N >= 1 is needed; export it again")
    notes: list[str] = []
    value = coord.astype(np.float64)
    finite = np.isfinite(value).all(axis=1)
    origin = np.zeros(3)
    if finite.any():
        middle = np.median(value[finite], axis=0)
        if np.abs(middle).max() > FAR_FROM_ORIGIN:
            origin = np.round(middle)
            value = value - origin
    if color is not None:
        color, note = color_to_uint8(color)
        notes += [note] if note else []
    arrays: dict[str, np.ndarray] = {}
    for name, scalar in (scalars or {}).items():
        kind = np.float32 if name == "confidence" else np.int32
        clean = np.nan_to_num(np.asarray(scalar, dtype=np.float64).reshape(-1), nan=-1.0, posinf=-1.0, neginf=-1.0)
        limit = np.finfo(np.float32).max if kind is np.float32 else np.iinfo(np.int32).max
        arrays[name] = np.clip(clean, -limit, limit).astype(kind)
    with np.errstate(over="ignore"):  # a value beyond float32 becomes inf and is dropped as not finite later
        points = value.astype(np.float32)
    try:
        unit = None if normal is None else unit_rows(normal)
        return Cloud(points, color, unit, origin=origin, notes=notes, **arrays)
    except CloudError as error:
        raise CloudError(f"{path}: {error}; export it again") from None


def _first_group(columns: Mapping[str, np.ndarray], groups: Sequence[Sequence[str]]) -> np.ndarray | None:
    for names in groups:
        if all(name in columns for name in names):
            return np.stack([columns[name] for name in names], axis=1)
    return None


def cloud_from_columns(path: Path, columns: Mapping[str, np.ndarray]) -> Cloud:
    """A `Cloud` of named (N,) columns, under the names that PLY, PCD and CSV files use (any case).

    Raises:
        CloudError: a coordinate column is missing.
    """
    lower = {name.lower(): value for name, value in columns.items()}
    coord = _first_group(lower, XYZ_NAMES)
    if coord is None:
        raise CloudError(
            f"{path}: has no columns x, y, z (found: {', '.join(columns) or 'none'}); export with coordinates"
        )
    scalars = {
        target: next(lower[name] for name in names if name in lower)
        for target, names in SCALAR_NAMES.items()
        if any(name in lower for name in names)
    }
    return build_cloud(path, coord, _first_group(lower, COLOR_NAMES), _first_group(lower, NORMAL_NAMES), scalars)


def cloud_from_matrix(path: Path, values: np.ndarray) -> Cloud:
    """A `Cloud` of an (N, 3 | 6 | 9) matrix: xyz, then colour (or unit normals when they look so), then normals."""
    if values.ndim != 2 or values.shape[1] not in (3, 6, 9):
        raise CloudError(
            f"{path}: array has shape {values.shape}; (N, 3) xyz, (N, 6) xyz+rgb or (N, 9) xyz+rgb+normal is needed"
        )
    color = values[:, 3:6] if values.shape[1] >= 6 else None
    normal = values[:, 6:9] if values.shape[1] == 9 else None
    note = ""
    if values.shape[1] == 6 and looks_like_normals(values[:, 3:6]):
        color, normal, note = None, values[:, 3:6], "columns 4-6 are unit vectors: taken as normals"
    cloud = build_cloud(path, values[:, :3], color, normal)
    cloud.notes += [note] if note else []
    return cloud

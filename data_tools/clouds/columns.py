"""From a file's columns to a cloud: names, types, ranges, labels; every reader ends here (NumPy only)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_tools.clouds.colors import color_to_uint8
from data_tools.clouds.types import UNSURE, Cloud, CloudError, unit_rows

XYZ_NAMES = (("x", "y", "z"),)
COLOR_NAMES = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
    ("color_red", "color_green", "color_blue"),
    ("color_r", "color_g", "color_b"),
)
NORMAL_NAMES = (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"))
SPLAT_NAMES = ("f_dc_0", "f_dc_1", "f_dc_2")
_LABEL = ("segment", "segmentation", "semantic", "semantics", "label", "labels", "class", "classes", "classification",
          "category", "semantic_label", "semantic_labels", "semantic_class", "semantic_id", "class_label", "class_id",
          "label_id", "category_id", "sem_label", "sem_class", "ground_truth", "gt", "segment20")  # fmt: skip
_INSTANCE = ("instance", "instances", "instance_id", "instance_ids", "instance_label", "instance_labels", "object_id",
             "ins_label")  # fmt: skip
SCALAR_NAMES: dict[str, tuple[str, ...]] = {
    "confidence": ("confidence", "conf", "confidences"),
    "segment": _LABEL,
    "instance": _INSTANCE,
}
KNOWN_NAMES = frozenset(
    name for group in (*XYZ_NAMES, *COLOR_NAMES, *NORMAL_NAMES, *SCALAR_NAMES.values()) for name in group
)
SPLAT_REST = ("opacity", "f_rest_", "scale_", "rot_")  # what else 3DGS writes
FAR_FROM_ORIGIN = 1000.0  # beyond this a float32 coordinate is coarser than 0.1 mm; the cloud is shifted first
COARSE = 1e-4  # of the cloud's size: steps of the number type above this are told
SH_0 = 0.28209479177387814  # the spherical harmonic of degree 0, 1 / (2 sqrt(pi)): 3DGS colour is 0.5 + SH_0 f_dc
FAINT = 0.1  # opacity below which a splat is no surface


def plain_name(name: str) -> str:
    """A column's name as the lists above have it: lower case, without CloudCompare's ``scalar_``."""
    return name.strip().strip('"').lower().replace(" ", "_").replace("-", "_").removeprefix("scalar_")


def pick(names: Mapping[str, str], wanted: Sequence[str], what: str, notes: list[str]) -> str | None:
    """The file's name of the first of ``wanted`` (best first) that is there; a second one is noted.

    ``names`` holds the file's names by plain name; ``what`` says in the note what they hold.
    """
    found = [names[name] for name in wanted if name in names]
    if len(found) > 1:
        notes.append(f"{what} taken from {found[0]!r}; {', '.join(map(repr, found[1:]))} left out")
    return found[0] if found else None


def unused(names: Mapping[str, str], known: Iterable[str], beginnings: tuple[str, ...] = ()) -> list[str]:
    """A note of the file's names that no rule knows (a misspelt label column, perhaps), or none."""
    left = [
        name or "(a column without a name)"
        for plain, name in names.items()
        if plain not in set(known) and not plain.startswith(beginnings)
    ]
    more = f" and {len(left) - 6} more" if len(left) > 6 else ""
    return [f"not used: {', '.join(left[:6])}{more}"] if left else []


def whole_labels(values: np.ndarray, name: str, notes: list[str]) -> np.ndarray | None:
    """Labels (N,) int32 of any numeric type; None, with a note, where more than a few hold fractions.

    Values that are no whole numbers, below -1 (an ignored -100) or beyond int32 (an unsigned -1) become -1, counted in
    a note.
    """
    number = np.asarray(values, dtype=np.float64).reshape(-1)
    with np.errstate(invalid="ignore"):
        fraction = np.abs(number - np.rint(number)) > 1e-6
    if fraction.sum() > 0.05 * number.size:
        notes.append(f"{name!r} holds fractions: not taken for labels")
        return None
    with np.errstate(invalid="ignore"):
        known = (number > -1.5) & (number <= np.iinfo(np.int32).max) & ~fraction
    if not known.all():
        notes.append(f"{int((~known).sum())} values of {name!r} are no labels: now -1, unknown")
    return np.where(known, np.rint(np.where(known, number, -1)), -1).astype(np.int32)


def build_cloud(
    path: Path,
    coord: np.ndarray,
    color: np.ndarray | None = None,
    normal: np.ndarray | None = None,
    scalars: Mapping[str, tuple[str, np.ndarray]] | None = None,
    notes: Iterable[str] = (),
) -> Cloud:
    """Make a `Cloud` of raw arrays: types, colour range, unit normals, an origin for far coordinates.

    Args:
        coord: (N, 3) of any real type.
        color: (N, 3) of any range that `color_to_uint8` knows, or None.
        normal: (N, 3), or None; None is taken where all are zero.
        scalars: name in the file and (N,) array under ``confidence``, ``segment``, ``instance``.
        notes: what was done before.

    Raises:
        CloudError: no point, no numbers, or arrays of different length.
    """
    for name, value in (("coordinates", coord), ("colours", color), ("normals", normal)):
        if value is not None and value.dtype.kind not in "fiu":
            raise CloudError(f"{path}: {name} are of type {value.dtype}; write them as numbers")
    if coord.ndim != 2 or coord.shape[1] != 3 or len(coord) == 0:
        raise CloudError(f"{path}: coordinates have shape {coord.shape}, (N, 3) with N >= 1 is needed; export it again")
    said = list(notes)
    points, origin, step = _centred(coord, said)
    if color is not None:
        color, color_notes = color_to_uint8(color)
        said += color_notes
    unit = None if normal is None else unit_rows(normal)
    if unit is not None and not unit.any():
        unit = None
        said.append("normals are all zero: left out")
    arrays: dict[str, np.ndarray] = {}
    for target, (name, scalar) in (scalars or {}).items():
        if scalar.dtype.kind not in "fiub":
            raise CloudError(f"{path}: {name!r} is of type {scalar.dtype}; write it as numbers")
        if target == "confidence":
            with np.errstate(over="ignore"):
                value = scalar.reshape(-1).astype(np.float32)
            arrays[target] = np.where(np.isfinite(value), value, np.float32(UNSURE))
        elif (labels := whole_labels(scalar, name, said)) is not None:
            arrays[target] = labels
    try:
        return Cloud(points, color, unit, origin=origin, step=step, notes=said, **arrays)
    except CloudError as error:
        raise CloudError(f"{path}: {error}; export it again") from None


def _centred(coord: np.ndarray, notes: list[str]) -> tuple[np.ndarray, np.ndarray, float]:
    """Points (N, 3) float32 about an origin (3,) float64, and the step of the file's numbers where it is coarse."""
    value = coord.astype(np.float64)
    finite = np.isfinite(value).all(axis=1)
    origin, step = np.zeros(3), 0.0
    if finite.any():
        middle = np.median(value[finite], axis=0)
        if np.abs(middle).max() > FAR_FROM_ORIGIN:
            origin = np.round(middle)
        half = coord.dtype == np.float16
        reach = float(np.abs(value[finite]).max() if half else np.abs(middle).max())
        step = _step(value[finite], reach, np.float16 if half else np.float32)
        value = value - origin
    if step:
        notes.append(
            f"coordinates about {reach:.0f} from the origin in float{16 if half else 32}, which keeps steps of "
            f"{step:g} there ({1000 * step:g} mm if metres): export in double, or shift the cloud first"
        )
    with np.errstate(over="ignore"):  # a value beyond float32 becomes inf and is dropped as not finite later
        return value.astype(np.float32), origin, step


def _step(value: np.ndarray, reach: float, kind: type[np.floating]) -> float:
    """The step of a number type so far from zero where the points (N, 3) were of that type and it is coarse, else 0."""
    some = value[:: max(1, len(value) // 100_000)]
    size = _size(some)
    with np.errstate(over="ignore"):
        step = float(np.spacing(kind(min(reach, float(np.finfo(kind).max)))))
        was_kind = bool((some.astype(kind) == some).all())
    if step < 1 and (some == np.rint(some)).all():
        was_kind = False  # whole numbers, as of a file in millimetres
    return step if was_kind and step > COARSE * size else 0.0


def tell_coarse(cloud: Cloud, step: float, source: str) -> None:
    """Note that a file keeps its coordinates in steps that are coarse for the cloud, and set the cloud's ``step``.

    ``step`` is in the file's unit, ``source`` what in the file says so.
    """
    size = _size(cloud.coord[np.isfinite(cloud.coord).all(axis=1)])
    if step > max(cloud.step, COARSE * size):
        cloud.step = step
        cloud.notes.append(f"coordinates in steps of {step:g} ({source}): export them finer")


def _size(points: np.ndarray) -> float:
    """Longest side of the box of (N, 3) finite points without the strays, 0 of no point."""
    return float(np.ptp(np.quantile(points, [0.01, 0.99], axis=0), axis=0).max()) if len(points) else 0.0


def _stacked(columns: Mapping[str, np.ndarray], names: Mapping[str, str], group: Sequence[str]) -> np.ndarray:
    return np.stack([columns[names[name]] for name in group], axis=1)


def _group(
    columns: Mapping[str, np.ndarray],
    names: Mapping[str, str],
    groups: Sequence[Sequence[str]],
    what: str,
    notes: list[str],
) -> np.ndarray | None:
    """The first complete group of columns as (N, 3); a second, or a part of one where none is whole, is noted."""
    whole = [group for group in groups if all(name in names for name in group)]
    if len(whole) > 1:
        notes.append(f"{what} taken from {' '.join(whole[0])}; {' '.join(whole[1])} left out")
    if whole:
        return _stacked(columns, names, whole[0])
    part = next(([name for name in group if name in names] for group in groups if names.keys() & set(group)), [])
    if part:
        notes.append(f"{what} incomplete ({' '.join(part)} alone): left out")
    return None


def cloud_from_columns(path: Path, pairs: Iterable[tuple[str, np.ndarray]], notes: Iterable[str] = ()) -> Cloud:
    """A `Cloud` of named (N,) columns, under the names that PLY, PCD, CSV and LAS files use (any case).

    Raises:
        CloudError: a coordinate column is missing.
    """
    said = list(notes)
    columns: dict[str, np.ndarray] = {}
    names: dict[str, str] = {}
    for name, values in pairs:
        if plain_name(name) in names:
            said.append(f"column {name!r} is there twice (as {names[plain_name(name)]!r}): the first is read")
            continue
        columns[name], names[plain_name(name)] = values, name
    coord = _group(columns, names, XYZ_NAMES, "coordinates", [])
    if coord is None:
        have = ", ".join(columns) or "none"
        raise CloudError(f"{path}: has no columns x, y, z (found: {have}); export with coordinates")
    color = _group(columns, names, COLOR_NAMES, "colour", said)
    normal = _group(columns, names, NORMAL_NAMES, "normals", said)
    scalars = {}
    for target, wanted in SCALAR_NAMES.items():
        name = pick(names, wanted, target, said)
        if name is not None:
            scalars[target] = (name, columns[name])
    is_splats = all(name in names for name in SPLAT_NAMES)
    said += unused(names, (*KNOWN_NAMES, *(SPLAT_NAMES if is_splats else ())), SPLAT_REST if is_splats else ())
    if is_splats and color is None:
        harmonic = _stacked(columns, names, SPLAT_NAMES).astype(np.float64)
        color = np.rint(255 * np.clip(np.nan_to_num(0.5 + SH_0 * harmonic, nan=0.0), 0, 1)).astype(np.uint8)
        said.append("3D Gaussian splats: colour from f_dc")
    cloud = build_cloud(path, coord, color, normal, scalars, said)
    return _without_faint(path, cloud, columns[names["opacity"]]) if is_splats and "opacity" in names else cloud


def _without_faint(path: Path, cloud: Cloud, logit: np.ndarray) -> Cloud:
    """Without the splats whose opacity, the sigmoid of the file's number, is under 0.1."""
    solid = logit.astype(np.float64) >= np.log(FAINT / (1 - FAINT))
    faint = int(len(solid) - solid.sum())
    if faint == len(solid):
        raise CloudError(f"{path}: all {faint} splats are fainter than opacity {FAINT}; check the export")
    if faint:
        cloud.notes.append(f"dropped {faint} splats fainter than opacity {FAINT}")
        cloud = cloud.select(solid)
    return cloud


def looks_like_normals(values: np.ndarray) -> bool:
    """Whether three unnamed columns are unit vectors rather than colours."""
    number = values[:: max(1, len(values) // 5000)].astype(np.float64)
    length = np.linalg.norm(number, axis=1)
    unit = np.abs(length - 1.0) < 0.02
    return bool(number.size and unit.mean() > 0.95 and (number < -1e-6).any())


def cloud_from_matrix(path: Path, values: np.ndarray, notes: Iterable[str] = ()) -> Cloud:
    """A `Cloud` of an (N, 3 | 6 | 9) matrix: xyz, then colour (or unit normals when they look so), then normals."""
    if values.ndim != 2 or values.shape[1] not in (3, 6, 9):
        raise CloudError(
            f"{path}: array has shape {values.shape}; (N, 3) xyz, (N, 6) xyz+rgb or (N, 9) xyz+rgb+normal is needed"
        )
    said = list(notes)
    color = values[:, 3:6] if values.shape[1] >= 6 else None
    normal = values[:, 6:9] if values.shape[1] == 9 else None
    if color is not None and values.dtype.kind in "fiu" and looks_like_normals(color):
        if normal is None:
            color, normal = None, color
            said.append("columns 4-6 are unit vectors: taken as normals")
        elif not looks_like_normals(normal):
            color, normal = normal, color
            said.append("columns 4-6 are unit vectors: taken as normals, and 7-9 as colour")
    return build_cloud(path, values[:, :3], color, normal, notes=said)

"""One cloud to one scene folder: the checks, guesses and repairs behind ``package.py``."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.clouds.gravity import AXES, UpGuess, rotation_to_z, up_of
from data_tools.clouds.io import (
    Cloud,
    CloudError,
    check_bounds,
    check_shape,
    drop_far,
    drop_not_finite,
    drop_repeats,
    estimate_normals,
    grid_subsample,
    inner_viewpoints,
    read_cloud,
)
from data_tools.clouds.normals import make_tree, nearest_distance
from data_tools.stages.record import StageRecord
from data_tools.stages.scene_folder import is_done, read_meta, safe_name, settings_hash, write_scene

VERSION = 1  # part of the settings hash: raise it when the same cloud gives another folder
METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
UNITS = ("auto", *METRES)
UPS = ("auto", *AXES)
ROOM_HEIGHT, ROOM_WIDTH = 2.5, 5.0  # what a unit is judged by, metres
SMALL_ROOM, LARGE_ROOM = 1.0, 60.0
FAR_SHARE = 0.001  # more outliers than this are no outliers
NEIGHBOURS = 32  # points per plane of the estimated normals, as in the RoomTours release
FINGERPRINT_BYTES = 1 << 18


@dataclass(frozen=True)
class PackageSettings:
    """What decides a scene's bytes, with its cloud.

    Attributes:
        unit: of the file's coordinates: "auto", "m", "cm", "mm".
        up: the file's up axis: "auto" (any direction, from its surfaces), "x", "y", "z", "-x", "-y", "-z".
        normals: "auto" (the file's, else estimated), "estimate", "keep" (the file's or none), "none".
        labels: write segment and instance where the cloud has them.
        grid: edge in metres of the cubes to keep one point of; 0 keeps all.
        normal_dtype: "float32" or "float16".
    """

    unit: str = "auto"
    up: str = "auto"
    normals: str = "auto"
    labels: bool = False
    grid: float = 0.0
    normal_dtype: str = "float32"

    def __post_init__(self) -> None:
        """Refuse what would fail later: a ValueError of one line."""
        if self.unit not in UNITS or self.up not in UPS:
            raise ValueError(f"unit {self.unit!r} / up {self.up!r}: choose from {', '.join(UNITS)} / {', '.join(UPS)}")
        if self.normals not in ("auto", "estimate", "keep", "none") or self.normal_dtype not in ("float32", "float16"):
            raise ValueError(f"normals {self.normals!r} / dtype {self.normal_dtype!r} is unknown; see --help")
        if not 0 <= self.grid < 1:
            raise ValueError(f"grid {self.grid} must be in [0, 1) metres")

    def digest(self) -> str:
        """Hash that changes when a scene would."""
        return settings_hash({"version": VERSION, **asdict(self)})


def fingerprint(path: Path) -> str:
    """Hash of a file's size and of its beginning, middle and end: equal for a copy, whatever its time stamps.

    Of a folder: of a scene's arrays, else of all visible files (photos).
    """
    hasher = hashlib.blake2b(digest_size=8)
    files = [path]
    if path.is_dir():
        is_scene = (path / "coord.npy").is_file()
        found = path.glob("*.npy" if is_scene else "*")  # a file browser may leave hidden ones
        files = sorted(file for file in found if file.is_file() and not file.name.startswith("."))
    for file in files:
        size = file.stat().st_size
        hasher.update(f"{file.name if path.is_dir() else ''}:{size}".encode())
        with file.open("rb") as handle:
            for start in sorted({0, max(0, size // 2), max(0, size - FINGERPRINT_BYTES)}):
                handle.seek(start)
                hasher.update(handle.read(FINGERPRINT_BYTES))
    return hasher.hexdigest()


def guess_unit(height: float, width: float) -> tuple[str, bool]:
    """The unit in which a cloud of this height and width is most like a room, and whether it then is like one.

    The height decides more than the width: ceilings differ less than floor plans.
    """

    def cost(scale: float) -> float:
        tall = np.log(max(height * scale, 1e-9) / ROOM_HEIGHT) / 0.5
        wide = np.log(max(width * scale, 1e-9) / ROOM_WIDTH) / 0.8
        return float(tall**2 + wide**2)

    unit = min(METRES, key=lambda name: cost(METRES[name]))
    # a whole flat or a corner of a room is still in metres: other units must be ten times likelier to be believed
    if SMALL_ROOM / 2 <= width <= LARGE_ROOM:
        unit = "m"
    fits = SMALL_ROOM <= width * METRES[unit] <= LARGE_ROOM
    return (unit, True) if fits else ("m", False)


def _clean(cloud: Cloud, record: StageRecord) -> Cloud:
    dropped: dict[str, int] = {}
    cloud, dropped["not finite"] = drop_not_finite(cloud)
    if not len(cloud):
        raise CloudError("holds no finite point; check the export")
    cloud, dropped["repeated"] = drop_repeats(cloud)
    if len(cloud) == 1 and dropped["repeated"]:
        raise CloudError(f"all {dropped['repeated'] + 1} points are equal; check the export")
    flat = check_shape(cloud.coord)
    record.notes += [flat] if flat else []
    near, far = drop_far(cloud)
    if 0 < far <= max(1, FAR_SHARE * len(cloud)):
        cloud, dropped["far outliers"] = near, far
    record.result["dropped"] = {name: count for name, count in dropped.items() if count}
    record.notes += [f"dropped {count} {name}" for name, count in record.result["dropped"].items()]
    return cloud


def _level(cloud: Cloud, settings: PackageSettings, record: StageRecord) -> tuple[np.ndarray, UpGuess | None]:
    """Rotation (3, 3) that makes the cloud z-up, and the guess if there was one."""
    if settings.up != "auto":
        record.result["up"] = f"{settings.up} (given)"
        return rotation_to_z(AXES[settings.up]), None
    guess = up_of(cloud)
    if not guess.found:
        record.result["up"] = "kept"
        record.notes.append(f"up cannot be told ({guess.reason}); axes kept, give --up if z is not up")
        return np.eye(3), guess
    x, y, z = guess.up
    tilt = float(np.degrees(np.arccos(np.clip(z, -1, 1))))
    record.result["up"] = "z" if tilt < 0.5 else f"({x:.2f} {y:.2f} {z:.2f})"
    if tilt >= 0.5:
        record.notes.append(f"turned by {tilt:.1f} degrees to z-up ({guess.reason})")
    return rotation_to_z(guess.up), guess


def _scale(extent: np.ndarray, settings: PackageSettings, record: StageRecord) -> float:
    height, width = float(extent[2]), float(extent[:2].max())
    if settings.unit != "auto":
        record.result["unit"] = f"{settings.unit} (given)"
        return METRES[settings.unit]
    unit, fits = guess_unit(height, width)
    record.result["unit"] = unit if fits else "m?"
    if not fits:
        record.notes.append(f"{width:.3g} wide is no room in m, cm or mm; taken as metres, give --unit if they are not")
    elif unit != "m":
        record.notes.append(f"{height:.3g} high and {width:.3g} wide: taken as {unit}, scaled to metres")
    return METRES[unit]


def _normals(cloud: Cloud, settings: PackageSettings, record: StageRecord, workers: int) -> np.ndarray | None:
    """Normals as the settings ask; those of a file that are zero are estimated."""
    known = None if cloud.normal is None else np.abs(cloud.normal).sum(axis=1) > 0
    if settings.normals == "none" or (settings.normals == "keep" and known is None):
        return None
    if settings.normals == "keep" or (settings.normals == "auto" and known is not None and known.all()):
        return cloud.normal
    view = inner_viewpoints(cloud.coord)
    estimated = estimate_normals(cloud.coord, NEIGHBOURS, view, workers=workers)
    if settings.normals == "estimate" or known is None or cloud.normal is None:
        record.notes.append(f"normals estimated from {NEIGHBOURS} neighbours")
        return estimated
    record.notes.append(f"normals of {int((~known).sum())} points estimated")
    return np.where(known[:, None], cloud.normal, estimated)


def prepare_cloud(
    cloud: Cloud, settings: PackageSettings, record: StageRecord, workers: int = 1
) -> tuple[Cloud, dict[str, Any]]:
    """Clean, level, scale and complete a cloud, which is not changed; what happened is written into the record.

    Returns:
        The cloud in metres, z up, floor at z = 0, x and y centred; and the part of meta.json that says how it was
        made, with ``transform`` (4, 4): file coordinates to scene coordinates.

    Raises:
        CloudError: nothing usable is left.
    """
    record.notes += cloud.notes
    cloud = _clean(cloud, record)
    rotation, guess = _level(cloud, settings, record)
    coord = cloud.coord.astype(np.float64) @ rotation.T
    extent = np.ptp(np.quantile(coord, [0.002, 0.998], axis=0), axis=0)
    scale = _scale(extent, settings, record)
    coord *= scale
    low, high = coord.min(axis=0), coord.max(axis=0)
    floor = float(np.quantile(coord[:, 2], 0.002))
    shift = -np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, floor])
    out = cloud.select(np.arange(len(cloud)))
    out.coord = (coord + shift).astype(np.float32)
    if cloud.normal is not None:
        out.normal = (cloud.normal.astype(np.float64) @ rotation.T).astype(np.float32)
    check_bounds(out.coord)
    if settings.grid > 0:
        before = len(out)
        out = grid_subsample(out, settings.grid)
        record.notes.append(f"{before} -> {len(out)} points on a {settings.grid} m grid")
    out.normal = _normals(out, settings, record, workers)
    if out.color is None:
        record.notes.append("no colour")
    if not settings.labels:
        there = [name for name in ("segment", "instance") if getattr(out, name) is not None]
        record.notes += [f"labels are there ({', '.join(there)}): --labels writes them"] if there else []
        out.segment = out.instance = None
    elif out.segment is None and out.instance is None:
        record.notes.append("no labels")
    transform = np.eye(4)
    transform[:3, :3] = scale * rotation
    transform[:3, 3] = shift - transform[:3, :3] @ cloud.origin
    record.result.update(points=len(out), size=[round(float(v), 3) for v in np.ptp(out.coord, axis=0)])
    up_meta = {} if guess is None else {"found": guess.found, "reason": guess.reason, "margin": round(guess.margin, 4)}
    return out, {
        "transform": transform.tolist(),
        "unit": record.result["unit"],
        "up": {"direction": record.result["up"], **up_meta},
        "spacing": round(nearest_distance(out.coord, make_tree(out.coord), np.random.default_rng(0), workers), 6),
    }


def package_cloud(
    path: str | Path,
    out_dir: str | Path,
    settings: PackageSettings | None = None,
    name: str | None = None,
    overwrite: bool = False,
    workers: int = 1,
) -> StageRecord:
    """Package one cloud as ``out_dir/<name>``; never raises for a bad cloud, the record says why it failed.

    Args:
        out_dir: the split's folder, ``<out>/<split>``.
        name: scene folder; default from the file's name.

    Returns:
        The record; its result has ``source`` (the path given) and, once that was read, ``dropped`` (points left out, by
        reason), ``points``, ``size`` (metres along x, y, z), ``unit`` (of the file) and ``up`` (in words).

    Raises:
        OSError: of the output (a full disk), since the next cloud would meet it too.
    """
    path, out_dir = Path(path), Path(out_dir)
    settings = settings or PackageSettings()
    record = StageRecord("package", name or scene_stem(path), result={"source": str(path)})
    folder = out_dir / record.item
    try:
        mark = fingerprint(path)
        digest = settings_hash({"settings": settings.digest(), "source": mark})
        record.settings_hash, record.input_hash = digest, mark
        if not overwrite and is_done(folder, digest):
            return _skipped(record, folder)
        cloud, made = prepare_cloud(read_cloud(path), settings, record, workers)
    except (CloudError, MemoryError) as error:
        record.status, record.permanent = "failed", isinstance(error, CloudError)
        text = str(error) or "does not fit into memory; thin it out first"
        record.reason = " ".join((text if str(path) in text else f"{path}: {text}").split())
        return record
    except OSError as error:
        record.status = "failed"
        record.reason = f"{path}: cannot be read ({error.strerror or error}); check the file and its rights"
        return record
    meta = {
        **made,
        "source": {"file": path.name, "path_id": path_id(path), "fingerprint": mark},
        "settings": asdict(settings),
        "settings_hash": digest,
        "dropped": record.result["dropped"],
        "notes": record.notes,
    }
    write_scene(folder, cloud, meta, settings.normal_dtype)
    return record


def _skipped(record: StageRecord, folder: Path) -> StageRecord:
    meta = read_meta(folder) or {}
    up = str(meta.get("up", {}).get("direction", ""))
    unit = str(meta.get("unit", ""))
    record.skipped = True
    record.result.update(points=int(meta.get("num_points", 0)), size=list(meta.get("extent", [])), unit=unit, up=up)
    return record


def scene_stem(path: Path) -> str:
    """Scene name of a path: the file's name without its ending, the folder's name for a scene folder."""
    return safe_name(path.resolve().name if path.is_dir() else path.stem)


def path_id(path: Path) -> str:
    """Six hexadecimal digits of the folder a cloud lies in, to tell equal names apart."""
    return hashlib.blake2b(os.fsencode(os.path.realpath(path)), digest_size=3).hexdigest()

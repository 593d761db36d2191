"""Plain clouds in one place: read, write, thin out, check, normals. NumPy and SciPy only, Open3D for meshes.

This is the one module of ``data_tools`` that ``lam3c_plugin``'s command line may import.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_tools.clouds.arrays import read_arrays, read_scene_folder
from data_tools.clouds.colors import color_span, color_to_uint8
from data_tools.clouds.las import read_las
from data_tools.clouds.meshes import MESH_SUFFIXES, read_mesh, read_ply_mesh
from data_tools.clouds.normals import (
    cell_means,
    estimate_normals,
    grid_cells,
    inner_viewpoints,
    orient_normals,
    plane_fits,
)
from data_tools.clouds.pcd import read_pcd
from data_tools.clouds.ply import read_ply, write_ply
from data_tools.clouds.text import read_text
from data_tools.clouds.types import Cloud, CloudError, unit_rows

__all__ = [
    "CLOUD_SUFFIXES",
    "Cloud",
    "CloudError",
    "cell_means",
    "check_bounds",
    "check_shape",
    "color_span",
    "color_to_uint8",
    "drop_far",
    "drop_not_finite",
    "drop_repeats",
    "estimate_normals",
    "grid_cells",
    "grid_subsample",
    "inner_viewpoints",
    "orient_normals",
    "plane_fits",
    "read_cloud",
    "unit_rows",
    "usable_cloud",
    "write_ply",
]


def _read_ply(path: Path) -> Cloud:
    """A PLY file's points, or points drawn from its triangles."""
    cloud, note = read_ply_mesh(path)
    if cloud is None:
        cloud = read_ply(path)
        cloud.notes += [note] if note else []
    return cloud


READERS: dict[str, Callable[[Path], Cloud]] = {
    ".ply": _read_ply,
    ".pcd": read_pcd,
    ".npz": read_arrays,
    ".npy": read_arrays,
    ".xyz": read_text,
    ".txt": read_text,
    ".csv": read_text,
    ".las": read_las,
    ".laz": read_las,
    **dict.fromkeys(MESH_SUFFIXES, read_mesh),
}
CLOUD_SUFFIXES = tuple(READERS)
THIN = 1e-3  # a cloud this many times longer than wide is a line
MAX_CELLS = 1 << 16  # PTv3's curves take 16 bits per axis


def read_cloud(path: str | Path) -> Cloud:
    """Read a cloud of any format in `CLOUD_SUFFIXES`, or a scene folder with ``coord.npy``.

    Coordinates keep the file's unit and axes; colours become 0..255; ``notes`` say what was guessed, clipped or left
    out. Points that are not finite are still there.

    Raises:
        CloudError: missing, empty, unknown, damaged or cut off; one line with the file and the cure.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return read_scene_folder(path)
        if not path.exists():
            raise CloudError(f"{path}: does not exist; check the path")
        reader = READERS.get(path.suffix.lower())
        if reader is None:
            raise CloudError(f"{path}: format {path.suffix!r} is unknown; give one of {' '.join(CLOUD_SUFFIXES)}")
        if path.stat().st_size == 0:
            raise CloudError(f"{path}: is empty (0 bytes); copy it again")
        return reader(path)
    except OSError as error:
        raise CloudError(f"{path}: cannot be read ({error.strerror or error}); check the file and its rights") from None
    except MemoryError:
        raise CloudError(f"{path}: does not fit into memory; thin it out first or give it alone (--jobs 1)") from None


def drop_not_finite(cloud: Cloud) -> tuple[Cloud, int]:
    """Without the points that have a coordinate that is not finite, and how many those were."""
    finite = np.isfinite(cloud.coord).all(axis=1)
    dropped = int(len(finite) - finite.sum())
    return (cloud.select(finite), dropped) if dropped else (cloud, 0)


def drop_repeats(cloud: Cloud) -> tuple[Cloud, int]:
    """Without the points whose coordinates were there before (the first stays, order is kept), and how many."""
    rows = np.ascontiguousarray(cloud.coord + np.float32(0))  # -0.0 becomes 0.0, so that equal points have equal bytes
    _, first = np.unique(rows.view("V12").reshape(-1), return_index=True)
    dropped = len(cloud) - len(first)
    return (cloud.select(np.sort(first)), dropped) if dropped else (cloud, 0)


def drop_far(cloud: Cloud, factor: float = 20.0) -> tuple[Cloud, int]:
    """Without gross outliers: points farther from the middle than ``factor`` times the 90 % spread, and how many."""
    low, high = np.quantile(cloud.coord, [0.05, 0.95], axis=0)
    spread = float((high - low).max())
    if spread <= 0:
        return cloud, 0
    near = (np.abs(cloud.coord - (low + high) / 2) <= factor * spread).all(axis=1)
    dropped = int(len(near) - near.sum())
    return (cloud.select(near), dropped) if dropped else (cloud, 0)


def grid_subsample(cloud: Cloud, cell: float) -> Cloud:
    """One point per cube of edge ``cell``: mean coordinate and colour, labels of the cell's first point, order kept."""
    if cell <= 0:
        raise CloudError(f"grid size {cell} is not positive; give metres, for example 0.01")
    first, inverse, counts = grid_cells(cloud.coord, cell)
    order = np.argsort(first, kind="stable")
    out = cloud.select(first[order])
    out.coord = cell_means(cloud.coord, inverse, counts)[order].astype(np.float32)
    if cloud.color is not None:
        out.color = np.rint(cell_means(cloud.color, inverse, counts)[order]).astype(np.uint8)
    if cloud.normal is not None:
        mean = unit_rows(cell_means(cloud.normal, inverse, counts)[order])
        out.normal = np.where(
            np.abs(mean).sum(axis=1, keepdims=True) > 0, mean, out.normal
        )  # opposite sides cancel out
    return out


def check_shape(coord: np.ndarray) -> str:
    """Refuse points (N, 3) that are no surface, in any unit; strays beyond the 1 % and 99 % quantiles do not count.

    Returns:
        A note where all points lie on one plane, else an empty text.

    Raises:
        CloudError: fewer than three points, all at one place, or all on one line.
    """
    if len(coord) < 3:
        raise CloudError(f"holds {len(coord)} point(s); a scene needs a surface, check the export")
    value = coord.astype(np.float64)
    low, high = np.quantile(value, [0.01, 0.99], axis=0)
    inside = value[((value >= low) & (value <= high)).all(axis=1)]
    value = inside if len(inside) > 3 and np.ptp(inside, axis=0).any() else value
    if not np.ptp(value, axis=0).any():
        raise CloudError(f"all {len(coord)} points are equal; check the export")
    spread = np.linalg.svd((value - value.mean(axis=0)).T @ (value - value.mean(axis=0)), compute_uv=False) ** 0.5
    if spread[1] < THIN * spread[0]:
        raise CloudError(f"its {len(coord)} points lie on one line; a scene needs a surface, check the columns x, y, z")
    flat = spread[2] < 1e-5 * spread[0]
    return "all points lie on one plane: a floor or a wall, no room" if flat else ""


def usable_cloud(cloud: Cloud) -> Cloud:
    """The finite points of a cloud that a scene can be made of, with a note of what was dropped.

    Raises:
        CloudError: no finite point, or what `check_shape` refuses.
    """
    cloud, dropped = drop_not_finite(cloud)
    if not len(cloud):
        raise CloudError(f"none of its {dropped} points is finite; check the export")
    if dropped:
        cloud.notes.append(f"dropped {dropped} points that are not finite")
    note = check_shape(cloud.coord)
    cloud.notes += [note] if note else []
    return cloud


def check_bounds(coord: np.ndarray, grid: float = 0.02) -> None:
    """Refuse a cloud (N, 3) in metres that cannot be a scene; ``grid`` is the cell of the backbone's grid in metres.

    Raises:
        CloudError: what `check_shape` refuses, less than one grid cell, or more than 2^16 along an axis.
    """
    check_shape(coord)
    extent = np.ptp(coord.astype(np.float64), axis=0)
    if extent.max() < grid:
        raise CloudError(
            f"is {extent.max():.3g} m wide, less than one cell of {grid} m; give --unit or check the export"
        )
    if extent.max() / grid >= MAX_CELLS:
        raise CloudError(
            f"spans {extent.max():.0f} m, more than 2^16 cells of {grid} m; give --unit, or cut it into rooms first"
        )

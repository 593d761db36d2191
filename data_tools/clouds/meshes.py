"""Meshes people have (.obj .stl .glb .off, PLY with triangles) as clouds: points drawn evenly from their surface.

Open3D reads the files (``pip install "lam3c-plugin[open3d]"``); drawing is NumPy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from data_tools.clouds.columns import build_cloud
from data_tools.clouds.types import Cloud, CloudError

MESH_SUFFIXES = (".obj", ".stl", ".glb", ".off")
STEPS = 500  # where no spacing is given: points a 500th of the longest side apart, 1 cm in a room of 5 m
MOST = 4_000_000  # points
FEW_VERTICES = 10_000  # fewer vertices than this are corners of a model, not a scan
DEFAULT_COLORS = ((0.6, 0.6, 0.6), (1.0, 1.0, 1.0))  # of materials that a file says nothing about
SPREAD = np.array([0.7548776662466927, 0.5698402909980532])  # Roberts' R2 sequence: even, as random draws are not
LABELS = re.compile(rb"property \w+ (scalar_)?(label|semantic|segment|class|classification|instance)\w*\r?\n", re.I)
PIP = 'pip install "lam3c-plugin[open3d]"'
APT = "apt-get install libusb-1.0-0 libgl1 libegl1 libgomp1"


@dataclass
class _Part:
    """Triangles of one material: (T, 3, 3) corners, and their colours by corner, by picture or all alike."""

    corners: np.ndarray
    colors: np.ndarray | None = None
    uvs: np.ndarray | None = None
    picture: np.ndarray | None = None
    base: np.ndarray | None = None


def ply_faces(path: Path) -> tuple[int, int, bool]:
    """(vertices, faces, whether the vertices carry labels) that a PLY file's header declares; 0, 0 where it is none."""
    with path.open("rb") as file:
        header = file.read(1 << 16).partition(b"end_header")[0]
    counts = [re.search(rb"element " + name + rb" (\d+)", header) for name in (b"vertex", b"face")]
    vertices, faces = (int(found[1]) if found else 0 for found in counts)
    return vertices, faces, bool(LABELS.search(header.partition(b"element face")[0]))


def read_ply_mesh(path: Path) -> tuple[Cloud | None, str]:
    """A PLY file as a mesh where that is what it is, else None; and a note on its faces, where they are not used.

    Vertices stand for themselves where they carry labels, where the faces are too few to be their surface, and where
    there are many and Open3D is not there.

    Raises:
        CloudError: a model of few vertices, and no Open3D to draw points from its faces.
    """
    vertices, faces, has_labels = ply_faces(path)
    if faces == 0:
        return None, ""
    if has_labels:
        return None, f"{faces} faces not used: the vertices carry labels"
    if 2 * faces < vertices:
        return None, f"{faces} faces not used: they are too few for {vertices} vertices"
    if vertices < FEW_VERTICES:
        return read_mesh(path), ""
    try:
        return read_mesh(path), ""
    except _MissingError:
        return None, f"{faces} faces not used, only the vertices; {PIP} to draw points from the surface"


class _MissingError(CloudError):
    """Open3D, or what it needs, is not there."""


def read_mesh(path: Path, spacing: float | None = None) -> Cloud:
    """Points drawn evenly from a mesh's surface; the same file gives the same points.

    Args:
        spacing: mean distance of neighbouring points, in the file's unit; None takes a 500th of the longest side.

    Returns:
        The points with their faces' normals, and colours from the texture, the corners or the materials, where the file
        has any; coordinates keep the file's unit and axes (a glTF file is y-up).

    Raises:
        CloudError: Open3D is missing, or reads no triangle from the file; one line.
    """
    parts, notes = _read_parts(path), []
    for part in parts:
        finite = np.isfinite(part.corners).all(axis=(1, 2))
        if not finite.all():
            notes.append(f"{int((~finite).sum())} triangles with a corner that is not finite left out")
            part.corners = np.where(finite[:, None, None], part.corners, 0)  # no area: nothing is drawn from them
    corners = np.concatenate([part.corners for part in parts])
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(cross, axis=1) / 2
    total = float(areas.sum())
    if not total > 0:
        raise CloudError(f"{path}: its {len(corners)} triangles have no area; export the mesh again")
    longest = float(np.ptp(corners[areas > 0].reshape(-1, 3), axis=0).max())
    step = spacing if spacing else longest / STEPS
    count = int(min(max(total / step**2, 1000), MOST))
    place = (np.arange(count) + 0.5) / count * total  # one point to every equal share of the area
    triangle = np.minimum(np.searchsorted(np.cumsum(areas), place, side="right"), len(areas) - 1)
    draw = np.arange(count)[:, None] * SPREAD % 1
    root = np.sqrt(draw[:, :1])  # weights of the corners for points even in their triangles
    weight = np.concatenate([1 - root, root * (1 - draw[:, 1:]), root * draw[:, 1:]], axis=1)
    coord = np.einsum("nk,nkc->nc", weight, corners[triangle])
    color = _colors(parts, triangle, weight)
    notes.append(
        f"{count} points drawn from {len(corners)} triangles, {np.sqrt(total / count):.3g} apart (the file's unit)"
    )
    if path.suffix.lower() == ".glb":
        notes.append("glTF files are y-up")
    return build_cloud(path, coord, color, cross[triangle], notes=notes)


def _colors(parts: list[_Part], triangle: np.ndarray, weight: np.ndarray) -> np.ndarray | None:
    """(N, 3) uint8 of points in triangles of the parts one after the other; None where no part has a colour."""
    if all(part.colors is None and part.picture is None and part.base is None for part in parts):
        return None
    out = np.full((len(triangle), 3), 128, np.uint8)
    first = 0
    for part in parts:
        here = (triangle >= first) & (triangle < first + len(part.corners))
        row, share = triangle[here] - first, weight[here]
        first += len(part.corners)
        if part.picture is not None:
            u, v = np.einsum("nk,nkc->nc", share, part.uvs[row]).T
            height, width = part.picture.shape[:2]
            at = (np.floor((1 - v) % 1 * height).astype(int) % height, np.floor(u % 1 * width).astype(int) % width)
            out[here] = part.picture[at]
        elif part.colors is not None:
            out[here] = np.rint(255 * np.clip(np.einsum("nk,nkc->nc", share, part.colors[row]), 0, 1))
        elif part.base is not None:
            out[here] = np.rint(255 * part.base)
    return out


def _import_open3d(path: Path) -> ModuleType:
    try:
        import open3d
    except ModuleNotFoundError as error:
        if error.name != "open3d":
            raise _MissingError(f"{path}: Open3D cannot be imported ({error}); {PIP}") from None
        raise _MissingError(f"{path}: reading a mesh needs Open3D: {PIP}") from None
    except (ImportError, OSError) as error:  # a system library
        raise _MissingError(f"{path}: Open3D cannot be imported ({str(error).splitlines()[0]}); {APT}") from None
    open3d.utility.set_verbosity_level(open3d.utility.VerbosityLevel.Error)
    return open3d


def _read_parts(path: Path) -> list[_Part]:
    """The triangles of a file, a part a material."""
    open3d = _import_open3d(path)
    if path.suffix.lower() == ".ply":
        found = [(open3d.io.read_triangle_mesh(str(path)), None)]
    else:
        model = open3d.io.read_triangle_model(str(path))
        found = [(part.mesh, model.materials[part.material_idx]) for part in model.meshes]
    parts = [_part(mesh, material, path) for mesh, material in found if len(mesh.triangles)]
    if not parts:
        raise CloudError(f"{path}: Open3D reads no triangle from it; check the file, or export the mesh again")
    return parts


def _part(mesh: Any, material: Any, path: Path) -> _Part:
    triangles = np.asarray(mesh.triangles)
    part = _Part(np.asarray(mesh.vertices)[triangles])
    if mesh.has_vertex_colors():
        part.colors = np.asarray(mesh.vertex_colors)[triangles]
    if material is None:
        return part
    if material.albedo_img is not None and len(mesh.triangle_uvs) == 3 * len(triangles):
        picture = np.asarray(material.albedo_img)
        if picture.ndim < 3 or picture.shape[2] < 3:  # grey
            picture = np.repeat(picture.reshape(*picture.shape[:2], -1)[..., :1], 3, axis=2)
        part.picture = picture[..., :3]
        part.uvs = np.asarray(mesh.triangle_uvs).reshape(-1, 3, 2)
    base = np.asarray(material.base_color, dtype=np.float64)[:3]
    if not any(np.allclose(base, default, atol=1e-3) for default in DEFAULT_COLORS):
        is_linear = path.suffix.lower() == ".glb"
        part.base = np.clip(base, 0, 1) ** (1 / 2.2) if is_linear else np.clip(base, 0, 1)
    return part

"""Pictures without a display, in NumPy and SciPy: PCA colours of features, point clouds as images, contact sheets.

Images are (H, W, 3) uint8 arrays, rows from top to bottom.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from data_tools.stages.files import replacing

VIEWS = ("top", "oblique")
BACKGROUND = 255
_SUPERSAMPLING = 2


def _as_array(values: Any) -> np.ndarray:
    """NumPy array of a tensor on any device, or of anything array-like."""
    return np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values)


def pca_colors(feat: Any, percentiles: tuple[float, float] = (1.0, 99.0)) -> np.ndarray:
    """First three principal components of features as colours.

    The sign of a component is fixed by its largest-magnitude loading being positive, so equal features give equal
    colours on every machine. Each component is scaled between two percentiles: single outliers do not wash it out.

    Args:
        feat: (N, C) features, tensor or array. Rows that are not finite become mid grey.
        percentiles: lower and upper percentile that map to 0 and 1.

    Returns:
        (N, 3) float32 in [0, 1]; components that do not exist (C < 3, or no variance) are 0.5.

    Raises:
        ValueError: ``feat`` is not (N, C).
    """
    feat = _as_array(feat).astype(np.float64)
    if feat.ndim != 2:
        raise ValueError(f"feat must be (N, C), got {feat.shape}")
    colors = np.full((len(feat), 3), 0.5, dtype=np.float32)
    finite = np.isfinite(feat).all(axis=1)
    if finite.sum() < 2 or feat.shape[1] == 0:
        return colors
    rows = feat[finite]
    rows = rows - rows.mean(axis=0)
    # C is some hundreds and N some ten thousands: the covariance is the small side
    value, vector = np.linalg.eigh(rows.T @ rows)
    order = np.argsort(value)[::-1][:3]
    for channel, component in enumerate(order):
        if value[component] <= 1e-12 * max(value[order[0]], 1e-300):
            continue
        axis = vector[:, component]
        axis = axis * np.sign(axis[np.abs(axis).argmax()])
        score = rows @ axis
        low, high = np.percentile(score, percentiles)
        if high > low:
            colors[finite, channel] = np.clip((score - low) / (high - low), 0.0, 1.0)
    return colors


def cut_ceiling(coord: np.ndarray, share: float = 0.15) -> np.ndarray:
    """(N,) bool mask of the points below the top ``share`` of a cloud's height (percentiles 1 to 99, z up)."""
    low, high = np.percentile(coord[:, 2], [1.0, 99.0])
    return coord[:, 2] <= high - share * (high - low) if high > low else np.ones(len(coord), dtype=bool)


def cut_front(coord: np.ndarray, toward: np.ndarray, depth: float = 0.1, bins: int = 120) -> np.ndarray:
    """(N,) bool mask that opens a room's near walls, so that a viewer above its side sees what stands before them.

    Seen from the middle, the outermost ``depth`` of every direction that faces the viewer (horizontally along
    ``toward``) is left out, but for the lowest tenth of the height. Works for rooms of any shape and orientation.
    """
    centre = (np.percentile(coord[:, :2], 1.0, axis=0) + np.percentile(coord[:, :2], 99.0, axis=0)) / 2
    flat = coord[:, :2] - centre
    radius, angle = np.linalg.norm(flat, axis=1), np.arctan2(flat[:, 1], flat[:, 0])
    sector = ((angle + np.pi) / (2 * np.pi) * bins).astype(np.int64) % bins
    order = np.lexsort((radius, sector))
    count = np.bincount(sector, minlength=bins)
    # not the very last point: strays behind a wall are none of its outline
    outline = np.zeros(bins)
    last = np.cumsum(count) - 1 - count // 50
    outline[count > 0] = radius[order][last[count > 0]]
    low, high = np.percentile(coord[:, 2], [1.0, 99.0])
    facing = flat @ toward[:2] > 0.1 * radius * np.linalg.norm(toward[:2])
    return ~(facing & (radius > (1 - depth) * outline[sector]) & (coord[:, 2] > low + 0.1 * (high - low)))


def _camera(view: str) -> np.ndarray:
    """Rows: image right, image up, towards the viewer; orthographic, z up."""
    if view == "top":
        return np.eye(3)
    azimuth, elevation = np.deg2rad(-60.0), np.deg2rad(50.0)
    toward = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    right = np.cross([0.0, 0.0, 1.0], toward)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(toward, right), toward])


def _splat_radius(coord: np.ndarray, metres_per_pixel: float) -> int:
    """Half-width in pixels of a point's square, so that neighbouring points of a surface just touch."""
    sample = coord[:: max(1, len(coord) // 2000)]
    distance, _ = cKDTree(coord).query(sample, k=min(4, len(coord)))
    spacing = float(np.median(np.atleast_2d(distance)[:, -1])) if len(coord) > 1 else 0.0
    return int(np.clip(np.ceil(0.65 * spacing / metres_per_pixel), 1, 12))


def _z_buffer(
    pixel: np.ndarray, depth: np.ndarray, color: np.ndarray, width: int, height: int, radius: int
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest point a pixel: image (H, W, 3) and depth (H, W), -inf where there is none.

    A point covers a square of one depth, so the splat is a running maximum of the depth image, first along the rows
    and then along the columns, that carries the point's number along.
    """
    inside = ((pixel >= 0) & (pixel < [width, height])).all(axis=1)
    pixel, depth, color = pixel[inside], depth[inside], color[inside]
    order = np.argsort(depth, kind="stable")  # far to near: the last write to a pixel is its nearest point
    flat = (pixel[:, 1] * width + pixel[:, 0])[order]
    winner = np.full(height * width, -1, dtype=np.int64)
    winner[flat] = order
    winner = winner.reshape(height, width)
    nearest = np.where(winner >= 0, depth[winner] if len(depth) else 0.0, -np.inf).astype(np.float32)
    for axis in (1, 0):
        source_depth, source_winner = nearest.copy(), winner.copy()
        for shift in range(1, radius + 1):
            for sign in (1, -1):
                to = [slice(None), slice(None)]
                there = [slice(None), slice(None)]
                to[axis], there[axis] = (slice(shift, None), slice(None, -shift))[::sign]
                target, source = tuple(to), tuple(there)
                closer = source_depth[source] > nearest[target]
                nearest[target][closer] = source_depth[source][closer]
                winner[target][closer] = source_winner[source][closer]
    image = np.full((height, width, 3), BACKGROUND / 255.0, dtype=np.float32)
    image[winner >= 0] = color[winner[winner >= 0]]
    return image, nearest


def _shade_edges(image: np.ndarray, depth: np.ndarray, strength: float, reach: int) -> np.ndarray:
    """Eye-dome lighting: a pixel behind its neighbours gets darker, which draws the outlines of things."""
    filled = np.isfinite(depth)
    if not filled.any():
        return image
    span = max(float(np.ptp(depth[filled])), 1e-6)
    occlusion = np.zeros(depth.shape, dtype=np.float32)
    base = np.where(filled, depth, 0.0)
    for dy, dx in ((0, reach), (0, -reach), (reach, 0), (-reach, 0)):
        other, there = np.roll(base, (dy, dx), (0, 1)), np.roll(filled, (dy, dx), (0, 1))
        occlusion += np.where(there & filled, np.clip((other - base) / span, 0.0, 0.1), 0.0)
    return image * np.exp(-strength * occlusion)[..., None]


def render_points(
    coord: Any,
    color: Any,
    size: tuple[int, int] = (640, 480),
    view: str = "oblique",
    ceiling_cut: float = 0.15,
    open_front: bool = True,
    shading: float = 4.0,
) -> np.ndarray:
    """Draws a point cloud with a z-buffer, orthographically and filling the image.

    Args:
        coord: (N, 3) metres, z up; rows that are not finite are left out.
        color: (N, 3) in [0, 1], or uint8 0-255.
        size: (width, height) in pixels.
        view: "top" (x to the right, y up) or "oblique" (from above, 50 degrees over the horizon).
        ceiling_cut: share of the height cut off at the top, so that a room can be looked into; 0 keeps all.
        open_front: leave out the near walls in the oblique view (:func:`cut_front`).
        shading: how strongly depth steps are darkened; 0 for flat colours.

    Returns:
        (height, width, 3) uint8; white where nothing is.

    Raises:
        ValueError: the shapes do not fit, or the view is unknown.
    """
    coord, color = _as_array(coord).astype(np.float64), _as_array(color)
    if coord.ndim != 2 or coord.shape[1] != 3 or color.shape != coord.shape:
        raise ValueError(f"coord and color must both be (N, 3), got {coord.shape} and {color.shape}")
    if view not in VIEWS:
        raise ValueError(f"view={view!r} is not one of {VIEWS}")
    color = color / 255.0 if color.dtype == np.uint8 else np.clip(color, 0.0, 1.0)
    width, height = size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING
    keep = np.isfinite(coord).all(axis=1) & np.isfinite(color).all(axis=1)
    if ceiling_cut > 0 and keep.any():
        keep[keep] = cut_ceiling(coord[keep], ceiling_cut)
    if not keep.any():
        return np.full((size[1], size[0], 3), BACKGROUND, dtype=np.uint8)
    axes = _camera(view)
    if view == "oblique" and open_front:
        keep[keep] = cut_front(coord[keep], axes[2])
    camera = coord[keep] @ axes.T
    # a few stray points far out must not shrink the room to a dot
    low, high = np.percentile(camera[:, :2], 0.2, axis=0), np.percentile(camera[:, :2], 99.8, axis=0)
    metres_per_pixel = max(float(((high - low) / (0.94 * np.array([width, height]))).max()), 1e-6)
    pixel = (camera[:, :2] - (low + high) / 2) / metres_per_pixel * [1.0, -1.0] + [width / 2, height / 2]
    radius = _splat_radius(coord[keep], metres_per_pixel)
    image, depth = _z_buffer(np.floor(pixel).astype(np.int64), camera[:, 2], color[keep], width, height, radius)
    image = _shade_edges(image, depth, shading, reach=_SUPERSAMPLING)
    image = image.reshape(size[1], _SUPERSAMPLING, size[0], _SUPERSAMPLING, 3).mean(axis=(1, 3))
    return np.round(image * 255.0).astype(np.uint8)


def contact_sheet(images: Sequence[np.ndarray], columns: int | None = None, gap: int = 8) -> np.ndarray:
    """Images (H, W, 3) uint8 of possibly different sizes in one image, row by row, on white, ``gap`` pixels apart.

    Raises:
        ValueError: there is no image.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one image")
    columns = columns or int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    cell_h, cell_w = max(i.shape[0] for i in images), max(i.shape[1] for i in images)
    shape = (rows * cell_h + (rows + 1) * gap, columns * cell_w + (columns + 1) * gap, 3)
    sheet = np.full(shape, BACKGROUND, dtype=np.uint8)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        top, left = gap + row * (cell_h + gap), gap + column * (cell_w + gap)
        top, left = top + (cell_h - image.shape[0]) // 2, left + (cell_w - image.shape[1]) // 2
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def save_png(path: str | os.PathLike[str], image: np.ndarray) -> Path:
    """Writes an (H, W, 3) uint8 image as PNG (no imaging library needed), under a temporary name first."""
    image = np.ascontiguousarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a PNG is written from (H, W, 3) uint8, got {image.shape} {image.dtype}")

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = image.shape[:2]
    lines = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, -1)], axis=1)
    path = Path(path)
    with replacing(path) as temporary:
        temporary.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(lines.tobytes(), 6))
            + chunk(b"IEND", b"")
        )
    return path

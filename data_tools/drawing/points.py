"""The one point renderer: a z-buffer in NumPy, orthographic, without a display.

Images are (H, W, 3) uint8 arrays, rows from top to bottom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from data_tools.drawing.pictures import INK, WHITE, captioned, contact_sheet, font

View = tuple[float, float]
#: where the viewer is, in degrees: azimuth about z from x towards y, and elevation over the horizon
OBLIQUE: View = (-60.0, 50.0)
TOP: View = (-90.0, 90.0)
_SUPERSAMPLING = 2
_STRIP = 32  # pixels of height for the scale bar


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


def camera_axes(view: View) -> np.ndarray:
    """(3, 3) rows: image right, image up, towards the viewer; z is up in the world."""
    azimuth, elevation = np.deg2rad(view)
    toward = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    return np.stack([right, np.cross(toward, right), toward])


def _unit_cube(coord: np.ndarray) -> tuple[np.ndarray, float]:
    """The cloud moved and scaled into the unit cube (N, 3), and the cube's edge."""
    low, high = (np.array([pick(column) for column in coord.T]) for pick in (np.min, np.max))
    size = max(float((high - low).max()), 1e-6)
    return (coord - low) / size, size


def _cells(unit: np.ndarray, steps: int) -> np.ndarray:
    """(N,) int64 cell of each point of the unit cube, out of ``steps`` a side."""
    return np.minimum((unit * steps).astype(np.int64), steps - 1) @ np.array([1, steps, steps * steps])


def _spacing(unit: np.ndarray) -> float:
    spacing = 0.0
    for steps in (8, 16, 32, 64, 128):
        filled = np.zeros(steps**3, dtype=bool)
        filled[_cells(unit, steps)] = True
        count = np.count_nonzero(filled)
        spacing = float(np.sqrt(count / len(unit))) / steps
        if len(unit) < 12 * count:
            break
    return spacing


def surface_spacing(coord: np.ndarray) -> float:
    """About how far apart neighbouring points of a surface are, in the units of ``coord`` (N, 3).

    By the cells that the surface fills: ever finer ones, until there are few points to a cell.
    """
    unit, size = _unit_cube(coord)
    return size * _spacing(unit)


def cut_backs(coord: np.ndarray, normal: np.ndarray, toward: np.ndarray) -> np.ndarray:
    """(N,) bool mask of the points whose surface faces the viewer; single noisy normals do not speckle it.

    Args:
        coord: (N, 3).
        normal: (N, 3) towards who saw the points; averaged over cubes of about six points' spacing.
        toward: (3,) direction of the viewer.
    """
    unit, _ = _unit_cube(coord)
    cell = _cells(unit, int(np.clip(1 / (6 * _spacing(unit)), 1, 128)))
    return np.bincount(cell, weights=normal @ toward)[cell] > 0


def splat(
    pixel: np.ndarray, depth: np.ndarray, color: np.ndarray, shape: tuple[int, int], radius: int, background: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw points as squares, the nearest on top.

    A point covers a square of one depth, so the splat is a running maximum over the picture, first along the columns
    and then along the rows, of the points' places in the order from far to near.

    Args:
        pixel: (N, 2) int64 column and row; points outside of the picture are left out.
        depth: (N,) larger is nearer.
        color: (N, 3) in [0, 1].
        shape: rows and columns of the picture.
        radius: half-width of a square in pixels.
        background: (3,) in [0, 1].

    Returns:
        the picture (H, W, 3) float32 in [0, 1], and its depth (H, W), -inf where nothing is.
    """
    inside = ((pixel >= 0) & (pixel < shape[::-1])).all(axis=1)
    pixel, depth, color = pixel[inside], depth[inside], color[inside]
    order = np.argsort(depth, kind="stable")  # far to near: the last write to a pixel is its nearest point
    best = np.full(shape[0] * shape[1], -1, dtype=np.int32)  # places in that order
    best[(pixel[:, 1] * shape[1] + pixel[:, 0])[order]] = np.arange(len(order), dtype=np.int32)
    best = best.reshape(shape)
    for lines in (best, best.T):
        source = lines.copy(order="K")  # as it lies in memory: fast for the turned picture too
        for shift in range(1, radius + 1):
            np.maximum(lines[shift:], source[:-shift], out=lines[shift:])
            np.maximum(lines[:-shift], source[shift:], out=lines[:-shift])
    hit = best >= 0
    image = np.broadcast_to(background.astype(np.float32), (*shape, 3)).copy()
    image[hit] = color[order][best[hit]]
    nearest = np.full(shape, -np.inf, dtype=np.float32)
    nearest[hit] = depth[order][best[hit]]
    return image, nearest


def _shade_edges(image: np.ndarray, depth: np.ndarray, strength: float, reach: int) -> np.ndarray:
    """Eye-dome lighting: a pixel behind its neighbours gets darker, which draws the outlines of things."""
    filled = np.isfinite(depth)
    if not filled.any():
        return image
    span = max(float(np.ptp(depth[filled])), 1e-6)
    occlusion = np.zeros(depth.shape, dtype=np.float32)
    base = np.where(filled, depth, np.float32(0))
    for dy, dx in ((0, reach), (0, -reach), (reach, 0), (-reach, 0)):
        other, there = np.roll(base, (dy, dx), (0, 1)), np.roll(filled, (dy, dx), (0, 1))
        occlusion += np.where(there & filled, np.clip((other - base) / span, 0.0, 0.1), 0.0)
    return image * np.exp(-strength * occlusion)[..., None]


def _shown(
    coord: np.ndarray,
    color: np.ndarray,
    normal: np.ndarray | None,
    toward: np.ndarray,
    ceiling_cut: float,
    open_front: bool,
) -> np.ndarray:
    """(N,) bool mask of the finite points that stand in nobody's way."""
    keep = np.isfinite(coord).all(axis=1) & np.isfinite(color).all(axis=1)
    if ceiling_cut > 0 and keep.any():
        keep[keep] = cut_ceiling(coord[keep], ceiling_cut)
    if open_front and keep.any() and toward[2] < 0.999:  # from above, no wall is in the way
        keep[keep] = cut_front(coord[keep], toward) if normal is None else cut_backs(coord[keep], normal[keep], toward)
    return keep


def render_points(
    coord: np.ndarray,
    color: np.ndarray,
    size: tuple[int, int] = (640, 480),
    view: View = OBLIQUE,
    normal: np.ndarray | None = None,
    ceiling_cut: float = 0.15,
    open_front: bool = True,
    shading: float = 4.0,
    background: tuple[int, int, int] = WHITE,
    scale_bar: bool = False,
) -> np.ndarray:
    """Draw a point cloud with a z-buffer, orthographically and filling the image.

    Args:
        coord: (N, 3) metres, z up; rows that are not finite, here or in ``color``, are left out.
        color: (N, 3) in [0, 1], or uint8 0-255.
        size: (width, height) in pixels.
        view: degrees of azimuth and elevation; ``OBLIQUE`` is from above a side, ``TOP`` has x to the right, y up.
        normal: (N, 3) towards who saw the points, or None; see ``open_front``.
        ceiling_cut: share of the height cut off at the top, so that a room can be looked into; 0 keeps all.
        open_front: leave out what hides the room from a viewer at its side: with normals all surfaces that face away
            (`cut_backs`), else the near walls (`cut_front`).
        shading: how strongly depth steps are darkened; 0 for flat colours.
        background: 0-255, where nothing is.
        scale_bar: draw one of 1 m (5 m where that is too short) into a strip below, which ``size`` includes.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ValueError: the shapes do not fit.
    """
    coord, color = np.asarray(coord, dtype=np.float64), np.asarray(color)
    if coord.ndim != 2 or coord.shape[1] != 3 or color.shape != coord.shape:
        raise ValueError(f"coord and color must both be (N, 3), got {coord.shape} and {color.shape}")
    color = color / 255.0 if color.dtype == np.uint8 else np.clip(color, 0.0, 1.0)
    columns, rows = size[0], size[1] - (_STRIP if scale_bar else 0)
    width, height = columns * _SUPERSAMPLING, rows * _SUPERSAMPLING
    axes = camera_axes(view)
    keep = _shown(coord, color, normal, axes[2], ceiling_cut, open_front)
    if not keep.any():
        return np.full((size[1], columns, 3), background, dtype=np.uint8)
    camera = coord[keep] @ axes.T
    # a few stray points far out must not shrink the room to a dot
    low, high = np.percentile(camera[:, :2], 0.2, axis=0), np.percentile(camera[:, :2], 99.8, axis=0)
    metres_per_pixel = max(float(((high - low) / (np.array([width, height]) * 0.94)).max()), 1e-6)
    pixel = (camera[:, :2] - (low + high) / 2) / metres_per_pixel * [1.0, -1.0] + [width / 2, height / 2]
    radius = int(np.clip(np.ceil(0.65 * surface_spacing(coord[keep]) / metres_per_pixel), 1, 12))
    image, depth = splat(
        np.floor(pixel).astype(np.int64), camera[:, 2], color[keep], (height, width), radius, np.array(background) / 255
    )
    image = _shade_edges(image, depth, shading, reach=_SUPERSAMPLING)
    steps = range(_SUPERSAMPLING)
    image = sum(image[i::_SUPERSAMPLING, j::_SUPERSAMPLING] for i in steps for j in steps) / _SUPERSAMPLING**2
    image = np.round(image * 255.0).astype(np.uint8)
    if not scale_bar:
        return image
    return np.concatenate([image, _scale_bar(columns, background, 1.0 / (metres_per_pixel * _SUPERSAMPLING))])


def _scale_bar(width: int, background: tuple[int, int, int], pixels_per_metre: float) -> np.ndarray:
    """The strip below a picture."""
    metres = 1 if pixels_per_metre > 45 else 5
    strip = Image.new("RGB", (width, _STRIP), background)
    draw, end = ImageDraw.Draw(strip), 20 + metres * pixels_per_metre
    draw.line([(20, _STRIP // 2), (end, _STRIP // 2)], fill=INK, width=3)
    draw.text((end + 6, _STRIP // 2 - 10), f"{metres} m", fill=INK, font=font(15))
    return np.asarray(strip)


def turntable(
    coord: np.ndarray,
    colors: Mapping[str, np.ndarray],
    title: str,
    size: tuple[int, int] = (480, 360),
    turns: Sequence[float] = (0.0, 90.0, 180.0, 270.0),
) -> np.ndarray:
    """A cloud seen obliquely from several sides: a named row for each of ``colors``, a column for each turn.

    Args:
        coord: (N, 3) metres, z up.
        colors: what stands above the row -> (N, 3), uint8 or floats in [0, 1].
        title: above all.
        size: width and height of one view in pixels.
        turns: degrees that the viewer goes around the cloud, clockwise seen from above.

    Returns:
        (H, W, 3) uint8.
    """
    views = [(OBLIQUE[0] - turn, OBLIQUE[1]) for turn in turns]
    rows = []
    for name, color in colors.items():
        row = contact_sheet([render_points(coord, color, size, view) for view in views], columns=len(views), gap=4)
        rows.append(captioned(row, name))
    return captioned(np.concatenate(rows), title, 18)

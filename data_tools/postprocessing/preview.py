"""One picture of a scene for people: from above without the ceiling, and into the room like a doll's house."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_tools.clouds.io import Cloud, cell_means, grid_cells, unit_rows
from data_tools.postprocessing.layout import Layout

PAPER = np.array([247, 247, 245], dtype=np.uint8)
INK, FAINT = (40, 40, 45), (150, 150, 155)
PANEL = (560, 660)  # rows, columns of each of the two views
MOST = 600_000  # points drawn
LEAST_SPLAT, MOST_SPLAT = 1, 6  # pixels
AROUND = 0.12  # metres, over which normals are averaged to leave out near walls
ROOF = 0.94  # of the height: the ceiling is left out of the view into the room
CUT = 0.75  # of the height: what lies above (lamps, ceiling) is left out of the view from above


def splat(pixel: np.ndarray, depth: np.ndarray, color: np.ndarray, size: int, shape: tuple[int, int]) -> np.ndarray:
    """Draw points as squares, the nearest on top.

    Args:
        pixel: (N, 2) row, column, float; depth: (N,) larger is farther; color: (N, 3) uint8.
        size: edge of the squares in pixels.
        shape: rows, columns of the picture.

    Returns:
        (rows, columns, 3) uint8.
    """
    rank = np.empty(len(depth), dtype=np.int64)
    rank[np.argsort(-depth, kind="stable")] = np.arange(1, len(depth) + 1)  # the nearest has the largest rank
    best = np.zeros(shape[0] * shape[1], dtype=np.int64)
    corner = np.rint(pixel - (size - 1) / 2).astype(np.int64)
    by_rank = np.argsort(rank, kind="stable")
    corner, rank = corner[by_rank], rank[by_rank]
    for row in range(size):
        for column in range(size):
            r, c = corner[:, 0] + row, corner[:, 1] + column
            inside = (r >= 0) & (r < shape[0]) & (c >= 0) & (c < shape[1])
            layer = np.zeros_like(best)
            layer[(r * shape[1] + c)[inside]] = rank[inside]  # in the order of rank: the last write is the nearest
            np.maximum(best, layer, out=best)
    picture = np.broadcast_to(PAPER, (len(best), 3)).copy()
    hit = best > 0
    picture[hit] = color[by_rank][best[hit] - 1]
    return picture.reshape(*shape, 3)


def _shade(cloud: Cloud, light: np.ndarray) -> np.ndarray:
    """Colours (N, 3) with a little light on them, so that walls of one colour keep their corners."""
    color = np.full((len(cloud), 3), 190.0, dtype=np.float32) if cloud.color is None else cloud.color.astype(np.float32)
    if cloud.normal is not None:
        color = color * (0.84 + 0.2 * (cloud.normal @ light.astype(np.float32))[:, None])
    return np.clip(color, 0, 255).astype(np.uint8)


def _splat_size(spacing: float, pixels_per_metre: float) -> int:
    return int(np.clip(np.ceil(1.9 * spacing * pixels_per_metre), LEAST_SPLAT, MOST_SPLAT))


def _from_above(cloud: Cloud, layout: Layout, color: np.ndarray, spacing: float) -> tuple[np.ndarray, float]:
    """View along -z of what lies below the cut; the picture and its pixels a metre."""
    coord = cloud.coord
    rows = np.flatnonzero(coord[:, 2] < CUT * layout.height)
    rows = rows if len(rows) else np.arange(len(coord))
    flat = coord[rows, :2]
    low, high = np.quantile(flat, [0.002, 0.998], axis=0)
    scale = float(min((PANEL[1] - 60) / max(high[0] - low[0], 1e-6), (PANEL[0] - 70) / max(high[1] - low[1], 1e-6)))
    middle = (low + high) / 2
    zero = np.array([PANEL[0] / 2 - 8 + scale * middle[1], PANEL[1] / 2 - scale * middle[0]])
    pixel = np.stack([zero[0] - scale * flat[:, 1], zero[1] + scale * flat[:, 0]], axis=1)
    picture = splat(pixel, -coord[rows, 2], color[rows], _splat_size(spacing, scale), PANEL)
    return picture, scale


def _faces(coord: np.ndarray, normal: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """Whether the surface around a point faces ``eye``: single noisy normals must not speckle what is left out."""
    _, inverse, counts = grid_cells(coord, AROUND)
    way = eye - cell_means(coord, inverse, counts)
    mean = unit_rows(cell_means(normal, inverse, counts))
    facing = np.einsum("ni,ni->n", mean, way) / np.linalg.norm(way, axis=1)
    own = np.einsum("ni,ni->n", normal, eye.astype(np.float32) - coord) > 0
    return (facing > 0.1)[inverse] | (own & (facing > -0.1)[inverse])


def _into_the_room(cloud: Cloud, layout: Layout, color: np.ndarray, spacing: float) -> np.ndarray:
    """Perspective view from above a corner; surfaces that face away (the near walls, the ceiling) are left out."""
    coord = cloud.coord
    low, high = np.quantile(coord, [0.005, 0.995], axis=0)
    target = (low + high) / 2
    target[2] = 0.4 * layout.height
    size = float(np.linalg.norm(high - low))
    way = np.array([-0.62, -0.72, 0.62]) if high[0] - low[0] > high[1] - low[1] else np.array([0.72, -0.62, 0.62])
    eye = target + 1.35 * size * way / np.linalg.norm(way)
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    frame = np.stack([right, np.cross(forward, right), forward])
    seen = (coord[:, 2] > -0.3) & (coord[:, 2] < ROOF * layout.height)
    if cloud.normal is not None:
        seen &= _faces(coord, cloud.normal, eye)
    rows = np.flatnonzero(seen)
    if not len(rows):
        rows = np.arange(len(coord))
    local = (coord[rows] - eye.astype(np.float32)) @ frame.T.astype(np.float32)
    flat = local[:, :2] / np.maximum(local[:, 2:], 1e-6)
    first, last = np.quantile(flat, [0.001, 0.999], axis=0)
    focal = float(min((PANEL[1] - 70) / max(last[0] - first[0], 1e-9), (PANEL[0] - 40) / max(last[1] - first[1], 1e-9)))
    middle = (first + last) / 2
    pixel = np.stack(
        [PANEL[0] / 2 + focal * (flat[:, 1] - middle[1]), PANEL[1] / 2 + focal * (flat[:, 0] - middle[0])], 1
    )
    shape = _splat_size(spacing, focal / max(float(np.median(local[:, 2])), 1e-6))
    return splat(pixel, local[:, 2], color[rows], shape, PANEL)


def draw_preview(
    path: Path, cloud: Cloud, layout: Layout, title: str, caption: str, spacing: float, rng: np.random.Generator
) -> None:
    """Write preview.png: both views, a scale bar, a title and a line of figures.

    Args:
        path: of the picture.
        cloud: metres, z up, floor at z = 0, with normals toward who saw the points.
        layout: of the same cloud.
        title, caption: lines above and below.
        spacing: of the points, metres: sizes the dots.
        rng: of the draw where there are more than `MOST` points.
    """
    from PIL import Image, ImageDraw, ImageFont

    if len(cloud) > MOST:
        spacing *= float(np.sqrt(len(cloud) / MOST))
        cloud = cloud.select(np.sort(rng.permutation(len(cloud))[:MOST]))
    light = np.array([0.25, -0.35, 0.9])
    color = _shade(cloud, light / np.linalg.norm(light))
    above, scale = _from_above(cloud, layout, color, spacing)
    inside = _into_the_room(cloud, layout, color, spacing)
    sheet = np.broadcast_to(PAPER, (PANEL[0] + 74, 2 * PANEL[1] + 10, 3)).copy()
    sheet[38 : 38 + PANEL[0], : PANEL[1]] = above
    sheet[38 : 38 + PANEL[0], PANEL[1] + 10 :] = inside
    image = Image.fromarray(sheet)
    draw = ImageDraw.Draw(image)
    large, small = ImageFont.load_default(size=20), ImageFont.load_default(size=15)
    draw.text((16, 8), title, fill=INK, font=large)
    draw.text((16, PANEL[0] + 47), caption, fill=INK, font=small)
    bar = 1.0 if scale > 45 else 5.0
    row = 38 + PANEL[0] - 16
    draw.line([(20, row), (20 + bar * scale, row)], fill=INK, width=3)
    draw.text((26 + bar * scale, row - 10), f"{bar:.0f} m", fill=INK, font=small)
    draw.text((PANEL[1] - 190, row - 10), "from above, ceiling off", fill=FAINT, font=small)
    draw.text((2 * PANEL[1] - 190, row - 10), "into the room, near walls off", fill=FAINT, font=small)
    image.save(path, optimize=False, compress_level=6)

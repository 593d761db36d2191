"""From shapes to what is rendered: faces, a texture with light for each, one atlas; and the true surface points."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from data_tools.synthetic.rooms.furniture import Rng
from data_tools.synthetic.rooms.palette import CLASSES
from data_tools.synthetic.rooms.shapes import DISC, LATERAL, PLAIN, R2_U, R2_V, SPECKLE, WOOD, Shape
from data_tools.synthetic.walkthrough import textures
from data_tools.synthetic.walkthrough.flat import Flat, Placed
from data_tools.synthetic.walkthrough.raster import LEVELS, Atlas, Mesh, build_atlas
from data_tools.synthetic.walkthrough.textures import Painter

GUTTER, ALIGN = 8, 1 << (LEVELS - 1)
GLASS_BRIGHT = 1.7
TUCK = 0.03  # metres by which a wall ends behind the trims of the doorway
PAINTERS = {
    "wall": textures.plaster,
    "ceiling": textures.ceiling,
    "plant": textures.leaves,
    "clutter": textures.printed,
    "bed": textures.fabric,
    "sofa": textures.fabric,
    "chair": textures.fabric,
    "curtain": textures.fabric,
    "lamp": textures.fabric,
}
COARSER = {"wall": 1.2, "ceiling": 1.6, "floor": 1.2, "window": 2.0}  # larger texels where nobody comes near


@dataclass
class Patch:
    """A texture to be made: ``size`` (u, v) metres, ``frame`` (origin, u, v unit vectors) for light, or None."""

    painter: Painter
    paint: np.ndarray
    size: tuple[float, float]
    texel: float
    placed: Placed | None
    frame: tuple[np.ndarray, np.ndarray, np.ndarray] | None

    def texels(self) -> tuple[int, int]:
        """Columns and rows, without the gutters."""
        return max(2, int(np.ceil(self.size[0] / self.texel))), max(2, int(np.ceil(self.size[1] / self.texel)))


@dataclass
class Scene:
    """Collects faces and patches; a face's ``affine`` (2, 4) maps world points to metres on its patch."""

    texel: float
    patches: list[Patch] = field(default_factory=list)
    faces: list[tuple[np.ndarray, np.ndarray, int, float, int, int]] = field(default_factory=list)


def build_scene(flat: Flat, texel: float) -> Scene:
    """Faces and patches of the flat; ``texel`` is the size of a texture's pixel in metres."""
    scene = Scene(texel)
    _add_shape(scene, flat.reveal, 0, None, None)
    d = flat.door
    for zone, placed in enumerate(flat.rooms):
        along = placed.room.depth - np.array([d.y1, d.y0]) if placed.door_wall == 3 else np.array([d.y0, d.y1])
        # `Room` counts along a wall counter-clockwise, its quad runs the other way
        near, far = placed.room.depth - along[1] - TUCK, placed.room.depth - along[0] + TUCK
        _add_shape(scene, placed.room.shape, zone, placed, (float(near), float(far), d.height + TUCK))
    return scene


def _add_shape(
    scene: Scene, shape: Shape, zone: int, placed: Placed | None, hole: tuple[float, float, float] | None
) -> None:
    """Add a shape's surfaces; the room's wall with the doorway is cut out by ``hole`` (u0, u1, top)."""
    shift = np.array([placed.x if placed else 0.0, 0.0, 0.0])
    for number, (row, paint, label) in enumerate(zip(shape.quads, shape.quad_paint, shape.quad_label, strict=True)):
        values = np.array(row, np.float64)
        start, edge_u, edge_v = values[:3] + shift, values[3:6], values[6:]
        size = (float(np.linalg.norm(edge_u)), float(np.linalg.norm(edge_v)))
        if min(size) < 1e-6:
            continue
        u, v = edge_u / size[0], edge_v / size[1]
        bright = _add_patch(scene, label[0], np.array(paint), size, placed, (start, u, v))
        affine = np.stack([np.append(u, -u @ start), np.append(v, -v @ start)])
        pieces = [(0.0, 0.0, *size)]
        if placed is not None and hole is not None and number == 2 + placed.door_wall:  # after floor and ceiling
            a, b, top = hole
            pieces = [(0.0, 0.0, a, size[1]), (b, 0.0, *size), (a, top, b, size[1])]
        for u0, v0, u1, v1 in pieces:
            corner = np.stack([start + u * a + v * b for a, b in ((u0, v0), (u1, v0), (u1, v1), (u0, v1))])
            scene.faces.append((corner, affine, len(scene.patches) - 1, bright, zone, label[0]))
    for row, paint, label in zip(shape.rounds, shape.round_paint, shape.round_label, strict=True):
        _add_round(scene, np.array(row, np.float64), np.array(paint), label[0], zone, placed, shift)


def _add_round(
    scene: Scene, row: np.ndarray, paint: np.ndarray, label: int, zone: int, placed: Placed | None, shift: np.ndarray
) -> None:
    """Cylinders, cones, discs and ellipsoids become flat facets that share a patch, each with its own light."""
    kind, center, frame, (p, q, h) = int(row[0]), row[1:4] + shift, row[4:13].reshape(3, 3), row[13:16]
    radius = p if kind == DISC else max(p, q)
    around = int(np.clip(np.ceil(2 * np.pi * radius / 0.05), 8, 20))
    angles = np.linspace(0, 2 * np.pi, around + 1)
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)

    def ring(wide: float, deep: float, z: float) -> np.ndarray:
        return np.column_stack([circle * (wide, deep), np.full(around + 1, z)])

    if kind == LATERAL:
        rings, high = [ring(p, p, 0.0), ring(q, q, h)], float(np.hypot(h, p - q))
    elif kind == DISC:
        rings, high = [ring(p, p, 0.0), ring(0.0, 0.0, 0.0)], float(p)
    else:
        tilt = np.linspace(-np.pi / 2, np.pi / 2, max(5, around // 2) + 1)
        rings, high = [ring(p * np.cos(t), q * np.cos(t), h * np.sin(t)) for t in tilt], np.pi * max(float(h), 1e-3)
    size = (2 * np.pi * float(radius), high)
    bright = _add_patch(scene, label, paint, size, placed, None)
    step = np.array([size[0] / around, size[1] / (len(rings) - 1)])
    for j in range(len(rings) - 1):
        for i in range(around):
            local = np.stack([rings[j][i], rings[j][i + 1], rings[j + 1][i + 1], rings[j + 1][i]])
            corner = local @ frame.T + center
            e_u, e_v, normal = _middle_lines(corner[None])
            linear = np.linalg.pinv(np.stack([e_u[0], e_v[0]], 1)) * step[:, None]
            affine = np.column_stack([linear, np.array([i + 0.5, j + 0.5]) * step - linear @ corner.mean(0)])
            light = _light(placed, corner.mean(0)[None], normal[0])[0]
            scene.faces.append((corner, affine, len(scene.patches) - 1, bright * float(light), zone, label))


def _middle_lines(corner: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle lines along u and v of faces (F, 4, 3), and their unit normals; (F, 3) each."""
    e_u = (corner[:, 1] - corner[:, 0] + corner[:, 2] - corner[:, 3]) / 2
    e_v = (corner[:, 3] - corner[:, 0] + corner[:, 2] - corner[:, 1]) / 2
    normal = np.cross(e_u, e_v)
    return e_u, e_v, normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-15)


def _add_patch(
    scene: Scene,
    label: int,
    paint: np.ndarray,
    size: tuple[float, float],
    placed: Placed | None,
    frame: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
) -> float:
    """Add the patch of a surface, its material by class and paint; returns the surface's brightness."""
    name, area, kind = CLASSES[label], size[0] * size[1], int(paint[6])
    painter = PAINTERS.get(name, textures.lacquer)
    if name == "floor":
        painter = {WOOD: textures.planks, SPECKLE: textures.fabric}.get(kind, textures.tiles)
    elif name == "rug":
        painter = textures.rug if area > 0.3 else textures.fabric
    elif name == "picture" and kind != PLAIN:
        painter = textures.picture
    elif name == "counter" and kind == SPECKLE:
        painter = textures.worktop
    elif kind == WOOD or (name in ("table", "desk", "shelf") and min(size) > 0.2):
        painter = textures.wood
    is_glass = name == "window" and area > 0.2 and kind != PLAIN
    texel = scene.texel * (COARSER.get(name, 1.0) if name != "window" or is_glass else 1.0)
    scene.patches.append(Patch(textures.view if is_glass else painter, paint, size, texel, placed, frame))
    return GLASS_BRIGHT if is_glass else 1.0


def _light(placed: Placed | None, points: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Light (N,) on points of a plane: the lamp, darker corners, shadows where furniture meets the floor."""
    if placed is None:
        return np.full(len(points), 0.8)
    room, local = placed.room, points - np.array([placed.x, 0.0, 0.0])
    size = np.array([room.width, room.depth, room.height])
    lamp = size * (0.5, 0.5, 0.92) - local
    distance = np.linalg.norm(lamp, axis=1)
    value = 0.62 + 0.42 * np.clip(lamp @ normal, 0, None) / (distance + 1e-9) / (1 + (distance / 4.5) ** 2)
    for axis in range(3):
        if abs(normal[axis]) < 0.7:
            for side in (local[:, axis], size[axis] - local[:, axis]):
                value *= 1 - 0.28 * np.exp(-np.clip(side, 0, None) / 0.16)
    if normal[2] > 0.9 and float(local[:, 2].max()) < 0.1:
        for low_x, low_y, high_x, high_y in room.solid:
            away_x = np.maximum(np.maximum(low_x - local[:, 0], local[:, 0] - high_x), 0)
            away_y = np.maximum(np.maximum(low_y - local[:, 1], local[:, 1] - high_y), 0)
            value *= 1 - 0.38 * np.exp(-np.hypot(away_x, away_y) / 0.1)
    return value


def _bake(patch: Patch, rng: Rng) -> np.ndarray:
    """The patch's picture (h, w, 3) uint8, gutters included."""
    import cv2

    w, h = patch.texels()
    color = patch.painter(patch.paint, h, w, patch.texel, rng).astype(np.float32)
    if patch.frame is not None:
        start, u, v = patch.frame
        columns, rows = max(2, w // 12), max(2, h // 12)
        a = (np.arange(columns) + 0.5) / columns * patch.size[0]
        b = (np.arange(rows) + 0.5) / rows * patch.size[1]
        points = start + a[None, :, None] * u + b[:, None, None] * v
        light = _light(patch.placed, points.reshape(-1, 3), np.cross(u, v)).reshape(rows, columns)
        color *= cv2.resize(light.astype(np.float32), (w, h), interpolation=cv2.INTER_LINEAR)[..., None]
    image = np.clip(color * 255 + 0.5, 0, 255).astype(np.uint8)
    return cv2.copyMakeBorder(image, GUTTER, GUTTER, GUTTER, GUTTER, cv2.BORDER_REPLICATE)


def bake(scene: Scene, seed: int) -> tuple[Mesh, Atlas]:
    """Make all textures and pack them (shelves by height); the mesh's texel maps point into the atlas."""
    padded = -(-(np.array([patch.texels() for patch in scene.patches]) + 2 * GUTTER) // ALIGN) * ALIGN
    width = int(max(2 ** np.ceil(np.log2(np.sqrt(padded.prod(1).sum() * 1.1))), padded[:, 0].max()))
    place, x, y, shelf = np.zeros_like(padded), 0, 0, 0
    for number in np.lexsort((padded[:, 0], -padded[:, 1])):
        w, h = padded[number]
        if x + w > width:
            x, y, shelf = 0, y + shelf, 0
        place[number], x, shelf = (x, y), x + w, max(shelf, int(h))
    sheet = np.zeros((y + shelf, width, 3), np.uint8)
    for number, patch in enumerate(scene.patches):
        image = _bake(patch, np.random.default_rng([seed, 5, number]))
        (x, y), (h, w) = place[number], image.shape[:2]
        sheet[y : y + h, x : x + w] = image
    corner, affine, index, bright, zone, segment = (np.array(column) for column in zip(*scene.faces, strict=True))
    affine /= np.array([patch.texel for patch in scene.patches])[index][:, None, None]
    affine[:, :, 3] += place[index] + GUTTER - 0.5
    mesh = Mesh(corner, _middle_lines(corner)[2], affine, bright.astype(np.float32), zone, segment)
    return mesh, build_atlas(sheet)


def sample_surface(mesh: Mesh, spacing: float, rng: Rng) -> dict[str, np.ndarray]:
    """Even points on all faces, ``spacing`` metres apart: coord, normal float32 (N, 3), segment, zone int32 (N,)."""
    a, b, c, d = (mesh.corner[:, i] for i in range(4))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1) + 0.5 * np.linalg.norm(np.cross(c - a, d - a), axis=1)
    counts = np.floor(area / spacing**2 + rng.random(len(area))).astype(np.int64)
    face = np.repeat(np.arange(len(mesh)), counts)
    number = np.arange(len(face)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = rng.random((2, len(mesh)))
    u, v = (((start[i][face] + number * r) % 1.0)[:, None] for i, r in ((0, R2_U), (1, R2_V)))
    coord = (1 - u) * (1 - v) * a[face] + u * (1 - v) * b[face] + u * v * c[face] + (1 - u) * v * d[face]
    return {
        "coord": coord.astype(np.float32),
        "normal": mesh.normal[face].astype(np.float32),
        "segment": mesh.segment[face].astype(np.int32),
        "zone": mesh.zone[face].astype(np.int32),
    }

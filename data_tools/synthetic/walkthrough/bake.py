"""From shapes to what is rendered: faces, a texture with light for each, one atlas; and the true surface points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from data_tools.synthetic.rooms import textures
from data_tools.synthetic.rooms.palette import CLASSES
from data_tools.synthetic.rooms.shapes import DISC, LATERAL, R2_U, R2_V, SPECKLE, WOOD, Shape
from data_tools.synthetic.rooms.textures import Painter, Rng
from data_tools.synthetic.walkthrough import textures_outdoor
from data_tools.synthetic.walkthrough.apartment import Apartment, Placed
from data_tools.synthetic.walkthrough.outdoor import TUCK
from data_tools.synthetic.walkthrough.raster import LEVELS, Atlas, Mesh, build_atlas

GUTTER, ALIGN = 8, 1 << (LEVELS - 1)
SUN = np.array([-0.62, 0.35, 0.70])
OUTSIDE_BRIGHT, SKY_BRIGHT, GLASS_BRIGHT = 1.35, 1.7, 1.7
SOFT = ("bed", "sofa", "chair", "curtain")
WOODEN = ("table", "desk", "cabinet", "shelf", "counter", "door")


@dataclass
class Patch:
    """A texture to be made: ``size`` (u, v) metres, ``frame`` (origin, u, v unit vectors) for light, or None."""

    painter: Painter
    paint: np.ndarray
    size: tuple[float, float]
    texel: float
    zone: int
    frame: tuple[np.ndarray, np.ndarray, np.ndarray] | None


@dataclass
class Scene:
    """Collects faces and patches; ``affine`` maps world points to metres on the patch."""

    apartment: Apartment
    texel: float
    corner: list[np.ndarray] = field(default_factory=list)
    affine: list[np.ndarray] = field(default_factory=list)
    patch: list[int] = field(default_factory=list)
    bright: list[float] = field(default_factory=list)
    zone: list[int] = field(default_factory=list)
    segment: list[int] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)

    def face(self, corner: np.ndarray, affine: np.ndarray, bright: float, zone: int, segment: int) -> None:
        """Add a face of the last patch."""
        self.corner.append(corner)
        self.affine.append(affine)
        self.patch.append(len(self.patches) - 1)
        self.bright.append(bright)
        self.zone.append(zone)
        self.segment.append(segment)


def build_scene(apartment: Apartment, texel: float) -> Scene:
    """Faces and patches of a whole apartment; ``texel`` is the size of a texture's pixel indoors, in metres."""
    scene = Scene(apartment, texel)
    _add_shape(scene, apartment.outdoor, 0, (0.0, 0.0))
    _add_shape(scene, apartment.reveals, -1, (0.0, 0.0))
    for number, placed in enumerate(apartment.rooms):
        _add_shape(scene, placed.room.shape, number + 1, placed.origin, placed)
    return scene


def _add_shape(
    scene: Scene, shape: Shape, zone: int, origin: tuple[float, float], placed: Placed | None = None
) -> None:
    shift = np.array([*origin, 0.0])
    for number, (row, paint, label) in enumerate(zip(shape.quads, shape.quad_paint, shape.quad_label, strict=True)):
        values = np.array(row, np.float64)
        start, edge_u, edge_v = values[:3] + shift, values[3:6], values[6:]
        length = (float(np.linalg.norm(edge_u)), float(np.linalg.norm(edge_v)))
        if min(length) < 1e-6:
            continue
        painter, texel, bright = _material(label[0], np.array(paint), length, zone, scene.texel)
        u, v = edge_u / length[0], edge_v / length[1]
        scene.patches.append(Patch(painter, np.array(paint), length, texel, zone, (start, u, v)))
        affine = np.stack([np.append(u, -u @ start), np.append(v, -v @ start)])
        # walls are quads 2..5 of a room; `Room` counts along them, the quad runs the other way
        hole = placed.holes.get(number - 2) if placed is not None and 2 <= number <= 5 else None
        for u0, v0, u1, v1 in _pieces(length, hole):
            corner = np.stack([start + u * a + v * b for a, b in ((u0, v0), (u1, v0), (u1, v1), (u0, v1))])
            scene.face(corner, affine, bright, zone, label[0])
    for row, paint, label in zip(shape.rounds, shape.round_paint, shape.round_label, strict=True):
        _add_round(scene, np.array(row, np.float64), np.array(paint), label[0], zone, shift)


def _pieces(
    length: tuple[float, float], hole: tuple[float, float, float, float] | None
) -> list[tuple[float, float, float, float]]:
    if hole is None:
        return [(0.0, 0.0, length[0], length[1])]
    a, b, top = length[0] - hole[2] - TUCK, length[0] - hole[0] + TUCK, hole[3] + TUCK
    return [(0.0, 0.0, a, length[1]), (b, 0.0, length[0], length[1]), (a, top, b, length[1])]


def _add_round(scene: Scene, row: np.ndarray, paint: np.ndarray, label: int, zone: int, shift: np.ndarray) -> None:
    """Cylinders, cones, discs and ellipsoids become flat facets that share a patch, each with its own light."""
    kind, center, frame, (p, q, h) = int(row[0]), row[1:4] + shift, row[4:13].reshape(3, 3), row[13:16]
    radius = max(p, q) if kind != DISC else p
    around = int(np.clip(np.ceil(2 * np.pi * radius / 0.05), 8, 20))
    angles = np.linspace(0, 2 * np.pi, around + 1)
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    if kind == LATERAL:
        rings = [
            np.column_stack([circle * p, np.zeros(around + 1)]),
            np.column_stack([circle * q, np.full(around + 1, h)]),
        ]
        size = (2 * np.pi * radius, float(np.hypot(h, p - q)))
    elif kind == DISC:
        rings = [np.column_stack([circle * p, np.zeros(around + 1)]), np.zeros((around + 1, 3))]
        size = (2 * np.pi * radius, p)
    else:
        tilt = np.linspace(-np.pi / 2, np.pi / 2, max(5, around // 2) + 1)
        rings = [np.column_stack([circle * (p, q) * np.cos(t), np.full(around + 1, h * np.sin(t))]) for t in tilt]
        size = (2 * np.pi * radius, np.pi * max(h, 1e-3))
    painter, texel, bright = _material(label, paint, size, zone, scene.texel)
    scene.patches.append(Patch(painter, paint, size, texel, zone, None))
    for j in range(len(rings) - 1):
        for i in range(around):
            local = np.stack([rings[j][i], rings[j][i + 1], rings[j + 1][i + 1], rings[j + 1][i]])
            corner = local @ frame.T + center
            low = np.array([i / around * size[0], j / (len(rings) - 1) * size[1]])
            step = np.array([size[0] / around, size[1] / (len(rings) - 1)])
            affine, normal = _facet_map(corner, low, step)
            light = _light(scene.apartment, zone, corner.mean(0)[None], normal)[0]
            scene.face(corner, affine, bright * float(light), zone, label)


def _facet_map(corner: np.ndarray, low: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World to patch metres (2, 4) of a flat four-corner facet, from its middle lines; and its normal."""
    e_u = (corner[1] - corner[0] + corner[2] - corner[3]) / 2
    e_v = (corner[3] - corner[0] + corner[2] - corner[1]) / 2
    normal = np.cross(e_u, e_v)
    normal /= max(float(np.linalg.norm(normal)), 1e-15)
    inverse = np.linalg.pinv(np.stack([e_u, e_v], 1))
    linear = inverse * step[:, None]
    return np.column_stack([linear, low + step / 2 - linear @ corner.mean(0)]), normal


def _material(
    label: int, paint: np.ndarray, size: tuple[float, float], zone: int, texel: float
) -> tuple[Painter, float, float]:
    """Painter, texel size and brightness of a surface by its class, paint and place."""
    name = CLASSES[label] if label >= 0 else "sky"
    if zone == 0:
        return _outdoor_material(name, paint, size, texel)
    area, kind = size[0] * size[1], int(paint[6])
    bright, painter = 1.0, textures.lacquer
    if name == "wall":
        painter, texel = textures.plaster, texel * 1.2
    elif name == "ceiling":
        painter, texel = textures.ceiling, texel * 1.6
    elif name == "floor":
        painter = {WOOD: textures.planks, SPECKLE: textures.carpet}.get(kind, textures.tiles)
        texel *= 1.2
    elif name == "window" and area > 0.2 and kind != 0:
        painter, bright, texel = textures_outdoor.view, GLASS_BRIGHT, texel * 2
    elif name == "picture":
        painter = textures.picture if kind != 0 else textures.lacquer
    elif name == "rug":
        painter = textures.rug if area > 0.3 else textures.fabric
    elif name == "plant":
        painter = textures.leaves
    elif name == "tv":
        painter = textures.screen
    elif name == "clutter":
        painter = textures.printed
    elif name == "fridge" and area > 0.3:
        painter = textures.printed if size[1] < 0.7 else textures.lacquer
    elif kind == WOOD or (name in ("table", "desk", "shelf") and min(size) > 0.2):
        painter = textures.wood
    elif name == "counter" and kind == SPECKLE:
        painter = textures.worktop
    elif name in SOFT or name == "lamp":
        painter = textures.fabric
    return painter, texel, bright


def _outdoor_material(
    name: str, paint: np.ndarray, size: tuple[float, float], texel: float
) -> tuple[Painter, float, float]:
    if name == "sky":
        return textures_outdoor.sky, 0.06 * texel / 0.003, SKY_BRIGHT
    if name == "wall":
        return (textures_outdoor.bricks if size[1] > 0.7 else textures.lacquer), texel * 2, OUTSIDE_BRIGHT
    if name == "floor":
        lawn = paint[1] > 1.15 * paint[0]
        return (textures_outdoor.lawn if lawn else textures_outdoor.paving), texel * 3, OUTSIDE_BRIGHT
    painters = {"plant": textures.leaves, "rug": textures.carpet, "clutter": textures.printed}
    if name == "window":
        return (textures.screen if min(size) > 0.3 else textures.lacquer), texel * 2, OUTSIDE_BRIGHT
    return painters.get(name, textures.wood), texel * 2, OUTSIDE_BRIGHT


def _light(apartment: Apartment, zone: int, points: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Light (N,) on points of a plane: lamp or sun, darker corners, shadows where furniture meets the floor."""
    if zone <= 0:
        return np.full(len(points), 0.68 + 0.36 * max(0.0, float(normal @ SUN)))
    placed = apartment.rooms[zone - 1]
    room, local = placed.room, points - np.array([*placed.origin, 0.0])
    lamp = np.array([room.width / 2, room.depth / 2, 0.92 * room.height]) - local
    distance = np.linalg.norm(lamp, axis=1)
    value = 0.62 + 0.42 * np.clip(lamp @ normal, 0, None) / (distance + 1e-9) / (1 + (distance / 4.5) ** 2)
    sides = np.stack([local[:, 0], room.width - local[:, 0], local[:, 1], room.depth - local[:, 1], local[:, 2]], 1)
    sides = np.column_stack([sides, room.height - local[:, 2]])
    for side in range(6):
        if abs(normal[side // 2]) < 0.7:
            value *= 1 - 0.28 * np.exp(-np.clip(sides[:, side], 0, None) / 0.16)
    if normal[2] > 0.9 and float(local[:, 2].max()) < 0.1:
        for a, b, c, d in room.solid:
            out = np.hypot(
                np.maximum(np.maximum(a - local[:, 0], local[:, 0] - c), 0),
                np.maximum(np.maximum(b - local[:, 1], local[:, 1] - d), 0),
            )
            value *= 1 - 0.38 * np.exp(-out / 0.1)
    return value


def _bake(scene: Scene, patch: Patch, rng: Rng) -> np.ndarray:
    """The patch's picture (h, w, 3) uint8, gutters included."""
    import cv2

    w, h = (max(2, int(np.ceil(s / patch.texel))) for s in patch.size)
    color = patch.painter(patch.paint, h, w, patch.texel, rng).astype(np.float32)
    if patch.frame is not None:
        start, u, v = patch.frame
        columns, rows = max(2, w // 12), max(2, h // 12)
        a = (np.arange(columns) + 0.5) / columns * patch.size[0]
        b = (np.arange(rows) + 0.5) / rows * patch.size[1]
        points = start + a[None, :, None] * u + b[:, None, None] * v
        light = _light(scene.apartment, patch.zone, points.reshape(-1, 3), np.cross(u, v)).reshape(rows, columns)
        color *= cv2.resize(light.astype(np.float32), (w, h), interpolation=cv2.INTER_LINEAR)[..., None]
    image = np.clip(color * 255 + 0.5, 0, 255).astype(np.uint8)
    return cv2.copyMakeBorder(image, GUTTER, GUTTER, GUTTER, GUTTER, cv2.BORDER_REPLICATE)


def bake(scene: Scene, seed: int, progress: Callable[[int, int], None] | None = None) -> tuple[Mesh, Atlas]:
    """Make all textures and pack them (shelves by height); the mesh's texel maps point into the atlas."""
    sizes = np.array(
        [[max(2, int(np.ceil(s / p.texel))) + 2 * GUTTER for s in p.size] for p in scene.patches], np.int64
    )
    padded = -(-sizes // ALIGN) * ALIGN
    width = int(np.clip(2 ** np.ceil(np.log2(np.sqrt(padded.prod(1).sum() * 1.1))), padded[:, 0].max(), 8192))
    width = -(-max(width, int(padded[:, 0].max())) // ALIGN) * ALIGN
    place, x, y, shelf = np.zeros_like(padded), 0, 0, 0
    for number in np.lexsort((padded[:, 0], -padded[:, 1])):
        w, h = padded[number]
        if x + w > width:
            x, y, shelf = 0, y + shelf, 0
        place[number], x, shelf = (x, y), x + w, max(shelf, int(h))
    sheet = np.zeros((y + shelf, width, 3), np.uint8)
    for number, patch in enumerate(scene.patches):
        image = _bake(scene, patch, np.random.default_rng([seed, 5, number]))
        (x, y), (h, w) = place[number], image.shape[:2]
        sheet[y : y + h, x : x + w] = image
        if progress is not None:
            progress(number + 1, len(scene.patches))
    return _mesh(scene, place), build_atlas(sheet)


def _mesh(scene: Scene, place: np.ndarray) -> Mesh:
    patch, corner = np.array(scene.patch), np.array(scene.corner)
    texel = np.array([p.texel for p in scene.patches])[patch]
    affine = np.array(scene.affine) / texel[:, None, None]
    affine[:, :, 3] += place[patch] + GUTTER - 0.5
    e_u = (corner[:, 1] - corner[:, 0] + corner[:, 2] - corner[:, 3]) / 2
    e_v = (corner[:, 3] - corner[:, 0] + corner[:, 2] - corner[:, 1]) / 2
    normal = np.cross(e_u, e_v)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-15)
    bright, zone, segment = np.array(scene.bright, np.float32), np.array(scene.zone), np.array(scene.segment)
    return Mesh(corner, normal, affine, bright, zone, segment)


def sample_surface(mesh: Mesh, spacing: float, outdoor_spacing: float, rng: Rng) -> dict[str, np.ndarray]:
    """Even points on all faces but the sky: coord, normal float32 (N, 3), segment, zone int32 (N,), face int64 (N,)."""
    a, b, c, d = (mesh.corner[:, i] for i in range(4))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1) + 0.5 * np.linalg.norm(np.cross(c - a, d - a), axis=1)
    step = np.where(mesh.zone == 0, outdoor_spacing, spacing)
    area = np.where(mesh.segment < 0, 0.0, area) / step**2
    counts = np.floor(area + rng.random(len(area))).astype(np.int64)
    face = np.repeat(np.arange(len(mesh)), counts)
    number = np.arange(len(face)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = rng.random((2, len(mesh)))
    u, v = ((start[i][face] + number * r) % 1.0 for i, r in ((0, R2_U), (1, R2_V)))
    u, v = u[:, None], v[:, None]
    coord = (1 - u) * (1 - v) * a[face] + u * (1 - v) * b[face] + u * v * c[face] + (1 - u) * v * d[face]
    return {
        "coord": coord.astype(np.float32),
        "normal": mesh.normal[face].astype(np.float32),
        "segment": mesh.segment[face].astype(np.int32),
        "zone": mesh.zone[face].astype(np.int32),
    }

"""Surfaces to build furniture from: parallelograms, cylinders, discs, ellipsoids; placed by yaw, sampled by area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

R2_U, R2_V = 0.7548776662466927, 0.5698402909980532  # the R2 low-discrepancy sequence: even cover, no clumps
LATERAL, DISC, ELLIPSOID = 0, 1, 2
PLAIN, CHECKER, STRIPES, WOOD, BLOTCH, SPECKLE = range(6)

Vector = Sequence[float]


@dataclass(frozen=True)
class Paint:
    """Two colours (0..1 RGB) and the pattern that mixes them; ``scale`` is the pattern's size in metres."""

    base: tuple[float, float, float]
    second: tuple[float, float, float] = (0.5, 0.5, 0.5)
    pattern: int = PLAIN
    scale: float = 0.3

    def row(self) -> tuple[float, ...]:
        """The eight numbers that `paint_colors` reads."""
        return (*self.base, *self.second, float(self.pattern), self.scale)


@dataclass
class Samples:
    """Points of surfaces: coord, normal, color in 0..1 (N, 3) float32, segment, instance (N,) int32."""

    coord: np.ndarray
    normal: np.ndarray
    color: np.ndarray
    segment: np.ndarray
    instance: np.ndarray

    def __len__(self) -> int:
        return len(self.coord)

    def select(self, index: np.ndarray) -> Samples:
        """The points of a mask or an index array."""
        rows = np.flatnonzero(index) if index.dtype == bool else index
        return Samples(*(np.take(value, rows, axis=0) for value in vars(self).values()))


@dataclass
class Shape:
    """A bag of surfaces with labels. Rows are plain tuples until `sample`, so that building is cheap.

    quads: origin, edge_u, edge_v (9 numbers), the outward normal being edge_u x edge_v.
    rounds: kind, centre (3), frame columns (9; the third is the axis), three sizes.
    """

    quads: list[tuple[float, ...]] = field(default_factory=list)
    quad_paint: list[tuple[float, ...]] = field(default_factory=list)
    quad_label: list[tuple[int, int]] = field(default_factory=list)
    rounds: list[tuple[float, ...]] = field(default_factory=list)
    round_paint: list[tuple[float, ...]] = field(default_factory=list)
    round_label: list[tuple[int, int]] = field(default_factory=list)

    def quad(self, origin: Vector, edge_u: Vector, edge_v: Vector, paint: Paint) -> None:
        """Add a parallelogram; it is seen from the side of edge_u x edge_v."""
        self.quads.append((*origin, *edge_u, *edge_v))
        self.quad_paint.append(paint.row())
        self.quad_label.append((-1, -1))

    def box(self, center: Vector, size: Vector, paint: Paint, skip: str = "") -> None:
        """Add a box from its centre and size; ``skip`` names faces to leave out, as in "z- y-"."""
        x, y, z = (float(c) for c in center)
        w, d, h = (float(s) for s in size)
        a, b, c = x - w / 2, y - d / 2, z - h / 2
        faces = {
            "x-": ((a, b + d, c), (0, -d, 0), (0, 0, h)),
            "x+": ((a + w, b, c), (0, d, 0), (0, 0, h)),
            "y-": ((a, b, c), (w, 0, 0), (0, 0, h)),
            "y+": ((a + w, b + d, c), (-w, 0, 0), (0, 0, h)),
            "z-": ((a, b + d, c), (w, 0, 0), (0, -d, 0)),
            "z+": ((a, b, c + h), (w, 0, 0), (0, d, 0)),
        }
        for name, (origin, edge_u, edge_v) in faces.items():
            if name not in skip:
                self.quad(origin, edge_u, edge_v, paint)

    def _round(self, kind: int, center: Vector, size: Vector, paint: Paint, sign: float = 1.0) -> None:
        frame = np.diag([1.0, sign, sign])  # turning two columns keeps the frame right-handed
        self.rounds.append((float(kind), *map(float, center), *frame.reshape(-1), *map(float, size)))
        self.round_paint.append(paint.row())
        self.round_label.append((-1, -1))

    def cylinder(
        self, base: Vector, radius: float, height: float, paint: Paint, top: float | None = None, caps: str = "+-"
    ) -> None:
        """Add a cylinder or cone frustum that rises ``height`` from ``base``; ``caps`` of "+", "-"."""
        end = radius if top is None else top
        self._round(LATERAL, base, (radius, end, height), paint)
        if "+" in caps and end > 0:
            self._round(DISC, (base[0], base[1], float(base[2]) + height), (end, 0, 0), paint)
        if "-" in caps and radius > 0:
            self._round(DISC, base, (radius, 0, 0), paint, sign=-1.0)

    def ellipsoid(self, center: Vector, radii: Vector, paint: Paint) -> None:
        """Add an ellipsoid with its axes along x, y, z."""
        self._round(ELLIPSOID, center, radii, paint)

    def add(
        self, other: Shape, yaw: float = 0.0, shift: Vector = (0, 0, 0), segment: int = -1, instance: int = -1
    ) -> None:
        """Take over another shape, turned by ``yaw`` (radians, about z) and moved; labels fill where still unset."""
        cos, sin = float(np.cos(yaw)), float(np.sin(yaw))
        x, y, z = (float(s) for s in shift)
        for q in other.quads:
            turned = [(cos * q[i] - sin * q[i + 1], sin * q[i] + cos * q[i + 1], q[i + 2]) for i in (0, 3, 6)]
            origin = (turned[0][0] + x, turned[0][1] + y, turned[0][2] + z)
            self.quads.append((*origin, *turned[1], *turned[2]))
        for r in other.rounds:
            center = (cos * r[1] - sin * r[2] + x, sin * r[1] + cos * r[2] + y, r[3] + z)
            first = [cos * a - sin * b for a, b in zip(r[4:7], r[7:10], strict=True)]
            second = [sin * a + cos * b for a, b in zip(r[4:7], r[7:10], strict=True)]
            self.rounds.append((r[0], *center, *first, *second, *r[10:]))
        self.quad_paint += other.quad_paint
        self.round_paint += other.round_paint
        for mine, theirs in ((self.quad_label, other.quad_label), (self.round_label, other.round_label)):
            mine += [(s if s >= 0 else segment, i if i >= 0 else instance) for s, i in theirs]

    def area(self) -> float:
        """Total area in square metres."""
        quads, rounds = self._tables()
        return float(_quad_areas(quads).sum() + _round_areas(rounds).sum())

    def _tables(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.quads).reshape(-1, 9), np.array(self.rounds).reshape(-1, 16)

    def sample(self, density: float, rng: np.random.Generator) -> Samples:
        """Draw ``density`` points a square metre, evenly by area, with outward unit normals."""
        quads, rounds = self._tables()
        parts = [
            _sample_quads(quads, np.array(self.quad_paint), np.array(self.quad_label), density, rng),
            _sample_rounds(rounds, np.array(self.round_paint), np.array(self.round_label), density, rng),
        ]
        parts = [part for part in parts if part is not None]
        return Samples(*(np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0])))


def _quad_areas(quads: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.cross(quads[:, 3:6], quads[:, 6:9]), axis=1)


def _round_areas(rounds: np.ndarray) -> np.ndarray:
    a, b, c = rounds[:, 13], rounds[:, 14], rounds[:, 15]
    lateral = np.pi * (a + b) * np.hypot(a - b, c)
    power = 1.6075  # Thomsen's formula, within 1.1 %
    ellipsoid = 4 * np.pi * (((a * b) ** power + (a * c) ** power + (b * c) ** power) / 3) ** (1 / power)
    return np.select([rounds[:, 0] == LATERAL, rounds[:, 0] == DISC], [lateral, np.pi * a * a], ellipsoid)


def _counts(areas: np.ndarray, density: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Surface of every point and the point's number on it; fractions of a point are settled by chance."""
    counts = np.floor(areas * density + rng.random(len(areas))).astype(np.int64)
    owner = np.repeat(np.arange(len(areas)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return owner, number


def _even(owner: np.ndarray, number: np.ndarray, total: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    start = rng.random((2, total))
    a, b = start[0][owner] + number * R2_U, start[1][owner] + number * R2_V  # float64: the numbers get large
    return (a - np.floor(a)).astype(np.float32), (b - np.floor(b)).astype(np.float32)


def _sample_quads(
    quads: np.ndarray, paint: np.ndarray, label: np.ndarray, density: float, rng: np.random.Generator
) -> Samples | None:
    if not len(quads):
        return None
    owner, number = _counts(_quad_areas(quads), density, rng)
    a, b = _even(owner, number, len(quads), rng)
    row = quads.astype(np.float32)[owner]
    coord = row[:, :3] + a[:, None] * row[:, 3:6] + b[:, None] * row[:, 6:9]
    normal = np.cross(quads[:, 3:6], quads[:, 6:9])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    lengths = np.linalg.norm(quads[:, 3:].reshape(-1, 2, 3), axis=2).astype(np.float32)
    normal = normal.astype(np.float32)
    color = paint_colors(paint, owner, a * lengths[owner, 0], b * lengths[owner, 1], rng)
    return Samples(coord, normal[owner], color, label[owner, 0].astype(np.int32), label[owner, 1].astype(np.int32))


def _sample_rounds(
    rounds: np.ndarray, paint: np.ndarray, label: np.ndarray, density: float, rng: np.random.Generator
) -> Samples | None:
    if not len(rounds):
        return None
    stretch = np.stack([rounds[:, 14] * rounds[:, 15], rounds[:, 13] * rounds[:, 15], rounds[:, 13] * rounds[:, 14]], 1)
    most = stretch.max(axis=1)
    # a sphere's even points crowd where an ellipsoid is curved: draw for the largest stretch and thin the rest
    areas = np.where(rounds[:, 0] == ELLIPSOID, 4 * np.pi * most, _round_areas(rounds))
    owner, number = _counts(areas, density, rng)
    a, b = _even(owner, number, len(rounds), rng)
    up, angle = 2 * b - 1, 2 * np.pi * a
    on_sphere = np.stack([np.sqrt(1 - up * up) * np.cos(angle), np.sqrt(1 - up * up) * np.sin(angle), up], 1)
    share = np.linalg.norm(stretch[owner] * on_sphere, axis=1) / np.maximum(most[owner], 1e-12)
    keep = (rounds[owner, 0] != ELLIPSOID) | (rng.random(len(owner)) < share)
    owner, a, b = owner[keep], a[keep], b[keep]
    kind = rounds[owner, 0]
    p, q, h = rounds[owner, 13], rounds[owner, 14], rounds[owner, 15]
    angle = 2 * np.pi * a
    cos, sin = np.cos(angle), np.sin(angle)
    # along a frustum the area grows with the radius: invert t * p + t^2 (q - p) / 2 = b (p + q) / 2
    t = (b * (p + q)) / (p + np.sqrt(np.maximum(p * p + b * (q * q - p * p), 0.0)) + 1e-12)
    radius = np.where(kind == LATERAL, p + (q - p) * t, p * np.sqrt(b))
    up = 2 * b - 1
    side = np.sqrt(np.maximum(1 - up * up, 0))
    is_round = kind == ELLIPSOID
    local = np.stack(
        [
            np.where(is_round, p * side * cos, radius * cos),
            np.where(is_round, q * side * sin, radius * sin),
            np.where(is_round, h * up, np.where(kind == LATERAL, h * t, 0.0)),
        ],
        axis=1,
    )
    slope = np.where(kind == LATERAL, (p - q) / np.maximum(h, 1e-9), 0.0)
    flat = np.stack(
        [np.where(kind == DISC, 0, cos), np.where(kind == DISC, 0, sin), np.where(kind == DISC, 1, slope)], 1
    )
    curved = np.stack([side * cos / np.maximum(p, 1e-9), side * sin / np.maximum(q, 1e-9), up / np.maximum(h, 1e-9)], 1)
    normal = np.where(is_round[:, None], curved, flat)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    frame = rounds[owner, 4:13].reshape(-1, 3, 3)
    # written out: BLAS may round differently with another number of threads, and the bytes must not change
    coord = (rounds[owner, 1:4] + sum(frame[:, :, i] * local[:, i : i + 1] for i in range(3))).astype(np.float32)
    turned = np.asarray(sum(frame[:, :, i] * normal[:, i : i + 1] for i in range(3)), dtype=np.float32)
    color = paint_colors(paint, owner, angle * np.maximum(p, q), np.where(is_round, h * up, local[:, 2]), rng)
    return Samples(coord, turned, color, label[owner, 0].astype(np.int32), label[owner, 1].astype(np.int32))


def paint_colors(
    paint: np.ndarray, owner: np.ndarray, s: np.ndarray, t: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Colours (N, 3) in 0..1 of points at (s, t) metres on their surfaces, by the surface's `Paint` row."""
    table = paint.astype(np.float32)
    kind = table[:, 6].astype(np.int64)[owner]
    phase = (rng.random(len(table)) * 6.0).astype(np.float32)
    mix = np.zeros(len(owner), dtype=np.float32)
    for pattern in (CHECKER, STRIPES, WOOD, BLOTCH, SPECKLE):
        at = np.flatnonzero(kind == pattern)
        row = owner[at]
        u, v, p = s[at] / table[row, 7], t[at] / table[row, 7], phase[row]
        if pattern == CHECKER:
            mix[at] = (np.floor(u) + np.floor(v)) % 2
        elif pattern == STRIPES:
            mix[at] = np.floor(2 * u) % 2
        elif pattern == WOOD:
            mix[at] = np.sin(7.0 * v + 1.5 * np.sin(1.3 * u + p)) * 0.35 + 0.35
        elif pattern == BLOTCH:
            mix[at] = np.clip(0.25 * (np.sin(2.1 * u + p) + np.sin(2.7 * v - p) + np.sin(1.7 * (u + v))) + 0.4, 0, 1)
        else:
            mix[at] = rng.random(len(at)) < 0.15
    first, second = table[owner, :3], table[owner, 3:6]
    return np.clip(first + (second - first) * mix[:, None], 0, 1)

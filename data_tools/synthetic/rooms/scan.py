"""What a camera on a walk through the room sees: points with a view each, hidden surfaces left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_tools.synthetic.rooms.furniture import Rng
from data_tools.synthetic.rooms.palette import CLASS_ID
from data_tools.synthetic.rooms.rooms import Room
from data_tools.synthetic.rooms.shapes import Samples

SIDE = 160  # cells along a side of the (octahedral) depth maps
BIN = 0.03  # about the angular size of a cell in radians; 9 cm at 3 m
LOOK_UP, LOOK_DOWN = 0.94, -0.985  # sines of 70 and -80 degrees: hand-held cameras seldom look straight up or down
NO_DEPTH = 1e6


@dataclass
class Scan:
    """Points and who saw them.

    Attributes:
        points: coordinates (metres), true normals towards the room, colours 0..1, labels.
        cameras: (V, 3) positions along the walk.
        view: (N,) index of the camera that a point comes from.
        edge_gap: (N,) metres of free space behind the point in its camera's view where it lies at the rim of a
            nearer thing, else 0; floating points are born there.
    """

    points: Samples
    cameras: np.ndarray
    view: np.ndarray
    edge_gap: np.ndarray

    def select(self, index: np.ndarray) -> Scan:
        """The points of a mask or an index array."""
        rows = np.flatnonzero(index) if index.dtype == bool else index
        return Scan(self.points.select(rows), self.cameras, self.view[rows], self.edge_gap[rows])


def walk(room: Room, views: int, rng: Rng) -> np.ndarray:
    """Camera positions (V, 3) in the free part of a room, in the order of a walk (nearest next)."""
    spots: list[tuple[float, float]] = []
    margin = 0.15
    for _ in range(60 * views):
        x, y = float(rng.uniform(0.3, room.width - 0.3)), float(rng.uniform(0.3, room.depth - 0.3))
        if all(not (a - margin < x < c + margin and b - margin < y < d + margin) for a, b, c, d in room.solid):
            spots.append((x, y))
            if len(spots) == views:
                break
    if not spots:
        spots = [(room.width / 2, room.depth / 2)]
    order = [spots.pop(0)]
    while spots:
        nearest = min(
            range(len(spots)), key=lambda i: (spots[i][0] - order[-1][0]) ** 2 + (spots[i][1] - order[-1][1]) ** 2
        )
        order.append(spots.pop(nearest))
    return np.column_stack([np.array(order), rng.uniform(1.25, 1.65, len(order))])


def sample_room(room: Room, density: float, rng: Rng) -> Samples:
    """Points of all surfaces, ``density`` a square metre, without those behind openings or under solid things."""
    points = room.shape.sample(density, rng)
    keep = np.ones(len(points), dtype=bool)
    x, y, z = points.coord.T
    on_floor = np.flatnonzero(points.segment == CLASS_ID["floor"])
    for cx, cy, half_w, half_d, cos, sin in room.covered:
        dx, dy = x[on_floor] - cx, y[on_floor] - cy
        under = (np.abs(cos * dx + sin * dy) < half_w) & (np.abs(cos * dy - sin * dx) < half_d)
        keep[on_floor[under]] = False
    on_wall = np.flatnonzero((points.segment == CLASS_ID["wall"]) & (points.instance < room.shell_instances))
    away = np.stack([y, room.width - x, room.depth - y, x])[:, on_wall]
    along = np.stack([x, y, room.width - x, room.depth - y])[:, on_wall]
    for wall, s0, s1, z0, z1 in room.cutouts:
        inside = (away[wall] < 1e-6) & (along[wall] > s0) & (along[wall] < s1)
        inside &= (z[on_wall] > z0) & (z[on_wall] < z1)
        keep[on_wall[inside]] = False
    return points.select(keep)


def _depth_map(camera: np.ndarray, xyz: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, ...]:
    """Range, cosine to the surface normal and map cell of every point, who may be seen, nearest range of every cell.

    Directions are folded onto a square through the octahedron: no trigonometry, cells of similar size.
    """
    dx, dy, dz = (xyz[i] - np.float32(camera[i]) for i in range(3))
    distance = np.sqrt(dx * dx + dy * dy + dz * dz) + np.float32(1e-9)
    facing = -(dx * normal[0] + dy * normal[1] + dz * normal[2]) / distance
    scale = np.float32(1) / (np.abs(dx) + np.abs(dy) + np.abs(dz) + np.float32(1e-9))
    u, v = dx * scale, dy * scale
    below = dz < 0
    u, v = (
        np.where(below, (1 - np.abs(v)) * np.where(u < 0, -1, 1), u),
        np.where(below, (1 - np.abs(u)) * np.where(v < 0, -1, 1), v),
    )
    half = SIDE / 2
    cell = np.minimum(((u + 1) * half).astype(np.int32), SIDE - 1) * SIDE
    cell += np.minimum(((v + 1) * half).astype(np.int32), SIDE - 1)
    height = dz / distance
    front = facing > 0.02
    usable = front & (height > LOOK_DOWN) & (height < LOOK_UP)
    nearest = np.full(SIDE * SIDE, NO_DEPTH, dtype=np.float32)
    np.minimum.at(nearest, cell[front], distance[front])
    return distance, facing, cell, usable, nearest


def scan_room(room: Room, points: Samples, cameras: np.ndarray, rng: Rng) -> Scan:
    """Keep the points that at least one camera sees, and give each to one of those, nearer ones more often.

    A point is seen when it faces the camera and no nearer surface fills its cell of the camera's depth map; the
    slack grows with the slant, since a slanted surface spans a range of depths inside one cell.
    """
    best = np.full(len(points), -np.inf, dtype=np.float32)
    view = np.zeros(len(points), dtype=np.int32)
    gap = np.zeros(len(points), dtype=np.float32)
    xyz, normal = np.ascontiguousarray(points.coord.T), np.ascontiguousarray(points.normal.T)
    for number, camera in enumerate(cameras):
        distance, facing, cell, usable, nearest = _depth_map(camera, xyz, normal)
        slant = np.sqrt(np.maximum(1 - facing * facing, 0)) / np.maximum(facing, 0.05)
        slack = 0.03 + np.minimum(1.2 * BIN * distance * slant, 0.4)
        seen = usable & (distance <= nearest[cell] + slack)
        # weighted choice of one view by the exponential trick: the largest of -exponential / weight
        chance = -rng.standard_exponential(len(points), dtype=np.float32) * distance**2 / np.maximum(facing, 0.05)
        better = np.flatnonzero(seen & (chance > best))
        best[better], view[better] = chance[better], number
        depth = nearest.reshape(SIDE, SIDE)
        behind = np.maximum.reduce([np.roll(depth, step, axis) for axis in (0, 1) for step in (-1, 1)]) - depth
        behind[(behind > 100) | (behind < 0.25)] = 0.0
        gap[better] = behind.reshape(-1)[cell[better]]
    keep = np.isfinite(best)
    return Scan(points.select(keep), cameras, view[keep], gap[keep])

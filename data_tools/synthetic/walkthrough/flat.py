"""A seeded flat of two furnished rooms, a living room and a dining room, joined by a doorway.

A ring through each room, `RING` metres from its walls, stays free of furniture: there the camera walks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from data_tools.synthetic.rooms.build import OPENING_COLORS, add_ceiling_lamp, add_picture, add_shell, add_window
from data_tools.synthetic.rooms.fixtures import make_dresser, make_shelf
from data_tools.synthetic.rooms.furniture import Rng, make_carton, make_low_table, make_rug, make_table
from data_tools.synthetic.rooms.palette import CLASS_ID, Style, paint
from data_tools.synthetic.rooms.rooms import Box, Room, add_clutter, around, furnish, place_at_wall, place_near
from data_tools.synthetic.rooms.shapes import Shape

KINDS = ("living_room", "dining_room")
THICKNESS = 0.16  # metres of wall between the rooms
DOOR = (0.92, 2.05)  # width and height of the doorway
RING, CLEARANCE = 1.25, 0.3  # metres from the walls to the ring, and kept free on both sides of it


@dataclass(frozen=True)
class Doorway:
    """The opening between the planes x0 < x1, along y0 < y1, from the floor up to ``height``."""

    x0: float
    x1: float
    y0: float
    y1: float
    height: float = DOOR[1]

    @property
    def x(self) -> float:
        """The plane in the middle of the wall: who passes it is in the other room."""
        return (self.x0 + self.x1) / 2

    @property
    def y(self) -> float:
        """The middle of the opening."""
        return (self.y0 + self.y1) / 2


@dataclass(frozen=True)
class Placed:
    """A room, the flat's x of its left wall (its y are the flat's), and the wall (1 or 3) with the doorway."""

    room: Room
    x: float
    door_wall: int

    def bounds(self) -> Box:
        """Floor rectangle in the flat's frame."""
        return (self.x, 0.0, self.x + self.room.width, self.room.depth)

    def ring(self) -> np.ndarray:
        """Corners (4, 2) of the walk around the room, counter-clockwise, in the flat's frame."""
        x0, y0, x1, y1 = self.bounds()
        low, high = (x0 + RING, y0 + RING), (x1 - RING, y1 - RING)
        return np.array([low, (high[0], low[1]), high, (low[0], high[1])])


@dataclass(frozen=True)
class Flat:
    """Two rooms beside one another along x; ``reveal`` holds the sides and trims of the doorway."""

    rooms: tuple[Placed, Placed]
    door: Doorway
    reveal: Shape

    def labels(self) -> list[str]:
        """Names of the zones, as the frame labels call them."""
        return [placed.room.kind.replace("_", " ") for placed in self.rooms]


def build_flat(seed: int) -> Flat:
    """The flat of a seed, in metres, z up, floor at z = 0; the same seed gives the same flat."""
    rng = np.random.default_rng([seed, 77])
    sizes = [(float(rng.uniform(4.7, 5.2)), float(rng.uniform(4.6, 5.0)), float(rng.uniform(2.4, 2.8))) for _ in KINDS]
    y, width = float(rng.uniform(RING + 0.3, 4.6 - RING - 0.3)), sizes[0][0]
    door = Doorway(width, width + THICKNESS, y - DOOR[0] / 2, y + DOOR[0] / 2)
    first, second = (Room(kind, *size) for kind, size in zip(KINDS, sizes, strict=True))
    rooms = (Placed(first, 0.0, 1), Placed(second, door.x1, 3))
    for placed in rooms:
        _fill(placed, door, rng)
    return Flat(rooms, door, _reveal(door, rng))


def _fill(placed: Placed, door: Doorway, rng: Rng) -> None:
    """Shell, windows, furniture, pictures and lamp; the ring and the way to the doorway stay free."""
    room, style = placed.room, Style.draw(rng)
    add_shell(room, rng)
    _keep_free(placed, door)
    openings = len(room.wall_use)
    room.wall_use += [(wall, -1.0, 99.0, 0.0, 9.0) for wall in (1, 3)]  # no window between the rooms or opposite
    for _ in range(2):
        add_window(room, rng)
    del room.wall_use[openings : openings + 2]
    middle = (room.width / 2, room.depth / 2, float(rng.normal(0, 0.04)))
    table = (make_low_table if room.kind == "living_room" else make_table)(rng, style)
    if place_near(room, table, *middle):
        add_clutter(room, table, middle, rng, style)
        if room.kind == "dining_room":
            around(room, table, middle, rng, style)
    place_near(room, make_rug(rng, style), *middle, occupy=False)
    furnish(room, rng, style)
    for maker in (make_shelf, make_dresser, make_carton, make_carton):  # homes are fuller than training rooms need
        item = maker(rng, style)
        pose = place_at_wall(room, item, rng)
        if pose is not None:
            add_clutter(room, item, pose, rng, style)
    for _ in range(int(rng.integers(7, 11))):
        add_picture(room, rng)
    add_ceiling_lamp(room, rng, style)


def _keep_free(placed: Placed, door: Doorway) -> None:
    """Let nothing stand on the ring or before the doorway, and nothing hang in its opening."""
    room, ring, m = placed.room, placed.ring() - (placed.x, 0.0), CLEARANCE
    for a, b in pairwise([*ring, ring[0]]):
        low, high = np.minimum(a, b) - m, np.maximum(a, b) + m
        room.occupied.append((float(low[0]), float(low[1]), float(high[0]), float(high[1])))
    x0 = room.width - RING if placed.door_wall == 1 else 0.0
    room.occupied.append((x0, door.y0 - 0.1, x0 + RING, door.y1 + 0.1))
    s = door.y if placed.door_wall == 1 else room.depth - door.y  # walls are counted counter-clockwise
    half = DOOR[0] / 2 + 0.1
    room.wall_use.append((placed.door_wall, s - half, s + half, 0.0, door.height + 0.1))


def _reveal(door: Doorway, rng: Rng) -> Shape:
    """Sides, top and threshold of the opening, and trims on both faces of the wall."""
    d, wood, part, shape = door, paint(rng, OPENING_COLORS), Shape(), Shape()
    deep, wide, high = d.x1 - d.x0, d.y1 - d.y0, d.height
    part.quad((d.x0, d.y0, 0), (0, 0, high), (deep, 0, 0), wood)
    part.quad((d.x0, d.y1, 0), (deep, 0, 0), (0, 0, high), wood)
    part.quad((d.x0, d.y0, high), (0, wide, 0), (deep, 0, 0), wood)
    for x in (d.x0 - 0.0125, d.x1 + 0.0125):
        for y in (d.y0 - 0.035, d.y1 + 0.035):
            part.box((x, y, high / 2), (0.025, 0.07, high), wood, skip="z-")
        part.box((x, d.y, high + 0.035), (0.025, wide + 0.14, 0.07), wood)
    sill = Shape()
    sill.quad((d.x0, d.y0, 0.0), (deep, 0, 0), (0, wide, 0), wood)
    shape.add(part, segment=CLASS_ID["door"])
    shape.add(sill, segment=CLASS_ID["floor"])
    return shape

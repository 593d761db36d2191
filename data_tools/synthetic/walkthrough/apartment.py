"""A seeded apartment: furnished rooms in a row, joined by doorways, behind a front door and a facade."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from data_tools.synthetic.rooms.build import (
    OPENING_COLORS,
    add_ceiling_lamp,
    add_door,
    add_picture,
    add_shell,
    add_window,
)
from data_tools.synthetic.rooms.fixtures import make_dresser, make_shelf
from data_tools.synthetic.rooms.furniture import Rng, make_carton, make_rug
from data_tools.synthetic.rooms.palette import CLASS_ID, Style, paint
from data_tools.synthetic.rooms.rooms import RECIPES, Box, Room, add_clutter, furnish, place_at_wall, place_loose
from data_tools.synthetic.rooms.shapes import Shape
from data_tools.synthetic.walkthrough.outdoor import build_outdoor
from data_tools.synthetic.walkthrough.walkable import FreeSpace

THICKNESS = 0.16  # metres of wall between two rooms
DOOR = (0.92, 2.05)  # width and height of every doorway
KINDS = ("living_room", "bedroom", "office", "dining_room", "kitchen")
SIDES = (3.8, 4.9)  # metres; smaller rooms leave no way around the furniture, larger ones look empty
TRIES = 60


@dataclass(frozen=True)
class Doorway:
    """An opening from zone ``zone`` to ``zone + 1``: between the planes x0 < x1, along y0 < y1, up to ``height``."""

    zone: int
    x0: float
    x1: float
    y0: float
    y1: float
    height: float

    @property
    def x(self) -> float:
        """The plane in the middle of the wall: who passes it is in the next room."""
        return (self.x0 + self.x1) / 2

    @property
    def y(self) -> float:
        """The middle of the opening."""
        return (self.y0 + self.y1) / 2

    def corners(self) -> np.ndarray:
        """Corners (4, 3) of the opening in the middle plane."""
        places = ((self.y0, 0.0), (self.y1, 0.0), (self.y1, self.height), (self.y0, self.height))
        return np.array([(self.x, y, z) for y, z in places])


@dataclass
class Placed:
    """A room and where its corner stands: ``origin`` (x, y) metres in the apartment's frame."""

    room: Room
    origin: tuple[float, float]
    holes: dict[int, Box] = field(default_factory=dict)  # wall number -> (s0, z0, s1, z1) cut out of it

    @property
    def label(self) -> str:
        """What the frame labels call it."""
        return self.room.kind.replace("_", " ")

    def obstacles(self) -> list[Box]:
        """Footprints in the apartment's frame that no camera may enter."""
        x, y = self.origin
        return [(a + x, b + y, c + x, d + y) for a, b, c, d in self.room.solid]

    def bounds(self) -> Box:
        """Floor rectangle in the apartment's frame."""
        x, y = self.origin
        return (x, y, x + self.room.width, y + self.room.depth)


@dataclass
class Apartment:
    """Rooms along x; ``doorways[0]`` is the front door, from zone 0 (outdoors) to zone 1 (``rooms[0]``).

    Attributes:
        rooms: in the order of the walk.
        doorways: ``doorways[i]`` leads into ``rooms[i]``.
        outdoor: street, facade, plants; labels -1 except walls, door, windows, plants.
        reveals: sides of the openings, which two zones see.
    """

    rooms: list[Placed]
    doorways: list[Doorway]
    outdoor: Shape
    reveals: Shape

    def labels(self) -> list[str]:
        """Names of the zones, outdoors first."""
        return ["outdoor", *(placed.label for placed in self.rooms)]


def build_apartment(seed: int, num_rooms: int = 2) -> Apartment:
    """An apartment of ``num_rooms`` rooms.

    Raises:
        ValueError: fewer than one or more than eight rooms.
    """
    if not 1 <= num_rooms <= 8:
        raise ValueError(f"{num_rooms} rooms: choose 1 to 8")
    rng = np.random.default_rng([seed, 77])
    kinds = _draw_kinds(rng, num_rooms)
    rooms: list[Placed] = []
    doorways: list[Doorway] = []
    x, y = 0.0, 0.0  # the next room's left side; the height along y of the last exit
    for number in range(num_rooms):
        room, entry, leave = _walkable_room(kinds[number], rng, has_exit=number + 1 < num_rooms, has_leaf=number == 0)
        placed = Placed(room, (x, y - entry))
        doorways.append(Doorway(number, x - THICKNESS, x, y - DOOR[0] / 2, y + DOOR[0] / 2, DOOR[1]))
        placed.holes[3] = (room.depth - entry - DOOR[0] / 2, 0.0, room.depth - entry + DOOR[0] / 2, DOOR[1])
        if leave is not None:
            placed.holes[1] = (leave - DOOR[0] / 2, 0.0, leave + DOOR[0] / 2, DOOR[1])
            y = placed.origin[1] + leave
        rooms.append(placed)
        x += room.width + THICKNESS
    _open_leaf(rooms[0], rng)
    reveals = Shape()
    for doorway in doorways:
        _add_reveal(reveals, doorway, rng)
    first = rooms[0].bounds()
    return Apartment(rooms, doorways, build_outdoor(rng, doorways[0], (first[1], first[3])), reveals)


def _draw_kinds(rng: Rng, count: int) -> list[str]:
    """A living room first; no kind comes back before all were there: neighbours differ in their labels."""
    kinds = [0]
    for number in range(1, count):
        kind = (number + int(rng.integers(1, 3))) % len(KINDS)
        recent = kinds[-min(number, len(KINDS) - 1) :]
        while kind in recent:
            kind = (kind + 1) % len(KINDS)
        kinds.append(kind)
    return [KINDS[kind] for kind in kinds]


def _walkable_room(kind: str, rng: Rng, has_exit: bool, has_leaf: bool) -> tuple[Room, float, float | None]:
    """A furnished room one can walk around in, with the y of its entry (wall x = 0) and exit (wall x = width)."""
    best: tuple[float, Room, float, float | None] | None = None
    for _ in range(TRIES):
        room, entry, leave = _draw_room(kind, np.random.default_rng(int(rng.integers(2**62))), has_exit)
        leaf = [_leaf_box(room, entry)] if has_leaf else []
        space = FreeSpace((0.0, 0.0, room.width, room.depth), room.solid + leaf)
        doors = [(0.35, entry)] + ([(room.width - 0.35, leave)] if leave is not None else [])
        quality = space.quality(doors)
        if best is None or quality > best[0]:
            best = (quality, room, entry, leave)
        if quality >= 1.0:
            break
    assert best is not None
    return best[1:]


def _draw_room(kind: str, rng: Rng, has_exit: bool) -> tuple[Room, float, float | None]:
    low, high = RECIPES[kind].size
    width, depth = (float(v) for v in rng.uniform(max(low, SIDES[0]), np.clip(high, SIDES[0] + 0.6, SIDES[1]), 2))
    room = Room(kind, width, depth, float(rng.uniform(2.4, 2.8)))
    style = Style.draw(rng)
    add_shell(room, rng)
    entry = float(rng.uniform(0.8, depth - 0.8))
    leave = float(rng.uniform(0.8, depth - 0.8)) if has_exit else None
    half, deep = DOOR[0] / 2 + 0.1, 0.95
    room.occupied.append((0.0, entry - half, deep, entry + half))
    room.wall_use.append((3, depth - entry - half, depth - entry + half, 0.0, DOOR[1] + 0.1))
    if leave is not None:
        room.occupied.append((width - deep, leave - half, width, leave + half))
        room.wall_use.append((1, leave - half, leave + half, 0.0, DOOR[1] + 0.1))
    kept = len(room.wall_use)
    room.wall_use += [(wall, -1.0, 99.0, 0.0, 9.0) for wall in (1, 3)]  # other rooms and the street lie behind these
    if rng.random() < 0.5:
        add_door(room, rng, style)
    for _ in range(int(rng.integers(1, 3))):
        add_window(room, rng)
    room.wall_use = [use for number, use in enumerate(room.wall_use) if number not in (kept, kept + 1)]
    furnish(room, rng, style)
    for maker in (make_shelf, make_dresser, make_carton, make_carton):  # homes are fuller than training rooms need
        item = maker(rng, style)
        pose = place_at_wall(room, item, rng)
        if pose is not None:
            add_clutter(room, item, pose, rng, style)
    if not any(label == "rug" for label, *_ in room.placed):
        place_loose(room, make_rug(rng, style), rng, occupy=False)
    for _ in range(int(rng.integers(7, 11))):
        add_picture(room, rng)
    add_ceiling_lamp(room, rng, style)
    return room, entry, leave


def _leaf_box(room: Room, entry: float) -> Box:
    """Footprint of the open front door: on the side of its opening where the room is deeper."""
    y = entry + (1 if entry < room.depth / 2 else -1) * (DOOR[0] / 2 + 0.03)
    return (0.0, y - 0.05, DOOR[0], y + 0.05)


def _open_leaf(placed: Placed, rng: Rng) -> None:
    """The front door stands open into the first room, beside the way in."""
    room = placed.room
    entry = room.depth - (placed.holes[3][0] + placed.holes[3][2]) / 2
    box = _leaf_box(room, entry)
    side, y = (1 if box[1] > entry else -1), (box[1] + box[3]) / 2
    leaf = Shape()
    leaf.box((DOOR[0] / 2, y, DOOR[1] / 2), (DOOR[0] - 0.04, 0.04, DOOR[1] - 0.02), paint(rng, OPENING_COLORS))
    leaf.box((DOOR[0] - 0.12, y - side * 0.04, 1.02), (0.12, 0.03, 0.025), paint(rng, ((0.5, 0.5, 0.52),)))
    room.shape.add(leaf, segment=CLASS_ID["door"], instance=room.new_instance())
    room.solid.append(box)


def _add_reveal(shape: Shape, doorway: Doorway, rng: Rng) -> None:
    """Sides, top and threshold of an opening, and trims on both faces of the wall."""
    d, wood, part = doorway, paint(rng, OPENING_COLORS), Shape()
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

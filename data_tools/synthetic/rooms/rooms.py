"""Layout: walls with doors and windows, furniture along them and in the middle, small things on top."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from data_tools.synthetic.rooms import fixtures as fx
from data_tools.synthetic.rooms import furniture as fu
from data_tools.synthetic.rooms.furniture import Item, Maker, Rng
from data_tools.synthetic.rooms.palette import (
    BRIGHTS,
    CLASS_ID,
    FABRICS,
    GREYS,
    METAL,
    WALLS,
    WHITES,
    WOODS,
    Style,
    paint,
)
from data_tools.synthetic.rooms.shapes import BLOTCH, CHECKER, PLAIN, SPECKLE, STRIPES, WOOD, Paint, Shape

Box = tuple[float, float, float, float]
Pose = tuple[float, float, float]  # x, y, yaw


@dataclass(frozen=True)
class Recipe:
    """What a kind of room holds: makers with (least, most) counts, along the walls and standing free."""

    size: tuple[float, float]
    floors: str
    wall_things: tuple[tuple[Maker, int, int], ...]
    groups: tuple[str, ...]
    loose: tuple[tuple[Maker, int, int], ...]


RECIPES: dict[str, Recipe] = {
    "living_room": Recipe(
        (3.6, 6.0), "wood",
        ((fx.make_tv_bench, 1, 1), (fu.make_sofa, 1, 2), (fx.make_shelf, 0, 2), (fx.make_dresser, 0, 1),
         (fx.make_wardrobe, 0, 1)),
        ("lounge", "dining"),
        ((fu.make_floor_lamp, 0, 2), (fu.make_plant, 0, 2), (fu.make_carton, 0, 2)),
    ),
    "bedroom": Recipe(
        (2.9, 4.8), "soft",
        ((fu.make_bed, 1, 1), (fx.make_wardrobe, 1, 2), (fu.make_desk, 0, 1), (fx.make_dresser, 0, 1),
         (fx.make_shelf, 0, 1)),
        (),
        ((fu.make_floor_lamp, 0, 1), (fu.make_plant, 0, 1), (fu.make_carton, 0, 2), (fu.make_chair, 0, 1)),
    ),
    "kitchen": Recipe(
        (2.6, 4.6), "tile",
        ((fx.make_counter, 1, 1), (fx.make_fridge, 1, 1), (fx.make_dresser, 0, 1), (fx.make_shelf, 0, 1)),
        ("dining",),
        ((fu.make_plant, 0, 1), (fu.make_carton, 0, 2)),
    ),
    "bathroom": Recipe(
        (1.9, 3.2), "tile",
        ((fx.make_bathtub, 0, 1), (fx.make_toilet, 1, 1), (fx.make_washstand, 1, 2), (fx.make_shelf, 0, 1)),
        (),
        ((fu.make_carton, 0, 1), (fu.make_plant, 0, 1)),
    ),
    "office": Recipe(
        (2.8, 5.2), "soft",
        ((fu.make_desk, 1, 3), (fx.make_shelf, 1, 2), (fx.make_wardrobe, 0, 1), (fx.make_dresser, 0, 1),
         (fu.make_sofa, 0, 1)),
        (),
        ((fu.make_plant, 0, 2), (fu.make_carton, 0, 3), (fu.make_floor_lamp, 0, 1)),
    ),
    "dining_room": Recipe(
        (3.0, 5.0), "wood",
        ((fx.make_dresser, 1, 2), (fx.make_shelf, 0, 1), (fu.make_sofa, 0, 1)),
        ("dining",),
        ((fu.make_plant, 0, 2), (fu.make_floor_lamp, 0, 1), (fu.make_carton, 0, 1)),
    ),
}  # fmt: skip
ROOM_KINDS = tuple(RECIPES)


@dataclass
class Room:
    """A furnished room in metres: x in [0, width], y in [0, depth], z in [0, height].

    Attributes:
        shape: all surfaces with class and instance labels.
        cutouts: parts of walls that are not there: (wall number, s0, s1, z0, z1).
        covered: floor under solid things: (x, y, half width, half depth, cos yaw, sin yaw).
        occupied: footprints that nothing else may stand on (x0, y0, x1, y1), door swings included.
        solid: footprints of things; no camera stands there.
        shell_instances: instance numbers below this are floor, ceiling and the four walls.
        wall_use: what hangs on or stands before a wall: (wall number, s0, s1, z0, z1).
        placed: (class name, footprint, low z, high z) of every thing, for checks.
    """

    kind: str
    width: float
    depth: float
    height: float
    shape: Shape = field(default_factory=Shape)
    cutouts: list[tuple[int, float, float, float, float]] = field(default_factory=list)
    covered: list[tuple[float, float, float, float, float, float]] = field(default_factory=list)
    occupied: list[Box] = field(default_factory=list)
    placed: list[tuple[str, Box, float, float]] = field(default_factory=list)
    wall_use: list[tuple[int, float, float, float, float]] = field(default_factory=list)
    solid: list[Box] = field(default_factory=list)
    instances: int = 0
    shell_instances: int = 6

    def wall_length(self, wall: int) -> float:
        """Walls 0..3 run along y = 0, x = width, y = depth, x = 0; all counter-clockwise."""
        return self.width if wall % 2 == 0 else self.depth

    def from_wall(self, wall: int, s: float, away: float) -> tuple[float, float]:
        """The point ``s`` metres along a wall and ``away`` metres from it."""
        return ((s, away), (self.width - away, s), (self.width - s, self.depth - away), (away, self.depth - s))[wall]

    def occupy_wall(self, wall: int, s0: float, s1: float, deep: float) -> None:
        """Keep the floor before a stretch of wall free, ``deep`` metres into the room."""
        (ax, ay), (bx, by) = self.from_wall(wall, s0, 0.0), self.from_wall(wall, s1, deep)
        self.occupied.append((min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)))

    def new_instance(self) -> int:
        """The next instance number."""
        self.instances += 1
        return self.instances - 1

    def put(self, item: Item, x: float, y: float, z: float, yaw: float) -> None:
        """Add an item and its parts at a pose."""
        self.shape.add(item.shape, yaw, (x, y, z), CLASS_ID[item.label], self.new_instance())
        box = footprint(item, x, y, yaw)
        self.placed.append((item.label, box, z, z + item.size[2]))
        if item.label not in ("rug", "door", "window", "picture") and z < 1.7 and item.size[2] + z > 0.3:
            self.solid.append(box)
        cos, sin = float(np.cos(yaw)), float(np.sin(yaw))
        if item.covers_floor and z == 0:
            self.covered.append((x, y, item.size[0] / 2 - 0.01, item.size[1] / 2 - 0.01, cos, sin))
        for part, dx, dy, dz, turn in item.parts:
            self.put(part, *beside((x, y, yaw), dx, dy), z + dz, yaw + turn)

    def is_free(self, box: Box, margin: float = 0.03) -> bool:
        """Whether a footprint lies in the room and meets no other."""
        x0, y0, x1, y1 = box
        if x0 < 0 or y0 < 0 or x1 > self.width or y1 > self.depth:
            return False
        m = margin
        return all(x1 + m <= a or c + m <= x0 or y1 + m <= b or d + m <= y0 for a, b, c, d in self.occupied)

    def wall_is_free(self, wall: int, s0: float, s1: float, z0: float, z1: float, margin: float = 0.05) -> bool:
        """Whether a rectangle of a wall is not used by an opening, a thing in front of it or a picture."""
        m = margin
        return all(
            wall != k or s1 + m <= a or b + m <= s0 or z1 + m <= c or d + m <= z0 for k, a, b, c, d in self.wall_use
        )


def beside(pose: Pose, dx: float, dy: float) -> tuple[float, float]:
    """The place (x, y) that lies at (dx, dy) in the frame of a thing that stands at ``pose``."""
    x, y, yaw = pose
    cos, sin = float(np.cos(yaw)), float(np.sin(yaw))
    return x + cos * dx - sin * dy, y + sin * dx + cos * dy


def footprint(item: Item, x: float, y: float, yaw: float) -> Box:
    """Axis-aligned box around an item that is turned by ``yaw``."""
    cos, sin = abs(float(np.cos(yaw))), abs(float(np.sin(yaw)))
    w, d = (cos * item.size[0] + sin * item.size[1]) / 2, (sin * item.size[0] + cos * item.size[1]) / 2
    return (x - w, y - d, x + w, y + d)


def place_at_wall(room: Room, item: Item, rng: Rng) -> Pose | None:
    """Stand an item with its back to a wall, clear of doors, windows and other things; its pose or None."""
    for _ in range(30):
        wall = int(rng.choice(4, p=[0.5 * room.wall_length(k) / (room.width + room.depth) for k in range(4)]))
        turn = float(rng.normal(0, np.deg2rad(1.5)))
        box = footprint(item, 0.0, 0.0, turn)
        half, deep = box[2], box[3]
        length = room.wall_length(wall)
        if length < 2 * half + 0.04:
            continue
        gap = float(rng.uniform(0.01, 0.05))
        s = float(rng.uniform(half + 0.02, length - half - 0.02))
        if rng.random() < 0.4:
            s = half + 0.03 if rng.random() < 0.5 else length - half - 0.03
        x, y = room.from_wall(wall, s, deep + gap)
        yaw = wall * np.pi / 2 + turn
        box = footprint(item, x, y, yaw)
        if room.is_free(box) and room.wall_is_free(wall, s - half, s + half, 0.0, item.size[2]):
            room.put(item, x, y, 0.0, yaw)
            room.occupied.append(box)
            room.wall_use.append((wall, s - half, s + half, 0.0, item.size[2]))
            return x, y, yaw
    return None


def place_loose(room: Room, item: Item, rng: Rng, tries: int = 20, turn: float = 0.1) -> Pose | None:
    """Stand an item anywhere free, turned by a multiple of 90 degrees plus jitter; its pose or None."""
    for _ in range(tries):
        yaw = float(rng.integers(4)) * np.pi / 2 + float(rng.normal(0, turn))
        x, y = float(rng.uniform(0, room.width)), float(rng.uniform(0, room.depth))
        if place_near(room, item, x, y, yaw):
            return x, y, yaw
    return None


def place_near(
    room: Room, item: Item, x: float, y: float, yaw: float, occupy: bool = True, margin: float = 0.03
) -> bool:
    """Stand an item at a pose if that is free."""
    box = footprint(item, x, y, yaw)
    inside = box[0] >= 0.02 and box[1] >= 0.02 and box[2] <= room.width - 0.02 and box[3] <= room.depth - 0.02
    if not inside or (occupy and not room.is_free(box, margin)):
        return False
    room.put(item, x, y, 0.0, yaw)
    if occupy:
        room.occupied.append(box)
    return True


def add_clutter(room: Room, item: Item, pose: Pose, rng: Rng, style: Style) -> None:
    """Small things, sometimes a lamp, on an item's flat places."""
    for sx, sy, sz, w, d in item.supports:
        taken: list[Box] = []
        for _ in range(int(rng.integers(0, 5))):
            thing = fu.make_table_lamp(rng, style) if rng.random() < 0.12 else fu.make_clutter(rng, style)
            if thing.size[0] > w or thing.size[1] > d:
                continue
            px = sx + float(rng.uniform(-1, 1)) * (w - thing.size[0]) / 2
            py = sy + float(rng.uniform(-1, 1)) * (d - thing.size[1]) / 2
            box = (px - thing.size[0] / 2, py - thing.size[1] / 2, px + thing.size[0] / 2, py + thing.size[1] / 2)
            if any(box[2] > a and c > box[0] and box[3] > b and e > box[1] for a, b, c, e in taken):
                continue
            taken.append(box)
            turn = pose[2] + float(rng.normal(0, 0.15))
            room.put(thing, *beside(pose, px, py), sz, turn)


def add_group(room: Room, name: str, rng: Rng, style: Style) -> None:
    """A table with chairs ("dining"), or a low table on a rug ("lounge")."""
    item = fu.make_low_table(rng, style) if name == "lounge" else fu.make_table(rng, style)
    pose = place_loose(room, item, rng, tries=40, turn=0.05)
    if pose is None:
        return
    add_clutter(room, item, pose, rng, style)
    if rng.random() < (0.7 if name == "lounge" else 0.3):
        place_near(room, fu.make_rug(rng, style), *pose, occupy=False)
    if name == "dining":
        around(room, item, pose, rng, style)


def around(room: Room, item: Item, pose: Pose, rng: Rng, style: Style) -> None:
    """Chairs of one kind on the sides of a table, where there is room."""
    w, d, _ = item.size
    sides = [(0.0, -1.0, w), (0.0, 1.0, w), (-1.0, 0.0, d), (1.0, 0.0, d)]
    kind = int(rng.integers(2**31))
    for ux, uy, length in sides:
        for i in range(count := (2 if length > 1.3 else 1)):
            chair = fu.make_chair(np.random.default_rng(kind), style)
            along = length * ((i + 0.5) / count - 0.5)
            out = (d if uy else w) / 2 + chair.size[1] / 2 + float(rng.uniform(0.04, 0.18))
            px, py = (along, uy * out) if uy else (ux * out, along)
            facing = float(np.arctan2(-uy, -ux)) - np.pi / 2  # its front (+y) towards the table
            turn = pose[2] + facing + float(rng.normal(0, 0.2))
            if rng.random() < 0.85:
                place_near(room, chair, *beside(pose, px, py), turn, margin=0.0)


def add_companions(room: Room, item: Item, pose: Pose, rng: Rng, style: Style) -> None:
    """What goes with a thing at a wall: a chair at a desk, tables beside a bed, a cabinet above a counter."""
    x, y, yaw = pose
    if item.label == "desk":
        chair = fu.make_chair(rng, style)
        out = item.size[1] / 2 + chair.size[1] / 2 + float(rng.uniform(0.05, 0.2))
        place_near(room, chair, *beside(pose, 0, out), yaw + np.pi + float(rng.normal(0, 0.4)), margin=0.0)
    if item.label == "bed":
        for side in (-1, 1):
            table = fu.make_low_table(rng, style)
            table_w, table_d = table.size[:2]
            if table_w > 0.65 or rng.random() < 0.3:
                continue
            px, py = side * (item.size[0] / 2 + table_w / 2 + 0.04), -item.size[1] / 2 + table_d / 2 + 0.02
            spot = beside(pose, px, py)
            if place_near(room, table, *spot, yaw, margin=0.0):
                add_clutter(room, table, (*spot, yaw), rng, style)
        if rng.random() < 0.5:
            place_near(room, fu.make_rug(rng, style), *beside(pose, 0, 0.8), yaw, occupy=False)
    if item.label == "sofa" and rng.random() < 0.6:
        table = fu.make_low_table(rng, style)
        out = item.size[1] / 2 + table.size[1] / 2 + float(rng.uniform(0.3, 0.5))
        spot = beside(pose, 0, out)
        if place_near(room, table, *spot, yaw):
            add_clutter(room, table, (*spot, yaw), rng, style)
            if rng.random() < 0.6:
                place_near(room, fu.make_rug(rng, style), *spot, yaw, occupy=False)
    if item.label == "counter":
        wall = int(np.rint(yaw / (np.pi / 2))) % 4  # behind it
        s, half = (x, y, room.width - x, room.depth - y)[wall], item.size[0] / 2
        if room.height > 2.25 and room.wall_is_free(wall, s - half, s + half, 1.4, 2.15, margin=0.02):
            hanging = fx.make_wall_cabinet(rng, style, item.size[0])
            room.put(hanging, *room.from_wall(wall, s, hanging.size[1] / 2 + 0.01), 1.45, wall * np.pi / 2)
            room.wall_use.append((wall, s - half, s + half, 1.45, 1.45 + hanging.size[2]))


def furnish(room: Room, rng: Rng, style: Style) -> None:
    """Fill a room by the recipe of its kind, big things first."""
    recipe = RECIPES[room.kind]
    for maker, least, most in recipe.wall_things:
        for _ in range(int(rng.integers(least, most + 1))):
            item = maker(rng, style)
            pose = place_at_wall(room, item, rng)
            if pose is not None:
                add_clutter(room, item, pose, rng, style)
                add_companions(room, item, pose, rng, style)
    for name in recipe.groups:
        add_group(room, name, rng, style)
    for maker, least, most in recipe.loose:
        for _ in range(int(rng.integers(least, most + 1))):
            item = maker(rng, style)
            pose = place_loose(room, item, rng) if rng.random() < 0.4 else place_at_wall(room, item, rng)
            if pose is not None:
                add_clutter(room, item, pose, rng, style)


FLOORS: dict[str, Callable[[Rng], Paint]] = {
    "wood": lambda rng: paint(rng, WOODS, WOOD, float(rng.uniform(0.15, 0.5))),
    "soft": lambda rng: paint(rng, WOODS + FABRICS + GREYS, int(rng.choice([WOOD, SPECKLE, PLAIN])), 0.3),
    "tile": lambda rng: paint(rng, WHITES + GREYS + WALLS, CHECKER, float(rng.uniform(0.2, 0.5))),
}
WALL_PATTERNS = (PLAIN, PLAIN, PLAIN, STRIPES, BLOTCH)
OPENING_COLORS = WHITES + WOODS + GREYS
PICTURE_COLORS = BRIGHTS + FABRICS + METAL

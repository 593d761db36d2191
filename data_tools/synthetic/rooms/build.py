"""The shell of a room (floor, walls, openings, pictures, ceiling lamp) and the whole room from a seed."""

from __future__ import annotations

import numpy as np

from data_tools.synthetic.rooms.fixtures import make_curtain
from data_tools.synthetic.rooms.furniture import Item, Rng
from data_tools.synthetic.rooms.palette import CLASS_ID, FABRICS, WALLS, WHITES, Style, paint
from data_tools.synthetic.rooms.rooms import (
    FLOORS,
    OPENING_COLORS,
    PICTURE_COLORS,
    RECIPES,
    ROOM_KINDS,
    WALL_PATTERNS,
    Room,
    furnish,
)
from data_tools.synthetic.rooms.shapes import BLOTCH, CHECKER, PLAIN, Paint, Shape

SKY = ((0.75, 0.83, 0.92), (0.88, 0.90, 0.92), (0.45, 0.52, 0.45))


def build_room(rng: Rng, kind: str | None = None) -> Room:
    """A furnished room, of a random kind where none is given.

    Returns:
        The room in metres, z up, floor at z = 0.
    """
    kind = str(rng.choice(ROOM_KINDS)) if kind is None else kind
    low, high = RECIPES[kind].size
    width, depth = (float(v) for v in rng.uniform(low, high, 2))
    room = Room(kind, width, depth, float(rng.uniform(2.3, 3.0)))
    style = Style.draw(rng)
    add_shell(room, rng)
    add_notch(room, rng)
    add_door(room, rng, style)
    for _ in range(int(rng.integers(0 if kind == "bathroom" else 1, 3))):
        add_window(room, rng)
    furnish(room, rng, style)
    for _ in range(int(rng.integers(0, 4))):
        add_picture(room, rng)
    add_ceiling_lamp(room, rng, style)
    return room


def add_shell(room: Room, rng: Rng) -> None:
    """Floor, ceiling and four walls, seen from inside; one wall may differ."""
    w, d, h = room.width, room.depth, room.height
    floor, ceiling = Shape(), Shape()
    floor.quad((0, 0, 0), (w, 0, 0), (0, d, 0), FLOORS[RECIPES[room.kind].floors](rng))
    ceiling.quad((0, d, h), (w, 0, 0), (0, -d, 0), paint(rng, WHITES))
    room.shape.add(floor, segment=CLASS_ID["floor"], instance=room.new_instance())
    room.shape.add(ceiling, segment=CLASS_ID["ceiling"], instance=room.new_instance())
    common = paint(rng, WALLS, int(rng.choice(WALL_PATTERNS)), float(rng.uniform(0.1, 0.8)))
    if room.kind in ("bathroom", "kitchen") and rng.random() < 0.6:
        common = paint(rng, WHITES + WALLS, CHECKER, float(rng.uniform(0.1, 0.3)))
    accent = paint(rng, WALLS + FABRICS, PLAIN) if rng.random() < 0.35 else common
    corners = ((0, 0), (w, 0), (w, d), (0, d))
    for wall in range(4):
        (x0, y0), (x1, y1) = corners[wall], corners[(wall + 1) % 4]
        shape = Shape()
        # inward normal: from the far corner back to the near one, then up
        shape.quad((x1, y1, 0), (x0 - x1, y0 - y1, 0), (0, 0, h), accent if wall == 0 else common)
        room.shape.add(shape, segment=CLASS_ID["wall"], instance=room.new_instance())


def add_notch(room: Room, rng: Rng) -> None:
    """A quarter of the rooms is L-shaped: a block of wall fills one corner."""
    if rng.random() > 0.25 or min(room.width, room.depth) < 3.0:
        return
    w, d = (float(v) for v in rng.uniform(0.4, 0.35 * min(room.width, room.depth), 2))
    x = w / 2 if rng.random() < 0.5 else room.width - w / 2
    y = d / 2 if rng.random() < 0.5 else room.depth - d / 2
    shape = Shape()
    shape.box((x, y, room.height / 2), (w, d, room.height), paint(rng, WALLS), skip="z- z+")
    room.shape.add(shape, segment=CLASS_ID["wall"], instance=room.new_instance())
    box = (x - w / 2, y - d / 2, x + w / 2, y + d / 2)
    room.occupied.append(box)
    room.solid.append(box)
    room.covered.append((x, y, w / 2, d / 2, 1.0, 0.0))
    room.placed.append(("wall", box, 0.0, room.height))
    for wall in range(4):  # no opening behind the block
        s = (x, y, room.width - x, room.depth - y)[wall]
        away = (y, room.width - x, room.depth - y, x)[wall]
        along, across = (w, d) if wall % 2 == 0 else (d, w)
        if away <= across / 2 + 1e-6:
            room.wall_use.append((wall, s - along / 2, s + along / 2, 0.0, room.height))


def _free_stretch(room: Room, rng: Rng, width: float, z0: float, z1: float) -> tuple[int, float] | None:
    for _ in range(25):
        wall = int(rng.integers(4))
        length = room.wall_length(wall)
        if length < width + 0.3:
            continue
        s = float(rng.uniform(width / 2 + 0.12, length - width / 2 - 0.12))
        if room.wall_is_free(wall, s - width / 2, s + width / 2, z0, z1, margin=0.12):
            return wall, s
    return None


def _frame(shape: Shape, w: float, z0: float, z1: float, wide: float, deep: float, material: Paint, sill: bool) -> None:
    """A frame around an opening, standing ``deep`` out of the wall (local frame: wall at y = 0, room at y > 0)."""
    for side in (-1, 1):
        shape.box(
            (side * (w + wide) / 2, deep / 2, (z0 + z1 + wide) / 2), (wide, deep, z1 - z0 + wide), material, skip="y-"
        )
    shape.box((0, deep / 2, z1 + wide / 2), (w, deep, wide), material, skip="y- x- x+")
    if sill:
        shape.box((0, deep + 0.025, z0 - 0.015), (w + 2 * wide, 2 * deep + 0.05, 0.03), material, skip="y-")


def _put_on_wall(
    room: Room, shape: Shape, label: str, wall: int, s: float, size: tuple[float, float, float], z: float = 0.0
) -> None:
    item = Item(label, shape, size)
    x, y = room.from_wall(wall, s, 0.0)
    room.put(item, x, y, z, wall * np.pi / 2)


def add_door(room: Room, rng: Rng, style: Style) -> None:
    """A door leaf in a frame; the floor before it stays free."""
    w, h = float(rng.uniform(0.75, 0.95)), min(float(rng.uniform(1.95, 2.1)), room.height - 0.15)
    spot = _free_stretch(room, rng, w + 0.16, 0.0, h)
    if spot is None:
        return
    wall, s = spot
    material = paint(rng, OPENING_COLORS)
    shape = Shape()
    _frame(shape, w, 0.0, h, 0.08, 0.03, material, sill=False)
    shape.quad((w / 2, 0.004, 0), (-w, 0, 0), (0, 0, h), material)
    for z in (h * 0.28, h * 0.72) if rng.random() < 0.6 else ():
        shape.box((0, 0.008, z), (w * 0.6, 0.012, h * 0.32), material, skip="y-")
    shape.box((w * 0.38, 0.05, 1.0), (0.12, 0.025, 0.025), style.metal)
    shape.box((w * 0.42, 0.02, 1.0), (0.03, 0.04, 0.12), style.metal, skip="y-")
    _put_on_wall(room, shape, "door", wall, s, (w + 0.16, 0.06, h + 0.08))
    room.cutouts.append((wall, s - w / 2 - 0.08, s + w / 2 + 0.08, 0.0, h + 0.08))
    room.wall_use.append((wall, s - w / 2 - 0.08, s + w / 2 + 0.08, 0.0, h + 0.08))
    room.occupy_wall(wall, s - w / 2, s + w / 2, 0.75)


def add_window(room: Room, rng: Rng) -> None:
    """Glass with a bright outside in a frame with bars; half of them have curtains."""
    small = room.kind == "bathroom"
    w = float(rng.uniform(0.5, 0.8) if small else rng.uniform(0.8, 1.9))
    z0 = float(rng.uniform(1.1, 1.4) if small else rng.choice([rng.uniform(0.75, 1.0), rng.uniform(0.75, 1.0), 0.15]))
    z1 = min(float(rng.uniform(1.95, 2.25)), room.height - 0.2)
    hang = 0.3 if not small and rng.random() < 0.55 else 0.0
    spot = _free_stretch(room, rng, w + 0.14 + 2 * hang, 0.0 if hang else z0, z1)
    if spot is None:
        return
    wall, s = spot
    shape, frame = Shape(), paint(rng, OPENING_COLORS)
    _frame(shape, w, z0, z1, 0.07, 0.03, frame, sill=True)
    shape.quad((w / 2, 0.005, z0), (-w, 0, 0), (0, 0, z1 - z0), paint(rng, SKY, BLOTCH, 0.5))
    for x in np.linspace(-w / 2, w / 2, int(rng.integers(2, 4)) + 1)[1:-1]:
        shape.box((float(x), 0.02, (z0 + z1) / 2), (0.05, 0.03, z1 - z0), frame, skip="y-")
    _put_on_wall(room, shape, "window", wall, s, (w + 0.14, 0.12, z1 - z0 + 0.1), 0.0)
    room.cutouts.append((wall, s - w / 2 - 0.07, s + w / 2 + 0.07, z0, z1 + 0.07))
    room.wall_use.append((wall, s - w / 2 - 0.07, s + w / 2 + 0.07, z0 - 0.05, z1 + 0.07))
    if hang:
        add_curtains(room, rng, wall, s, w, z1)


def add_curtains(room: Room, rng: Rng, wall: int, s: float, w: float, top: float) -> None:
    """A hanging on either side of a window, down to the floor, under one rod."""
    wide, high = float(rng.uniform(0.3, 0.45)), min(top + 0.12, room.height - 0.05)
    for side in (-1, 1):
        at = s + side * (w / 2 + 0.1)
        if not wide / 2 < at < room.wall_length(wall) - wide / 2:
            continue
        curtain = make_curtain(rng, wide, high - 0.04)
        x, y = room.from_wall(wall, at, 0.09)
        room.put(curtain, x, y, 0.04, wall * np.pi / 2)
        room.occupy_wall(wall, at - wide / 2, at + wide / 2, 0.16)
        room.wall_use.append((wall, at - wide / 2, at + wide / 2, 0.0, high))


def add_picture(room: Room, rng: Rng) -> None:
    """A framed picture (or mirror) on a free piece of wall."""
    w, h, z = float(rng.uniform(0.3, 1.0)), float(rng.uniform(0.3, 0.7)), float(rng.uniform(1.35, 1.6))
    spot = _free_stretch(room, rng, w, z - h / 2, z + h / 2)
    if spot is None:
        return
    wall, s = spot
    shape, frame = Shape(), paint(rng, OPENING_COLORS)
    shape.box((0, 0.012, z), (w, 0.024, h), frame, skip="y-")
    shape.quad(
        (w / 2 - 0.03, 0.026, z - h / 2 + 0.03),
        (0.06 - w, 0, 0),
        (0, 0, h - 0.06),
        paint(rng, PICTURE_COLORS, BLOTCH, 0.15),
    )
    _put_on_wall(room, shape, "picture", wall, s, (w, 0.05, h))
    room.wall_use.append((wall, s - w / 2, s + w / 2, z - h / 2, z + h / 2))
    room.cutouts.append((wall, s - w / 2, s + w / 2, z - h / 2, z + h / 2))


def add_ceiling_lamp(room: Room, rng: Rng, style: Style) -> None:
    """A flat lamp, or a pendant where people do not bump into it."""
    x, y = room.width * float(rng.uniform(0.4, 0.6)), room.depth * float(rng.uniform(0.4, 0.6))
    r, shape, h = float(rng.uniform(0.13, 0.25)), Shape(), room.height
    if rng.random() < 0.5 or h < 2.5:
        shape.cylinder((0, 0, h - 0.08), r, 0.08, paint(rng, WHITES), caps="-")
        low = h - 0.08
    else:
        low = h - 0.6
        shape.cylinder((0, 0, h - 0.35), 0.01, 0.35, style.metal, caps="")
        shape.cylinder((0, 0, low), r, 0.25, paint(rng, WHITES + FABRICS), top=r * 0.4)
    room.shape.add(shape, 0.0, (x, y, 0.0), CLASS_ID["lamp"], room.new_instance())
    room.placed.append(("lamp", (x - r, y - r, x + r, y + r), low, h))

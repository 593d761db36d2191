"""Furniture of simple solids. Every maker stands on z = 0, its middle at x = y = 0, its back towards -y."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from data_tools.synthetic.rooms.palette import BRIGHTS, FABRICS, GREENS, GREYS, METAL, WHITES, WOODS, Style, paint
from data_tools.synthetic.rooms.shapes import CHECKER, PLAIN, STRIPES, Paint, Shape

Rng = np.random.Generator


@dataclass
class Item:
    """A thing to place.

    Attributes:
        label: its class in `palette.CLASSES`.
        shape: surfaces in its own frame (metres).
        size: (width x, depth y, height z) of its bounding box.
        supports: flat places for small things: (x, y, z, width, depth).
        parts: other things it carries: (item, x, y, z, yaw).
        covers_floor: its base hides the floor (a bed on legs does not).
    """

    label: str
    shape: Shape
    size: tuple[float, float, float]
    supports: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    parts: list[tuple[Item, float, float, float, float]] = field(default_factory=list)
    covers_floor: bool = False


Maker = Callable[[Rng, Style], Item]


def _legs(shape: Shape, w: float, d: float, height: float, thick: float, material: Paint, round_legs: bool) -> None:
    for x in (-w / 2 + thick, w / 2 - thick):
        for y in (-d / 2 + thick, d / 2 - thick):
            if round_legs:
                shape.cylinder((x, y, 0), thick / 2, height, material, caps="")
            else:
                shape.box((x, y, height / 2), (thick, thick, height), material, skip="z- z+")


def make_bed(rng: Rng, style: Style) -> Item:
    """Single or double: frame, mattress, blanket, pillows, head board."""
    w, d = float(rng.choice([0.95, 1.45, 1.7])), float(rng.uniform(1.95, 2.15))
    frame, top = float(rng.uniform(0.2, 0.32)), float(rng.uniform(0.42, 0.58))
    head = float(rng.uniform(0.8, 1.15))
    shape = Shape()
    on_legs = rng.random() < 0.4
    material = style.any_furniture(rng)
    bottom = 0.12 if on_legs else 0.0
    shape.box((0, 0, (bottom + frame) / 2), (w, d, frame - bottom), material, skip="" if on_legs else "z-")
    if on_legs:
        _legs(shape, w, d, bottom, 0.07, material, False)
    shape.box((0, 0.0, (frame + top) / 2), (w - 0.04, d - 0.1, top - frame), style.white, skip="z-")
    blanket = paint(rng, FABRICS + BRIGHTS + WHITES, int(rng.choice([PLAIN, CHECKER, STRIPES])), 0.25)
    length = float(rng.uniform(0.55, 0.7)) * d
    shape.box((0, d / 2 - length / 2 - 0.03, top - 0.04), (w, length, 0.16), blanket, skip="z-")
    shape.box((0, -d / 2 + 0.03, head / 2), (w + 0.04, 0.06, head), material, skip="z-")
    for x in (0.0,) if w < 1.2 else (-w / 4, w / 4):
        shape.ellipsoid(
            (x, -d / 2 + 0.33, top + 0.05), (0.3, 0.18, 0.08), style.white if rng.random() < 0.6 else blanket
        )
    return Item("bed", shape, (w + 0.04, d + 0.04, head), covers_floor=not on_legs)


def make_sofa(rng: Rng, style: Style) -> Item:
    """One to three seats: base, cushions, back, arms, feet; sometimes pillows."""
    seats = int(rng.integers(1, 4))
    w, d = 0.65 * seats + 0.35, float(rng.uniform(0.8, 0.95))
    seat, back, arm = float(rng.uniform(0.38, 0.46)), float(rng.uniform(0.75, 0.92)), float(rng.uniform(0.52, 0.64))
    thick, foot = float(rng.uniform(0.12, 0.2)), 0.06
    shape = Shape()
    _legs(shape, w, d, foot, 0.06, style.wood, True)
    shape.box((0, 0, (foot + seat - 0.12) / 2), (w, d, seat - 0.12 - foot), style.fabric, skip="")
    inner = w - 2 * thick
    for i in range(seats):
        x = -inner / 2 + inner * (i + 0.5) / seats
        shape.box((x, 0.08, seat - 0.06), (inner / seats - 0.015, d - 0.2, 0.12), style.fabric, skip="z-")
        back_size = (inner / seats - 0.02, 0.14, back - seat - 0.04)
        shape.box((x, -d / 2 + 0.22, (seat + back) / 2), back_size, style.fabric, skip="z-")
    shape.box((0, -d / 2 + 0.08, (foot + back) / 2), (w, 0.16, back - foot), style.fabric)
    for side in (-1, 1):
        shape.box((side * (w - thick) / 2, 0, (foot + arm) / 2), (thick, d, arm - foot), style.fabric)
    if rng.random() < 0.6:
        x = float(rng.uniform(-inner / 3, inner / 3))
        shape.ellipsoid((x, 0.0, seat + 0.16), (0.2, 0.09, 0.18), style.accent)
    return Item("sofa", shape, (w, d, back))


def make_chair(rng: Rng, style: Style) -> Item:
    """Four legs, seat and back; or a stool; or an office chair on a column."""
    w, d, seat = (float(rng.uniform(0.4, 0.5)), float(rng.uniform(0.4, 0.5)), float(rng.uniform(0.43, 0.48)))
    back, kind = float(rng.uniform(0.8, 1.0)), rng.random()
    shape = Shape()
    material = style.any_furniture(rng)
    if kind < 0.25:
        shape.cylinder((0, 0, 0.06), 0.03, seat - 0.12, style.metal, caps="")
        for angle in np.arange(5) * 2 * np.pi / 5:
            spoke = Shape()
            spoke.box((0.14, 0, 0.06), (0.28, 0.045, 0.04), style.metal)
            shape.add(spoke, yaw=float(angle))
        shape.box((0, 0, seat - 0.03), (w, d, 0.08), style.fabric)
        shape.box((0, -d / 2, (seat + back) / 2 + 0.08), (w * 0.9, 0.06, back - seat - 0.1), style.fabric)
        shape.box((0, -d / 2 - 0.02, seat + 0.06), (0.06, 0.03, 0.2), style.metal)
        return Item("chair", shape, (0.6, 0.6, back + 0.05))
    _legs(shape, w, d, seat - 0.04, 0.04, material, bool(rng.random() < 0.5))
    if kind < 0.4:
        shape.cylinder((0, 0, seat - 0.04), w / 2, 0.04, material)
        return Item("chair", shape, (w, w, seat))
    shape.box((0, 0, seat - 0.02), (w, d, 0.045), style.fabric if rng.random() < 0.5 else material)
    for side in (-1, 1):
        shape.box((side * (w / 2 - 0.02), -d / 2 + 0.02, (seat + back) / 2), (0.04, 0.035, back - seat), material)
    for z in np.linspace(seat + 0.15, back - 0.05, int(rng.integers(1, 4))):
        shape.box((0, -d / 2 + 0.02, float(z)), (w - 0.08, 0.025, 0.1), material)
    if rng.random() < 0.3:
        for side in (-1, 1):
            shape.box((side * (w / 2), 0, seat + 0.2), (0.04, d * 0.9, 0.03), material)
            shape.box((side * (w / 2), d / 2 - 0.06, seat + 0.1), (0.035, 0.035, 0.2), material)
    return Item("chair", shape, (w + 0.04, d + 0.02, back))


def make_table(rng: Rng, style: Style) -> Item:
    """Dining table, rectangular on legs or round on a column."""
    h, material = float(rng.uniform(0.71, 0.77)), style.any_furniture(rng)
    shape = Shape()
    if rng.random() < 0.35:
        r = float(rng.uniform(0.4, 0.6))
        shape.cylinder((0, 0, h - 0.035), r, 0.035, material)
        shape.cylinder((0, 0, 0.03), 0.05, h - 0.065, style.metal, caps="")
        shape.cylinder((0, 0, 0), r * 0.55, 0.03, style.metal, caps="+")
        return Item("table", shape, (2 * r, 2 * r, h), supports=[(0, 0, h, 1.2 * r, 1.2 * r)])
    w, d = float(rng.uniform(1.0, 1.8)), float(rng.uniform(0.7, 0.95))
    shape.box((0, 0, h - 0.02), (w, d, 0.04), material)
    shape.box((0, 0, h - 0.075), (w - 0.16, d - 0.16, 0.07), material, skip="z+")
    _legs(shape, w, d, h - 0.04, 0.065, material, False)
    return Item("table", shape, (w, d, h), supports=[(0, 0, h, w * 0.85, d * 0.8)])


def make_low_table(rng: Rng, style: Style) -> Item:
    """Coffee or bedside table; some are plain blocks, like boxes and cabinets."""
    w, d, h = float(rng.uniform(0.45, 1.1)), float(rng.uniform(0.42, 0.6)), float(rng.uniform(0.36, 0.5))
    material = style.any_furniture(rng)
    shape = Shape()
    solid = bool(rng.random() < 0.3)
    if solid:
        shape.box((0, 0, h / 2), (w, d, h), material, skip="z-")
    else:
        shape.box((0, 0, h - 0.02), (w, d, 0.04), material)
        if rng.random() < 0.5:
            shape.box((0, 0, 0.14), (w - 0.08, d - 0.08, 0.025), material)
        _legs(shape, w, d, h - 0.04, 0.05, material, bool(rng.random() < 0.5))
    return Item("table", shape, (w, d, h), supports=[(0, 0, h, w * 0.8, d * 0.8)], covers_floor=solid)


def make_desk(rng: Rng, style: Style) -> Item:
    """Desk with drawers on one side and side panels; a screen on it is a tv by class, as in many label sets."""
    w, d, h = float(rng.uniform(1.1, 1.6)), float(rng.uniform(0.6, 0.75)), float(rng.uniform(0.71, 0.76))
    material, front = style.any_furniture(rng), style.front
    shape = Shape()
    shape.box((0, 0, h - 0.0175), (w, d, 0.035), material)
    side, block = (1 if rng.random() < 0.5 else -1), 0.4
    x = side * (w / 2 - block / 2 - 0.01)
    shape.box((x, 0, (h - 0.035) / 2), (block, d - 0.06, h - 0.035), front, skip="z- z+")
    for i in range(3):
        z = (h - 0.04) * (i + 0.5) / 3
        shape.box((x, d / 2 - 0.02, z), (block - 0.03, 0.02, (h - 0.04) / 3 - 0.025), material, skip="y-")
        shape.box((x, d / 2, z), (0.12, 0.02, 0.02), style.metal)
    shape.box((-side * (w / 2 - 0.02), 0, (h - 0.035) / 2), (0.035, d - 0.06, h - 0.035), material, skip="z+ z-")
    shape.box((0, -d / 2 + 0.06, h - 0.2), (w - 0.1, 0.02, 0.3), material, skip="z+")
    item = Item("desk", shape, (w, d + 0.02, h), supports=[(0, 0.14, h, w * 0.85, d * 0.4)])
    if rng.random() < 0.7:
        item.parts.append((make_screen(rng, style), float(rng.uniform(-0.2, 0.2)), -d / 2 + 0.16, h, 0.0))
    return item


def make_screen(rng: Rng, style: Style) -> Item:
    """A screen on a foot."""
    w, h = float(rng.uniform(0.5, 0.7)), float(rng.uniform(0.3, 0.42))
    shape = Shape()
    dark = paint(rng, (GREYS[2],))
    shape.box((0, 0, 0.1 + h / 2), (w, 0.035, h), dark)
    shape.box((0, -0.03, 0.08), (0.06, 0.03, 0.16), style.metal)
    shape.box((0, 0, 0.01), (0.25, 0.18, 0.02), style.metal, skip="z-")
    return Item("tv", shape, (w, 0.18, h + 0.1))


def make_tv(rng: Rng, style: Style) -> Item:
    """A wide screen for a low cabinet."""
    w = float(rng.uniform(0.9, 1.35))
    h = w * 0.57
    shape = Shape()
    dark = paint(rng, (GREYS[2],))
    shape.box((0, 0, 0.06 + h / 2), (w, 0.05, h), dark)
    for side in (-1, 1):
        shape.box((side * w * 0.3, 0, 0.03), (0.04, 0.22, 0.06), dark, skip="z-")
    return Item("tv", shape, (w, 0.22, h + 0.06))


def make_floor_lamp(rng: Rng, style: Style) -> Item:
    """Foot, pole, shade."""
    h, r = float(rng.uniform(1.4, 1.75)), float(rng.uniform(0.15, 0.24))
    shape = Shape()
    shape.cylinder((0, 0, 0), r * 0.8, 0.03, style.metal, caps="+")
    shape.cylinder((0, 0, 0.03), 0.018, h - 0.28, style.metal, caps="")
    shade = paint(rng, WHITES + FABRICS)
    shape.cylinder((0, 0, h - 0.3), r, 0.3, shade, top=r * float(rng.uniform(0.6, 1.0)))
    return Item("lamp", shape, (2 * r, 2 * r, h))


def make_table_lamp(rng: Rng, style: Style) -> Item:
    """Small lamp for tables and bedside tables."""
    h, r = float(rng.uniform(0.35, 0.5)), float(rng.uniform(0.09, 0.14))
    shape = Shape()
    shape.ellipsoid((0, 0, h * 0.25), (r * 0.6, r * 0.6, h * 0.25), style.accent)
    shape.cylinder((0, 0, h * 0.5), r, h * 0.5, paint(rng, WHITES + FABRICS), top=r * 0.65)
    return Item("lamp", shape, (2 * r, 2 * r, h))


def make_plant(rng: Rng, style: Style) -> Item:
    """A pot, a stem and a crown of ellipsoids."""
    h, r = float(rng.uniform(0.5, 1.5)), float(rng.uniform(0.13, 0.2))
    pot = r * 1.6
    shape = Shape()
    shape.cylinder((0, 0, 0), r * 0.75, pot, style.white if rng.random() < 0.5 else style.accent, top=r, caps="+")
    shape.cylinder((0, 0, pot), 0.018, (h - pot) * 0.5, paint(rng, WOODS), caps="")
    crown = (h - pot) * 0.35
    for _ in range(int(rng.integers(3, 7))):
        size = rng.uniform(0.08, 0.18, 2)
        x, y = rng.uniform(-1, 1, 2) * (0.29 - size)
        z = float(rng.uniform(pot + (h - pot) * 0.45, h - crown * 0.5))
        shape.ellipsoid((float(x), float(y), z), (size[0], size[1], crown * 0.5), paint(rng, GREENS))
    return Item("plant", shape, (0.6, 0.6, h), covers_floor=False)


def make_rug(rng: Rng, style: Style) -> Item:
    """A thin sheet on the floor."""
    w, d = float(rng.uniform(1.3, 2.2)), float(rng.uniform(1.0, 1.6))
    shape = Shape()
    pattern = int(rng.choice([PLAIN, CHECKER, STRIPES, 4]))
    shape.box(
        (0, 0, 0.006),
        (w, d, 0.012),
        paint(rng, FABRICS + BRIGHTS + WOODS, pattern, float(rng.uniform(0.1, 0.4))),
        skip="z-",
    )
    return Item("rug", shape, (w, d, 0.012), covers_floor=True)


def make_clutter(rng: Rng, style: Style) -> Item:
    """One small thing: book pile, mug or can, ball, box, bottle."""
    shape, kind = Shape(), int(rng.integers(5))
    colors = BRIGHTS + FABRICS + WHITES + METAL
    if kind == 0:
        z = 0.0
        for _ in range(int(rng.integers(1, 5))):
            t = float(rng.uniform(0.02, 0.045))
            pile = Shape()
            pile.box(
                (0, 0, t / 2), (float(rng.uniform(0.18, 0.25)), float(rng.uniform(0.13, 0.18)), t), paint(rng, colors)
            )
            shape.add(pile, yaw=float(rng.uniform(-0.4, 0.4)), shift=(0, 0, z))
            z += t
        return Item("clutter", shape, (0.28, 0.26, z))
    if kind == 1:
        r, h = float(rng.uniform(0.035, 0.06)), float(rng.uniform(0.09, 0.15))
        shape.cylinder((0, 0, 0), r, h, paint(rng, colors), caps="+")
        return Item("clutter", shape, (2 * r, 2 * r, h))
    if kind == 2:
        r = float(rng.uniform(0.05, 0.11))
        shape.ellipsoid((0, 0, r), (r, r, r), paint(rng, colors))
        return Item("clutter", shape, (2 * r, 2 * r, 2 * r))
    if kind == 3:
        w, d, h = (float(v) for v in rng.uniform(0.1, 0.25, 3))
        shape.box((0, 0, h / 2), (w, d, h), paint(rng, colors + WOODS), skip="z-")
        return Item("clutter", shape, (w, d, h))
    r = float(rng.uniform(0.035, 0.05))
    shape.cylinder((0, 0, 0), r, 0.16, paint(rng, colors), caps="")
    shape.cylinder((0, 0, 0.16), r, 0.1, paint(rng, colors), top=r * 0.35)
    return Item("clutter", shape, (2 * r, 2 * r, 0.26))


def make_carton(rng: Rng, style: Style) -> Item:
    """A larger box or basket on the floor: clutter that looks like a low cabinet."""
    w, d, h = float(rng.uniform(0.3, 0.6)), float(rng.uniform(0.25, 0.45)), float(rng.uniform(0.2, 0.5))
    shape = Shape()
    if rng.random() < 0.3:
        shape.cylinder((0, 0, 0), w / 2 * 0.85, h, style.any_furniture(rng), top=w / 2, caps="+")
        return Item("clutter", shape, (w, w, h), covers_floor=True)
    shape.box((0, 0, h / 2), (w, d, h), paint(rng, WOODS + WHITES + BRIGHTS), skip="z-")
    return Item("clutter", shape, (w, d, h), supports=[(0, 0, h, w * 0.7, d * 0.7)], covers_floor=True)

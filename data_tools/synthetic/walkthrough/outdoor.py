"""What the walk starts in: a brick facade with windows and a front door, a paved way, lawn, plants, hedges, sky."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from data_tools.synthetic.rooms.furniture import Rng
from data_tools.synthetic.rooms.palette import BRIGHTS, CLASS_ID, GREENS, GREYS, WHITES, paint
from data_tools.synthetic.rooms.shapes import Paint, Shape

WIDE, DEEP, FACADE_HEIGHT = 9.0, 9.0, 3.6  # metres: half the street's width, its depth, the facade's height
TUCK = 0.03  # metres by which a wall ends behind the trims of an opening
BRICK = ((0.58, 0.33, 0.26), (0.66, 0.48, 0.36), (0.52, 0.38, 0.32))
STONE = ((0.56, 0.55, 0.52), (0.62, 0.58, 0.52))
SKY_PAINT = Paint((0.45, 0.63, 0.90), (0.97, 0.98, 1.0))


class Opening(Protocol):
    """What is needed of a doorway here."""

    x0: float
    y0: float
    y1: float
    y: float
    height: float


def build_outdoor(rng: Rng, door: Opening, inside: tuple[float, float]) -> Shape:
    """Everything before the front door.

    Args:
        rng: every choice comes from it.
        door: the opening; the facade lies in the plane x = ``door.x0`` and is seen from smaller x.
        inside: y range of the room behind the facade, where its windows are.
    """
    shape, x, y = Shape(), door.x0, door.y
    _add_facade(shape, rng, door)
    _add_ground(shape, rng, x, y)
    for side in (-1, 1):
        for step in range(int(rng.integers(2, 5))):
            _add_pot(shape, rng, x - 0.35 - 0.9 * step - float(rng.uniform(0, 0.3)), y + side * rng.uniform(0.95, 1.5))
    for side, at in ((-1, inside[0]), (1, inside[1])):
        _add_window(shape, rng, x, y + side * max(1.7, abs(at - y) * 0.6))
    _add_sky(shape, x, y)
    return shape


def _labelled(shape: Shape, part: Shape, label: str | None) -> None:
    shape.add(part, segment=-1 if label is None else CLASS_ID[label])


def _add_facade(shape: Shape, rng: Rng, door: Opening) -> None:
    x, y, part, brick = door.x0, door.y, Shape(), paint(rng, BRICK)
    for y0, y1, z0, z1 in (
        (y - WIDE, door.y0 - TUCK, 0.0, FACADE_HEIGHT),
        (door.y1 + TUCK, y + WIDE, 0.0, FACADE_HEIGHT),
        (door.y0 - TUCK, door.y1 + TUCK, door.height + TUCK, FACADE_HEIGHT),
    ):
        part.quad((x, y1, z0), (0, y0 - y1, 0), (0, 0, z1 - z0), brick)
    part.box((x - 0.25, y, FACADE_HEIGHT + 0.1), (0.6, 2 * WIDE, 0.2), paint(rng, WHITES), skip="x+")
    for side in (-1, 1):  # hedges close the street's sides
        hedge = Shape()
        hedge.box((x - DEEP / 2, y + side * (WIDE - 0.4), 0.9), (DEEP, 0.8, 1.8), paint(rng, GREENS), skip="z-")
        _labelled(shape, hedge, "plant")
    _labelled(shape, part, "wall")
    extra = Shape()
    extra.box((x - 0.06, door.y1 + 0.35, 1.75), (0.12, 0.12, 0.24), paint(rng, GREYS))
    extra.box((x - 0.012, door.y1 + 0.35, 1.4), (0.024, 0.22, 0.22), paint(rng, BRIGHTS), skip="x+")
    extra.box((x - 0.06, door.y0 - 0.45, 1.15), (0.12, 0.32, 0.22), paint(rng, BRIGHTS + GREYS))
    _labelled(shape, extra, "clutter")


def _add_ground(shape: Shape, rng: Rng, x: float, y: float) -> None:
    path, lawn, mat = Shape(), Shape(), Shape()
    path.quad((x - DEEP, y - 0.8, 0.0), (DEEP, 0, 0), (0, 1.6, 0), paint(rng, STONE))
    grass = paint(rng, GREENS)
    lawn.quad((x - DEEP, y - WIDE, -0.01), (DEEP, 0, 0), (0, WIDE - 0.8, 0), grass)
    lawn.quad((x - DEEP, y + 0.8, -0.01), (DEEP, 0, 0), (0, WIDE - 0.8, 0), grass)
    mat.box((x - 0.35, y, 0.01), (0.5, 0.8, 0.02), paint(rng, GREYS + BRIGHTS, 5), skip="z-")
    _labelled(shape, path, "floor")
    _labelled(shape, lawn, "floor")
    _labelled(shape, mat, "rug")


def _add_pot(shape: Shape, rng: Rng, x: float, y: float) -> None:
    part, r, high = Shape(), float(rng.uniform(0.13, 0.2)), float(rng.uniform(0.25, 0.4))
    part.cylinder((x, y, 0), r * 0.75, high, paint(rng, BRICK + GREYS), top=r, caps="+")
    for _ in range(int(rng.integers(2, 5))):
        shift, size = rng.normal(0, 0.06, 2), float(rng.uniform(0.12, 0.24))
        center = (x + shift[0], y + shift[1], high + size * 0.8)
        part.ellipsoid(center, (size, size, size * 1.1), paint(rng, GREENS + BRIGHTS[:2]))
    _labelled(shape, part, "plant")


def _add_window(shape: Shape, rng: Rng, x: float, y: float) -> None:
    w, low, high, frame, part = float(rng.uniform(0.9, 1.4)), 0.95, 2.15, paint(rng, WHITES), Shape()
    part.quad((x - 0.006, y + w / 2, low), (0, -w, 0), (0, 0, high - low), paint(rng, ((0.35, 0.40, 0.46),)))
    for at in (-w / 2, 0.0, w / 2):
        part.box((x - 0.03, y + at, (low + high) / 2), (0.06, 0.07, high - low + 0.14), frame, skip="x+")
    for z in (low - 0.035, high + 0.035):
        part.box((x - 0.04, y, z), (0.08, w + 0.14, 0.07), frame, skip="x+")
    _labelled(shape, part, "window")


def _add_sky(shape: Shape, x: float, y: float) -> None:
    """Three upright sheets and a lid, far away; they carry the label -1 and are no part of the true surface."""
    far, high, low = 45.0, 32.0, -6.0
    part, up = Shape(), (0.0, 0.0, high - low)
    a, b, c, d = x - far, x + far, y - far, y + far
    for origin, edge in (
        ((b, d, low), (0, c - d, 0)),
        ((a, c, low), (0, d - c, 0)),
        ((a, d, low), (b - a, 0, 0)),
        ((b, c, low), (a - b, 0, 0)),
    ):
        turned = np.cross(edge, up)
        inward = np.array([x, y, 0.0]) - np.array(origin)
        if float(turned @ inward) < 0:
            origin = tuple(float(v) for v in np.array(origin) + edge)
            edge = tuple(-float(v) for v in edge)
        part.quad(origin, edge, up, SKY_PAINT)
    part.quad((a, d, high), (b - a, 0, 0), (0, c - d, 0), SKY_PAINT)
    shape.add(part)

"""Storage, kitchen and bath: things that stand at a wall. The same frame as `furniture`."""

from __future__ import annotations

import numpy as np

from data_tools.synthetic.rooms.furniture import Item, Rng, make_tv
from data_tools.synthetic.rooms.palette import BRIGHTS, FABRICS, GREYS, METAL, WHITES, WOODS, Style, paint
from data_tools.synthetic.rooms.shapes import SPECKLE, Paint, Shape


def _fronts(
    shape: Shape, w: float, y: float, low: float, high: float, columns: int, rows: int, style: Style, material: Paint
) -> None:
    """Doors or drawers with handles on the face at ``y``."""
    for i in range(columns):
        for j in range(rows):
            x, z = -w / 2 + w * (i + 0.5) / columns, low + (high - low) * (j + 0.5) / rows
            wide, tall = w / columns - 0.02, (high - low) / rows - 0.02
            shape.box((x, y + 0.008, z), (wide, 0.016, tall), material, skip="y-")
            if tall > wide:
                shape.box((x + wide * 0.4, y + 0.03, z), (0.02, 0.03, 0.14), style.metal)
            else:
                shape.box((x, y + 0.03, z), (0.14, 0.03, 0.02), style.metal)


def _cabinet(
    body: Paint, style: Style, size: tuple[float, float, float], low: float, columns: int, rows: int = 1
) -> Item:
    """A body on the floor with doors or drawers from ``low`` up."""
    (w, d, h), shape = size, Shape()
    shape.box((0, 0, h / 2), (w, d, h), body, skip="z-")
    _fronts(shape, w, d / 2, low, h - 0.03, columns, rows, style, style.front)
    return Item("cabinet", shape, (w, d + 0.09, h), covers_floor=True)


def make_wardrobe(rng: Rng, style: Style) -> Item:
    """Tall cabinet with two to four doors."""
    w, d, h = float(rng.uniform(0.9, 1.9)), float(rng.uniform(0.52, 0.62)), float(rng.uniform(1.8, 2.2))
    return _cabinet(style.any_furniture(rng), style, (w, d, h), 0.08, max(2, round(w / 0.5)))


def make_dresser(rng: Rng, style: Style) -> Item:
    """Chest of drawers or sideboard."""
    w, d, h = float(rng.uniform(0.6, 1.4)), float(rng.uniform(0.38, 0.5)), float(rng.uniform(0.6, 1.1))
    body, rows = style.any_furniture(rng), int(rng.integers(2, 5))
    item = _cabinet(body, style, (w, d, h), 0.06, 1 if w < 0.9 else 2, rows)
    item.supports.append((0, 0, h, w * 0.85, d * 0.6))
    return item


def make_tv_bench(rng: Rng, style: Style) -> Item:
    """Low cabinet that carries a tv."""
    w, d, h = float(rng.uniform(1.3, 1.8)), float(rng.uniform(0.38, 0.45)), float(rng.uniform(0.4, 0.55))
    item = _cabinet(style.any_furniture(rng), style, (w, d, h), 0.05, 3)
    item.parts.append((make_tv(rng, style), 0.0, -0.04, h, 0.0))
    return item


def make_shelf(rng: Rng, style: Style) -> Item:
    """Open book case; the books are clutter."""
    w, d, h = float(rng.uniform(0.6, 1.2)), float(rng.uniform(0.28, 0.36)), float(rng.uniform(1.0, 2.1))
    material, rows = style.any_furniture(rng), int(rng.integers(3, 6))
    shape, books = Shape(), Shape()
    for side in (-1, 1):
        shape.box((side * (w / 2 - 0.0125), 0, h / 2), (0.025, d, h), material)
    shape.box((0, -d / 2 + 0.006, h / 2), (w - 0.05, 0.012, h), material)
    for i in range(rows + 1):
        z = 0.05 + (h - 0.0625) * i / rows if i else 0.05
        shape.box((0, 0.006, min(z, h - 0.0125)), (w - 0.05, d - 0.012, 0.025), material)
    room = (h - 0.1) / rows
    for i in range(rows):
        x, z = -w / 2 + 0.05, 0.0625 + (h - 0.0625) * i / rows
        while x < w / 2 - 0.12:
            if rng.random() < 0.35:
                x += float(rng.uniform(0.05, 0.2))
                continue
            wide, tall = float(rng.uniform(0.03, 0.12)), float(rng.uniform(0.55, 0.85)) * room
            deep = float(rng.uniform(0.5, 0.8)) * d
            material_book = paint(rng, BRIGHTS + FABRICS + WHITES + GREYS)
            books.box(
                (x + wide / 2, -d / 2 + 0.012 + deep / 2, z + tall / 2),
                (wide, deep, tall),
                material_book,
                skip="z-",
            )
            x += wide + 0.004
    item = Item("shelf", shape, (w, d, h), supports=[(0, 0, h, w * 0.7, d * 0.6)])
    item.parts.append((Item("clutter", books, (w, d, h)), 0.0, 0.0, 0.0, 0.0))
    return item


def make_sink_bowl(rng: Rng, style: Style) -> Item:
    """A basin set on a counter: rim, inside, tap. Its top is at z = 0.03."""
    w, d = float(rng.uniform(0.42, 0.6)), float(rng.uniform(0.34, 0.42))
    basin, dark = paint(rng, WHITES + METAL), paint(rng, GREYS[:2])
    shape = Shape()
    for x, y, sx, sy in ((0, d / 2, w, 0.04), (0, -d / 2, w, 0.04), (w / 2, 0, 0.04, d), (-w / 2, 0, 0.04, d)):
        shape.box((x, y, 0.015), (sx, sy, 0.03), basin, skip="z-")
    shape.quad((-w / 2, -d / 2, 0.004), (w, 0, 0), (0, d, 0), dark)
    shape.cylinder((0, -d / 2 - 0.05, 0), 0.02, 0.2, style.metal)
    shape.box((0, -d / 2 + 0.03, 0.2), (0.03, 0.16, 0.025), style.metal)
    return Item("sink", shape, (w + 0.04, d + 0.04, 0.22))


def make_counter(rng: Rng, style: Style) -> Item:
    """Kitchen counter with doors, a worktop, a sink and a hob (clutter)."""
    w, d, h = float(rng.uniform(1.6, 2.8)), 0.6, float(rng.uniform(0.86, 0.92))
    shape = Shape()
    shape.box((0, 0, (h - 0.04) / 2), (w, d, h - 0.04), style.front, skip="z- z+")
    _fronts(shape, w, d / 2, 0.1, h - 0.05, max(2, round(w / 0.6)), 1, style, style.front)
    shape.box((0, 0.01, h - 0.02), (w, d + 0.06, 0.04), paint(rng, GREYS + WOODS + WHITES, SPECKLE, 0.1))
    item = Item("counter", shape, (w, d + 0.09, h), covers_floor=True)
    side = 1 if rng.random() < 0.5 else -1
    item.parts.append((make_sink_bowl(rng, style), side * w * 0.25, 0.02, h, 0.0))
    hob = Shape()
    hob.box((0, 0, 0.006), (0.56, 0.48, 0.012), paint(rng, (GREYS[2],)), skip="z-")
    item.parts.append((Item("clutter", hob, (0.56, 0.48, 0.012)), -side * w * 0.28, 0.02, h, 0.0))
    item.supports.append((0.0, -0.05, h, 0.3, 0.4))
    return item


def make_wall_cabinet(rng: Rng, style: Style, w: float) -> Item:
    """Upper kitchen cabinet; it hangs (its own z = 0 is its bottom)."""
    d, h = 0.34, float(rng.uniform(0.6, 0.75))
    shape = Shape()
    shape.box((0, 0, h / 2), (w, d, h), style.front)
    _fronts(shape, w, d / 2, 0.0, h, max(2, round(w / 0.5)), 1, style, style.front)
    return Item("cabinet", shape, (w, d + 0.09, h))


def make_fridge(rng: Rng, style: Style) -> Item:
    """Two doors, handles."""
    w, d, h = float(rng.uniform(0.58, 0.75)), float(rng.uniform(0.6, 0.68)), float(rng.uniform(1.5, 1.9))
    material = paint(rng, WHITES + METAL)
    shape = Shape()
    shape.box((0, 0, h / 2), (w, d, h), material, skip="z-")
    split = h * float(rng.uniform(0.3, 0.65))
    for low, high in ((0.06, split), (split, h)):
        shape.box((0, d / 2 + 0.02, (low + high) / 2), (w, 0.04, high - low - 0.015), material, skip="y-")
        shape.box((w * 0.4, d / 2 + 0.06, (low + high) / 2), (0.025, 0.03, 0.4), style.metal)
    return Item("fridge", shape, (w, d + 0.16, h), covers_floor=True)


def make_washstand(rng: Rng, style: Style) -> Item:
    """Sink on a pedestal, or on a cabinet."""
    w, d, h = float(rng.uniform(0.5, 0.7)), float(rng.uniform(0.42, 0.5)), float(rng.uniform(0.8, 0.88))
    white = style.white
    if rng.random() < 0.5:
        shape = Shape()
        shape.box((0, 0, h / 2), (w + 0.1, d, h), style.any_furniture(rng), skip="z-")
        _fronts(shape, w + 0.1, d / 2, 0.08, h - 0.05, 2, 1, style, style.front)
        item = Item("cabinet", shape, (w + 0.1, d + 0.09, h), covers_floor=True)
        item.parts.append((make_sink_bowl(rng, style), 0.0, 0.02, h, 0.0))
        return item
    shape = Shape()
    shape.cylinder((0, -0.05, 0), 0.11, h - 0.15, white, top=0.09, caps="")
    for x, y, sx, sy in (
        (0, d / 2 - 0.03, w, 0.06),
        (0, -d / 2 + 0.06, w, 0.12),
        (w / 2 - 0.03, 0, 0.06, d),
        (-w / 2 + 0.03, 0, 0.06, d),
    ):
        shape.box((x, y, h - 0.08), (sx, sy, 0.16), white)
    shape.box((0, 0, h - 0.14), (w - 0.1, d - 0.1, 0.04), white)
    shape.cylinder((0, -d / 2 + 0.05, h), 0.02, 0.14, style.metal)
    shape.box((0, -d / 2 + 0.11, h + 0.13), (0.03, 0.14, 0.025), style.metal)
    return Item("sink", shape, (w, d, h + 0.14))


def make_toilet(rng: Rng, style: Style) -> Item:
    """Tank, bowl, lid (some open)."""
    white = style.white
    shape = Shape()
    shape.box((0, -0.25, 0.58), (0.4, 0.18, 0.4), white)
    shape.box((0, -0.2, 0.2), (0.24, 0.26, 0.4), white, skip="z-")
    shape.cylinder((0, 0.08, 0), 0.13, 0.36, white, top=0.2, caps="")
    shape.cylinder((0, 0.08, 0.36), 0.21, 0.045, white)
    if rng.random() < 0.3:
        shape.box((0, -0.13, 0.62), (0.36, 0.03, 0.42), white)
    shape.cylinder((0, -0.25, 0.78), 0.025, 0.02, style.metal, caps="+")
    return Item("toilet", shape, (0.42, 0.68, 0.8), covers_floor=False)


def make_bathtub(rng: Rng, style: Style) -> Item:
    """Long side at the wall: four rims and a low inner floor."""
    w, d, h = float(rng.uniform(1.5, 1.75)), float(rng.uniform(0.7, 0.8)), float(rng.uniform(0.5, 0.6))
    rim = 0.07
    shape = Shape()
    for y in (-d / 2 + rim / 2, d / 2 - rim / 2):
        shape.box((0, y, h / 2), (w, rim, h), style.white, skip="z-")
    for x in (-w / 2 + rim / 2, w / 2 - rim / 2):
        shape.box((x, 0, h / 2), (rim, d - 2 * rim, h), style.white, skip="z- y- y+")
    shape.quad((-w / 2 + rim, -d / 2 + rim, 0.15), (w - 2 * rim, 0, 0), (0, d - 2 * rim, 0), style.white)
    shape.cylinder((-w / 2 + 0.2, -d / 2 + 0.03, h), 0.02, 0.12, style.metal)
    return Item("bathtub", shape, (w, d, h + 0.12), covers_floor=True)


def make_curtain(rng: Rng, w: float, h: float) -> Item:
    """A hanging of folds (facets in zigzag); z = 0 is its lower edge."""
    material = paint(rng, FABRICS + BRIGHTS + WHITES + WOODS)
    folds, deep = max(4, int(w / 0.07)), 0.05
    shape = Shape()
    xs = np.linspace(-w / 2, w / 2, folds + 1)
    for i in range(folds):
        y0, y1 = (0.0, deep) if i % 2 == 0 else (deep, 0.0)
        x0, x1 = float(xs[i]), float(xs[i + 1])
        shape.quad((x1, y1, 0), (x0 - x1, y0 - y1, 0), (0, 0, h), material)
    return Item("curtain", shape, (w, deep, h))

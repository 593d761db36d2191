"""Classes and colours of the synthetic rooms. Colours are shared between classes on purpose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_tools.synthetic.rooms.shapes import BLOTCH, CHECKER, PLAIN, SPECKLE, STRIPES, WOOD, Paint

CLASSES = ("wall", "floor", "ceiling", "door", "window", "bed", "sofa", "chair", "table", "desk", "cabinet", "shelf",
           "counter", "sink", "toilet", "bathtub", "fridge", "tv", "lamp", "rug", "curtain", "plant", "picture",
           "clutter")  # fmt: skip
CLASS_ID = {name: number for number, name in enumerate(CLASSES)}

WOODS = ((0.55, 0.38, 0.22), (0.72, 0.55, 0.36), (0.36, 0.23, 0.14), (0.83, 0.70, 0.52), (0.45, 0.33, 0.25))
WHITES = ((0.93, 0.92, 0.90), (0.88, 0.86, 0.80), (0.96, 0.96, 0.96), (0.82, 0.83, 0.84))
GREYS = ((0.35, 0.35, 0.37), (0.55, 0.55, 0.56), (0.22, 0.22, 0.24), (0.68, 0.67, 0.65))
FABRICS = ((0.30, 0.38, 0.52), (0.55, 0.30, 0.28), (0.66, 0.61, 0.52), (0.32, 0.44, 0.36), (0.45, 0.42, 0.40))
BRIGHTS = ((0.75, 0.20, 0.18), (0.15, 0.42, 0.65), (0.85, 0.65, 0.15), (0.25, 0.55, 0.30), (0.55, 0.25, 0.55))
GREENS = ((0.18, 0.40, 0.16), (0.28, 0.48, 0.22), (0.35, 0.45, 0.18))
WALLS = (
    (0.90, 0.88, 0.84),
    (0.84, 0.86, 0.88),
    (0.88, 0.84, 0.74),
    (0.76, 0.82, 0.78),
    (0.72, 0.68, 0.64),
    (0.80, 0.72, 0.66),
)
METAL = ((0.70, 0.71, 0.72), (0.50, 0.50, 0.52), (0.20, 0.20, 0.21))

Colour = tuple[float, float, float]


def paint(rng: np.random.Generator, colors: tuple[Colour, ...], pattern: int = PLAIN, scale: float = 0.3) -> Paint:
    """A paint of one of the colours; a pattern mixes in a darker or lighter shade of it."""
    color = np.asarray(colors[int(rng.integers(len(colors)))])
    base = np.clip(color + rng.normal(0, 0.05, 3), 0.02, 0.98)
    factor = float(rng.uniform(0.6, 0.85) if rng.random() < 0.7 else rng.uniform(1.1, 1.3))
    return Paint(tuple(base.tolist()), tuple(np.clip(base * factor, 0, 1).tolist()), pattern, scale)


@dataclass(frozen=True)
class Style:
    """The paints that the things of one room share, so that colour alone does not tell the classes apart."""

    wood: Paint
    front: Paint
    fabric: Paint
    accent: Paint
    metal: Paint
    white: Paint

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Style:
        """A style for one room."""
        front = WOODS if rng.random() < 0.4 else WHITES + GREYS
        fabric_pattern = int(rng.choice([PLAIN, SPECKLE, STRIPES, BLOTCH]))
        return cls(
            wood=paint(rng, WOODS, WOOD, float(rng.uniform(0.2, 0.6))),
            front=paint(rng, front, WOOD if front is WOODS else PLAIN, 0.4),
            fabric=paint(rng, FABRICS + GREYS + WOODS, fabric_pattern, float(rng.uniform(0.08, 0.4))),
            accent=paint(
                rng, BRIGHTS + FABRICS, int(rng.choice([PLAIN, CHECKER, STRIPES])), float(rng.uniform(0.1, 0.3))
            ),
            metal=paint(rng, METAL),
            white=paint(rng, WHITES),
        )

    def any_furniture(self, rng: np.random.Generator) -> Paint:
        """Wood, front or accent: what cabinets, tables and shelves are made of here."""
        options = (self.wood, self.wood, self.front, self.accent)
        return options[int(rng.integers(len(options)))]

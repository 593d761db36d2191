"""Textures of what is outside: bricks, paving, lawn, sky, the view through a window. See `textures`."""

from __future__ import annotations

import numpy as np

from data_tools.synthetic.rooms.textures import Rng, blend, flat, fractal, noise


def bricks(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """A running bond of bricks, each its own shade, light mortar."""
    high, wide, joint = max(2, int(0.075 / texel)), max(4, int(0.24 / texel)), max(1, round(0.012 / texel))
    row = np.arange(h) // high
    column = (np.arange(w) + (row[:, None] % 2) * (wide // 2)) // wide
    shades = rng.normal(0, 0.14, (row[-1] + 1, int(column.max()) + 1)).astype(np.float32)
    color = flat(paint, h, w) * (1 + shades[row[:, None], column])[..., None]
    color *= (1 + 0.08 * fractal(h, w, texel, (0.012, 0.04, 0.6), rng))[..., None]
    place = (np.arange(w) + (row[:, None] % 2) * (wide // 2)) % wide
    mortar = (np.arange(h)[:, None] % high < joint) | (place < joint)
    color[mortar] = 0.66 + 0.05 * rng.standard_normal((int(mortar.sum()), 1), dtype=np.float32)
    return color


def paving(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """Concrete slabs with dark joints and stains."""
    size, joint = max(4, int(0.4 / texel)), max(1, round(0.012 / texel))
    row, column = np.arange(h) // size, np.arange(w) // size
    shades = rng.normal(0, 0.06, (row[-1] + 1, column[-1] + 1)).astype(np.float32)
    grain = 0.1 * fractal(h, w, texel, (0.015, 0.04, 0.3), rng)
    color = flat(paint, h, w) * (1 + grain + shades[row][:, column])[..., None]
    color[(np.arange(h)[:, None] % size < joint) | (np.arange(w) % size < joint)] *= 0.5
    return color


def lawn(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """Grass: blades and patches."""
    mix = 0.5 + 0.3 * noise(h, w, (3, 1.5), rng) + 0.25 * fractal(h, w, texel, (0.1, 0.5), rng)
    return blend(paint, np.clip(mix, -0.4, 1.4)) * (1 + 0.12 * noise(h, w, (1.5, 1.5), rng))[..., None]


def sky(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """Blue that pales to the horizon (row 0), with clouds."""
    height = np.linspace(0, 1, h, dtype=np.float32)[:, None]
    sizes = (w / 5, w / 12, w / 30)
    cloud = sum(noise(h, w, (s / 3, s), rng) / (i + 1) for i, s in enumerate(sizes))
    white = np.clip(0.35 * np.asarray(cloud) + 0.45 - 0.45 * height, 0, 1)
    return blend(paint, white)


def view(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """What a window shows: sky, far trees or houses, all a little out of focus."""
    import cv2

    color = sky(np.array([0.62, 0.76, 0.95, 0.97, 0.98, 1.0]), h, w, texel, rng)
    line = int(h * rng.uniform(0.25, 0.5))
    crowns = line + noise(1, w, (1, max(2.0, w / 9)), rng)[0] * h * 0.08
    below = np.arange(h)[:, None] < crowns
    shade = 0.3 * noise(h, w, (h / 12, w / 12), rng) + 0.3 * noise(h, w, (0.03 / texel, 0.03 / texel), rng)
    green = flat(np.array([0.30, 0.42, 0.24]), h, w) * np.clip(1 + shade, 0.3, 2)[..., None]
    color[below] = green[below]
    for _ in range(int(rng.integers(1, 4))):  # houses among the trees
        x, wide, high = int(rng.integers(w)), int(w * rng.uniform(0.1, 0.25)), int(line * rng.uniform(0.5, 1.1))
        tone = rng.uniform(0.45, 0.9, 3)
        cv2.rectangle(color, (x, 0), (x + wide, high), tone.tolist(), -1)
        for y in range(max(2, high // 6), high, max(4, high // 3)):
            for step in range(4):
                left = x + int(wide * (0.1 + 0.23 * step))
                cv2.rectangle(color, (left, y), (left + wide // 9, y + high // 8), (tone * 0.4).tolist(), -1)
    return cv2.GaussianBlur(color, (0, 0), max(0.6, 0.004 / texel))

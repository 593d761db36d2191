"""Procedural textures with the detail of real surfaces: grain, weave, planks, tiles, figures, prints.

A texture is a function of (paint, height, width in texels, metres a texel, generator) that returns (h, w, 3) float32
colours in 0..1. The colours are the `Paint`'s; what is added is structure that feature matching can hold on to, except
where homes have none (plain cupboards).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data_tools.synthetic.rooms.furniture import Rng
from data_tools.synthetic.rooms.shapes import BLOTCH, CHECKER, SPECKLE, STRIPES

Painter = Callable[[np.ndarray, int, int, float, Rng], np.ndarray]


def noise(h: int, w: int, size: tuple[float, float], rng: Rng) -> np.ndarray:
    """Smooth random field (h, w), about unit variance, with features of ``size`` (rows, columns) texels."""
    import cv2

    rows, columns = (max(1.0, float(s)) for s in size)
    small = (int(np.ceil(h / rows)) + 3, int(np.ceil(w / columns)) + 3)
    field = rng.standard_normal(small, dtype=np.float32)
    if rows > 1 or columns > 1:
        grown = (max(w + 2, round(small[1] * columns)), max(h + 2, round(small[0] * rows)))
        field = cv2.resize(field, grown, interpolation=cv2.INTER_CUBIC)
    return field[1 : h + 1, 1 : w + 1] if field.shape[0] > h + 1 and field.shape[1] > w + 1 else field[:h, :w]


def fractal(h: int, w: int, texel: float, sizes: tuple[float, ...], rng: Rng) -> np.ndarray:
    """Sum of `noise` fields with features of ``sizes`` metres, about unit variance."""
    total = sum(noise(h, w, (size / texel, size / texel), rng) for size in sizes)
    return np.asarray(total) / np.sqrt(len(sizes), dtype=np.float32)


def pattern(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """How much of the second colour (h, w): the paint's checks, stripes or blotches."""
    kind, scale = int(paint[6]), max(float(paint[7]), 0.02)
    u, v = np.arange(w, dtype=np.float32) * (texel / scale), np.arange(h, dtype=np.float32)[:, None] * (texel / scale)
    phase = float(rng.random() * 6)
    if kind == CHECKER:
        return ((np.floor(u) + np.floor(v)) % 2).astype(np.float32)
    if kind == STRIPES:
        return np.broadcast_to(np.floor(2 * u) % 2, (h, w)).astype(np.float32)
    if kind == BLOTCH:
        mix = 0.25 * (np.sin(2.1 * u + phase) + np.sin(2.7 * v - phase) + np.sin(1.7 * (u + v)))
        return np.clip(mix + 0.4 + 0.15 * fractal(h, w, texel, (scale * 0.4, scale * 0.15), rng), 0, 1)
    if kind == SPECKLE:
        return np.clip(0.4 + 0.5 * noise(h, w, (1.6, 1.6), rng) + 0.3 * noise(h, w, (5, 5), rng), -0.5, 1.5)
    return np.zeros((h, w), np.float32)


def blend(paint: np.ndarray, mix: np.ndarray) -> np.ndarray:
    """Base and second colour, mixed by (h, w)."""
    return paint[:3].astype(np.float32) + (paint[3:6] - paint[:3]).astype(np.float32) * mix[..., None]


def grained(strength: float, *sizes: float, print_share: float = 0.0) -> Painter:
    """A texture of shades with features of ``sizes`` metres over ``print_share`` of the paint's pattern."""

    def painter(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
        mix = pattern(paint, h, w, texel, rng) if print_share else np.zeros((h, w), np.float32)
        return blend(paint, print_share * mix) * (1 + strength * fractal(h, w, texel, sizes, rng))[..., None]

    return painter


lacquer = grained(0.008, 0.01, 0.04, 0.3)  # a painted or metal front: next to no texture, as in real homes
ceiling = grained(0.04, 0.012, 0.03, 0.3)
leaves = grained(0.4, 0.012, 0.03, 0.08)
worktop = grained(0.25, 0.006, 0.02)


def plaster(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """A wall: its paper's print (if any), grain of the plaster, faint stains and scuffs."""
    import cv2

    rough = float(rng.uniform(0.04, 0.07))
    color = grained(rough, 0.009, 0.016, 0.035, print_share=0.45)(paint, h, w, texel, rng)
    marks = 0.02 * fractal(h, w, texel, (0.09, 0.8), rng)
    for _ in range(int(h * w * texel * texel * 14)):
        at = (int(rng.integers(w)), int(rng.integers(h)))
        turn, length = float(rng.uniform(0, 180)), float(rng.uniform(0.004, 0.03)) / texel
        axes = (max(1, int(length)), max(1, int(length * rng.uniform(0.15, 0.6))))
        cv2.ellipse(marks, at, axes, turn, 0, 360, float(rng.uniform(-0.22, 0.10)), -1, cv2.LINE_AA)
    return color * (1 + cv2.GaussianBlur(marks, (0, 0), 0.8))[..., None]


def wood(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """Grain along the longer side, with rings and pores."""
    if h > w:
        return wood(paint, w, h, texel, rng).transpose(1, 0, 2)
    warp = noise(h, w, (0.08 / texel, 0.5 / texel), rng) * 0.03
    v = (np.arange(h, dtype=np.float32) * texel)[:, None] + warp
    rings = np.sin(v * (2 * np.pi / 0.035)) * 0.35 + np.sin(v * (2 * np.pi / 0.011) + 3 * warp) * 0.2
    mix = np.clip(0.45 + rings * 0.6 + 0.3 * noise(h, w, (0.003 / texel, 0.06 / texel), rng), 0, 1.3)
    color = blend(np.concatenate([paint[:3] * 1.06, paint[:3] * 0.62]), mix)  # darker late wood
    pores = np.clip(noise(h, w, (0.002 / texel, 0.018 / texel), rng) - 1.1, 0, 1)
    return color * (1 + 0.03 * noise(h, w, (2, 4), rng) - 0.35 * pores)[..., None]


def planks(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """A parquet of boards along the columns, each with its own shade and grain, dark joints between."""
    color = wood(paint, h, w, texel, rng) if w >= h else wood(paint, w, h, texel, rng).transpose(1, 0, 2)
    wide, board, joint = max(3, int(0.13 / texel)), max(6, int(1.1 / texel)), max(1, round(0.003 / texel))
    for y in range(0, h, wide):
        x = -int(rng.integers(board))
        while x < w:
            length = int(board * rng.uniform(0.6, 1.3))
            part = color[y : y + wide, max(x, 0) : max(x + length, 0)]
            part *= np.float32(rng.uniform(0.78, 1.16)) * rng.uniform(0.97, 1.03, 3).astype(np.float32)
            part[:, -joint:] *= 0.6
            x += length
        color[y : y + joint] *= 0.6
    return color


def tiles(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """Stone tiles with grout: veins, and a shade of its own to every tile."""
    size = max(4, int(np.clip(float(paint[7]), 0.12, 0.5) / texel))
    veins = np.exp(-40 * np.abs(noise(h, w, (0.12 / texel, 0.2 / texel), rng)))
    row, column = np.arange(h) // size, np.arange(w) // size
    shades = rng.normal(0, 0.035, (row[-1] + 1, column[-1] + 1)).astype(np.float32)
    check = ((row[:, None] + column) % 2).astype(np.float32) * (0.8 if int(paint[6]) == CHECKER else 0.0)
    marble = 0.03 * fractal(h, w, texel, (0.012, 0.05, 0.15), rng)
    color = blend(paint, check) * (1 + marble - 0.1 * veins + shades[row][:, column])[..., None]
    grout = max(1, round(0.004 / texel))
    line = (np.arange(h)[:, None] % size < grout) | (np.arange(w) % size < grout)
    color[line] = 0.62 + 0.03 * rng.standard_normal((int(line.sum()), 1), dtype=np.float32)
    return color


def fabric(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """Weave in two directions over the paint's pattern (speckles are pile), soft folds."""
    color = blend(paint, pattern(paint, h, w, texel, rng))
    weave = noise(h, w, (6, 1.2), rng) + noise(h, w, (1.2, 6), rng)
    return color * (1 + 0.075 * weave + 0.07 * fractal(h, w, texel, (0.012, 0.03, 0.15), rng))[..., None]


def _figures(color: np.ndarray, number: int, size: float, tones: list[list[float]], rng: Rng) -> None:
    """Draw ``number`` polygons of about ``size`` texels."""
    import cv2

    h, w = color.shape[:2]
    for _ in range(number):
        at, radius = (rng.integers(w), rng.integers(h)), max(2.0, size * float(rng.exponential()))
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        corners = np.stack([np.cos(angles), np.sin(angles)], 1) * radius + at
        tone = tones[int(rng.integers(len(tones)))]
        cv2.fillPoly(color, [np.rint(corners * 8).astype(np.int32)], tone, cv2.LINE_AA, 3)


def rug(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """A knotted rug: small figures and borders over pile."""
    import cv2

    color = blend(paint, np.zeros((h, w), np.float32))
    tones = [np.clip(paint[3:6] + rng.normal(0, 0.18, 3), 0, 1).tolist() for _ in range(5)]
    _figures(color, int(8 + h * w * texel * texel * 90), 0.03 / texel, tones, rng)
    for inset, tone in ((0.03, 0), (0.07, 1), (0.14, 2)):
        n = int(inset / texel)
        if min(h, w) > 2 * n + 4:
            cv2.rectangle(color, (n, n), (w - n, h - n), tones[tone], max(1, int(0.012 / texel)))
    return color * (1 + 0.07 * noise(h, w, (1.6, 1.6), rng))[..., None]


def picture(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """A painting: washes of colour and shapes; no two alike."""
    wash = np.stack([fractal(h, w, texel, (0.25, 0.08), rng) for _ in range(3)], -1) * 0.1
    color = np.ascontiguousarray(wash + paint[:3].astype(np.float32), np.float32)
    tones = [np.clip(rng.uniform(0, 1, 3) * 0.75 + paint[:3] * 0.25, 0, 1).tolist() for _ in range(40)]
    _figures(color, int(rng.integers(40, 90)), 0.05 / texel, tones, rng)
    return color * (1 + 0.03 * noise(h, w, (1.5, 3), rng))[..., None]


def printed(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """Books, boxes, cans: a coloured ground with figures and lines of something like print."""
    import cv2

    color = blend(paint, np.zeros((h, w), np.float32))
    tones = [rng.uniform(0, 1, 3).tolist() for _ in range(3)] + [[0.95, 0.94, 0.9], [0.08, 0.08, 0.1]]
    _figures(color, int(rng.integers(1, 4)), 0.3 * min(h, w), tones, rng)
    line = max(2, int(0.012 / texel))
    for y in range(int(h * 0.2), int(h * 0.8), line):
        x, tone = int(w * 0.1), tones[int(rng.integers(5))]
        while x < w * 0.9:
            length = int(rng.uniform(0.004, 0.025) / texel) + 1
            if rng.random() < 0.5:
                cv2.rectangle(color, (x, y), (min(x + length, w), y + max(0, line // 2 - 1)), tone, -1)
            x += length + max(1, int(0.004 / texel))
    return color * (1 + 0.03 * fractal(h, w, texel, (0.006, 0.05), rng))[..., None]


def view(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """What a window shows: pale sky over trees, a little out of focus."""
    import cv2

    high = np.linspace(0, 1, h, dtype=np.float32)[:, None]
    cloud = np.clip(0.8 - 0.45 * high + 0.3 * noise(h, w, (w / 15, w / 5), rng), 0, 1)
    color = blend(np.array([0.62, 0.76, 0.95, 0.97, 0.98, 1.0]), cloud)
    crowns = h * (rng.uniform(0.3, 0.5) + 0.08 * noise(1, w, (1, max(2.0, w / 9)), rng)[0])
    shade = 0.3 * noise(h, w, (h / 12, w / 12), rng) + 0.3 * noise(h, w, (0.03 / texel, 0.03 / texel), rng)
    trees = np.array([0.30, 0.42, 0.24], np.float32) * np.clip(1 + shade, 0.3, 2)[..., None]
    color = np.where((np.arange(h)[:, None] < crowns)[..., None], trees, color)
    return cv2.GaussianBlur(color, (0, 0), max(0.6, 0.004 / texel))

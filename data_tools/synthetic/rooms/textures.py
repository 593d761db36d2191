"""Procedural textures with the detail of real surfaces: grain, weave, planks, tiles, prints, books, bricks, lawn.

A texture is a function of (paint, height, width in texels, metres a texel, generator) that returns (h, w, 3) float32
colours in 0..1. The colours are the `Paint`'s; what is added is structure that feature matching can hold on to, except
where homes have none (plain cupboards, ceilings).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data_tools.synthetic.rooms.shapes import BLOTCH, CHECKER, SPECKLE, STRIPES

Rng = np.random.Generator
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
    total = np.zeros((h, w), np.float32)
    for size in sizes:
        total += noise(h, w, (size / texel, size / texel), rng)
    return total / np.sqrt(len(sizes))


def flat(paint: np.ndarray, h: int, w: int) -> np.ndarray:
    """The base colour everywhere."""
    return np.broadcast_to(paint[:3].astype(np.float32), (h, w, 3)).copy()


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
        return np.clip(noise(h, w, (2, 2), rng) - 0.7, 0, 1)
    return np.zeros((h, w), np.float32)


def blend(paint: np.ndarray, mix: np.ndarray) -> np.ndarray:
    """Base and second colour, mixed by (h, w)."""
    return paint[:3].astype(np.float32) + (paint[3:6] - paint[:3]).astype(np.float32) * mix[..., None]


def lacquer(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """A painted or metal front: next to no texture, as in real homes."""
    color = flat(paint, h, w)
    shade = 0.006 * fractal(h, w, texel, (0.01, 0.04), rng) + 0.012 * noise(h, w, (h, max(w, 2)), rng)
    return color * (1 + shade[..., None])


def plaster(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """A wall: its paper's print (if any), grain of the plaster, faint stains and scuffs."""
    import cv2

    if int(paint[6]) == CHECKER:
        return tiles(paint, h, w, texel, rng)
    color = blend(paint, 0.45 * pattern(paint, h, w, texel, rng))
    rough = float(rng.uniform(0.04, 0.07))
    shade = rough * fractal(h, w, texel, (0.009, 0.016, 0.035), rng) + 0.02 * fractal(h, w, texel, (0.09, 0.8), rng)
    marks = np.zeros((h, w), np.float32)
    for _ in range(int(h * w * texel * texel * 14)):
        at = (int(rng.integers(w)), int(rng.integers(h)))
        turn, length = float(rng.uniform(0, 180)), float(rng.uniform(0.004, 0.03)) / texel
        axes = (max(1, int(length)), max(1, int(length * rng.uniform(0.15, 0.6))))
        cv2.ellipse(marks, at, axes, turn, 0, 360, float(rng.uniform(-0.22, 0.10)), -1, cv2.LINE_AA)
    return color * (1 + shade + cv2.GaussianBlur(marks, (0, 0), 0.8))[..., None]


def ceiling(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """Rough white paint, a few hairline joints between boards."""
    color = flat(paint, h, w)
    shade = 0.045 * fractal(h, w, texel, (0.012, 0.03), rng) + 0.015 * noise(h, w, (0.5 / texel, 0.5 / texel), rng)
    step = max(8, int(1.25 / texel))
    shade[int(rng.integers(step)) :: step] -= 0.07
    shade[:, int(rng.integers(2 * step)) :: 2 * step] -= 0.07
    return color * (1 + shade[..., None])


def wood(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """Grain along the longer side, with rings and a few knots."""
    import cv2

    turned = h > w
    if turned:
        h, w = w, h
    warp = noise(h, w, (0.08 / texel, 0.5 / texel), rng) * 0.03
    v = (np.arange(h, dtype=np.float32) * texel)[:, None] + warp
    rings = np.sin(v * (2 * np.pi / 0.035)) * 0.35 + np.sin(v * (2 * np.pi / 0.011) + 3 * warp) * 0.2
    fibre = noise(h, w, (0.003 / texel, 0.06 / texel), rng)
    mix = np.clip(0.45 + rings * 0.6 + 0.3 * fibre, 0, 1.3)
    for _ in range(rng.poisson(h * w * texel * texel * 3)):
        at, size = (int(rng.integers(w)), int(rng.integers(h))), float(rng.uniform(0.006, 0.02)) / texel
        cv2.ellipse(mix, at, (max(1, int(size * 1.8)), max(1, int(size))), 0, 0, 360, 1.5, -1, cv2.LINE_AA)
    second = paint[:3] * np.float32(0.62)  # darker late wood
    color = blend(np.concatenate([paint[:3] * 1.06, second]), mix)
    pores = np.clip(noise(h, w, (0.002 / texel, 0.018 / texel), rng) - 1.1, 0, 1)
    color *= (1 + 0.03 * noise(h, w, (2, 4), rng) - 0.35 * pores)[..., None]
    return color.transpose(1, 0, 2) if turned else color


def planks(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """A parquet of boards along the columns, each with its own shade and grain, dark joints between."""
    color = wood(paint, h, w, texel, rng) if w >= h else wood(paint, w, h, texel, rng).transpose(1, 0, 2)
    wide, board = max(3, int(0.13 / texel)), max(6, int(1.1 / texel))
    joint = max(1, round(0.003 / texel))
    for y in range(0, h, wide):
        x = -int(rng.integers(board))
        while x < w:
            length = int(board * rng.uniform(0.6, 1.3))
            part = color[y : y + wide, max(x, 0) : max(x + length, 0)]
            part *= np.float32(rng.uniform(0.78, 1.16)) * rng.uniform(0.97, 1.03, 3).astype(np.float32)
            part[:, -joint:] *= 0.6
            x += length
        color[y : y + joint] *= 0.6
    return color * (1 + 0.015 * fractal(h, w, texel, (0.01, 0.4), rng))[..., None]


def tiles(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """Stone tiles with grout: veins, and a shade of its own to every tile."""
    size = max(4, int(np.clip(float(paint[7]), 0.12, 0.5) / texel))
    marble = fractal(h, w, texel, (0.012, 0.05, 0.15), rng)
    veins = np.exp(-40 * np.abs(noise(h, w, (0.12 / texel, 0.2 / texel), rng)))
    row, column = np.arange(h) // size, np.arange(w) // size
    shades = rng.normal(0, 0.035, (row[-1] + 1, column[-1] + 1)).astype(np.float32)
    check = ((row[:, None] + column) % 2).astype(np.float32) * (0.8 if int(paint[6]) == CHECKER else 0.0)
    color = blend(paint, check) * (1 + 0.03 * marble - 0.1 * veins + shades[row][:, column])[..., None]
    grout = max(1, round(0.004 / texel))
    line = (np.arange(h)[:, None] % size < grout) | (np.arange(w) % size < grout)
    color[line] = 0.62 + 0.03 * rng.standard_normal((int(line.sum()), 1), dtype=np.float32)
    return color


def carpet(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """Pile: strong fine noise, soft trodden patches."""
    mix = np.clip(0.4 + 0.5 * noise(h, w, (1.6, 1.6), rng) + 0.3 * noise(h, w, (5, 5), rng), -0.5, 1.5)
    return blend(paint, mix) * (1 + 0.05 * fractal(h, w, texel, (0.06, 0.4), rng))[..., None]


def fabric(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """Weave in two directions over the paint's pattern, soft folds."""
    color = blend(paint, pattern(paint, h, w, texel, rng))
    warp = noise(h, w, (6, 1.2), rng) + noise(h, w, (1.2, 6), rng)
    shade = 0.075 * warp + 0.07 * fractal(h, w, texel, (0.012, 0.03, 0.15), rng)
    return color * (1 + shade)[..., None]


def rug(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """A knotted rug: borders, medallions and small figures over pile."""
    import cv2

    color = flat(paint, h, w)
    tones = [np.clip(paint[3:6] + rng.normal(0, 0.18, 3), 0, 1).tolist() for _ in range(5)]
    for _ in range(int(8 + h * w * texel * texel * 90)):
        at = (int(rng.integers(w)), int(rng.integers(h)))
        size = float(rng.uniform(0.012, 0.07)) / texel
        sides, turn = int(rng.integers(3, 9)), float(rng.uniform(0, np.pi))
        angles = turn + np.arange(sides) * 2 * np.pi / sides
        points = np.stack([np.cos(angles), np.sin(angles)], 1) * size + at
        cv2.fillPoly(color, [np.rint(points * 8).astype(np.int32)], tones[int(rng.integers(5))], cv2.LINE_AA, 3)
    for inset, tone in ((0.03, 0), (0.07, 1), (0.14, 2)):
        n = int(inset / texel)
        if min(h, w) > 2 * n + 4:
            cv2.rectangle(color, (n, n), (w - n, h - n), tones[tone], max(1, int(0.012 / texel)))
    return color * (1 + 0.07 * noise(h, w, (1.6, 1.6), rng))[..., None]


def picture(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """A painting: washes of colour, shapes, strokes; no two alike."""
    import cv2

    base = np.stack([fractal(h, w, texel, (0.25, 0.08), rng) for _ in range(3)], -1) * 0.1
    color = np.ascontiguousarray(base + paint[:3].astype(np.float32), np.float32)
    for _ in range(int(rng.integers(30, 70))):
        tone = np.clip(rng.uniform(0, 1, 3) * 0.75 + paint[:3] * 0.25, 0, 1).tolist()
        at = np.array([rng.integers(w), rng.integers(h)])
        size = max(2.0, float(rng.exponential(0.05)) / texel)
        kind = int(rng.integers(3))
        if kind == 0:
            cv2.circle(color, at.tolist(), int(size), tone, -1, cv2.LINE_AA)
        elif kind == 1:
            points = at + rng.normal(0, 1, (int(rng.integers(3, 6)), 2)) * size
            cv2.fillPoly(color, [np.rint(points).astype(np.int32)], tone, cv2.LINE_AA)
        else:
            end = at + rng.normal(0, 3, 2) * size
            cv2.line(color, at.tolist(), np.rint(end).astype(int).tolist(), tone, max(1, int(size / 5)), cv2.LINE_AA)
    return color * (1 + 0.03 * noise(h, w, (1.5, 3), rng))[..., None]


def printed(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """Books, boxes, cans: a coloured ground with a label, bars and lines of something like print."""
    import cv2

    color = flat(paint, h, w)
    tones = [np.clip(rng.uniform(0, 1, 3), 0, 1).tolist() for _ in range(3)] + [[0.95, 0.94, 0.9], [0.08, 0.08, 0.1]]
    for _ in range(int(rng.integers(1, 4))):
        y, x = int(rng.integers(max(h, 1))), int(rng.integers(max(w, 1)))
        size = (int(rng.uniform(0.2, 0.9) * w) + 1, int(rng.uniform(0.06, 0.4) * h) + 1)
        cv2.rectangle(
            color, (x - size[0] // 2, y - size[1] // 2), (x + size[0] // 2, y), tones[int(rng.integers(5))], -1
        )
    line = max(2, int(0.012 / texel))
    for y in range(int(h * 0.2), int(h * 0.8), line):
        if rng.random() < 0.5:
            continue
        x, tone = int(w * 0.1), tones[int(rng.integers(5))]
        while x < w * 0.9:
            length = int(rng.uniform(0.004, 0.025) / texel) + 1
            cv2.rectangle(color, (x, y), (min(x + length, w), y + max(0, line // 2 - 1)), tone, -1)
            x += length + max(1, int(0.004 / texel))
    return color * (1 + 0.03 * fractal(h, w, texel, (0.006, 0.05), rng))[..., None]


def leaves(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """Foliage: light leaves over dark gaps."""
    mix = fractal(h, w, texel, (0.012, 0.03, 0.08), rng)
    return flat(paint, h, w) * np.clip(0.85 + 0.4 * mix, 0.25, 1.7)[..., None]


def screen(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """A dark glass with a soft reflection."""
    glow = np.clip(noise(h, w, (max(h / 2, 2), max(w / 3, 2)), rng), 0, 2) * 0.05
    return flat(paint, h, w) * 0.4 + glow[..., None].astype(np.float32)


def worktop(paint: np.ndarray, h: int, w: int, texel: float, rng: Rng) -> np.ndarray:
    """Granite."""
    mix = np.clip(fractal(h, w, texel, (0.006, 0.02), rng), -1, 2)
    return blend(paint, np.clip(mix, 0, 1)) * (1 + 0.08 * noise(h, w, (1.5, 1.5), rng))[..., None]

"""Pictures as arrays (H, W, 3) uint8: side by side, with a legend, and as files. Every PNG is written here."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_tools.stages.files import replacing

WHITE = (255, 255, 255)
INK, FAINT = (40, 40, 45), (150, 150, 155)
_LINE, _MARGIN = 24, 10  # pixels of the legend


def font(size: int) -> Any:
    """Pillow's own font; before Pillow 10.1 there is one size of it."""
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()


def to_uint8(color: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as 0..255."""
    return np.rint(np.clip(color, 0.0, 1.0) * 255).astype(np.uint8)


def hues(numbers: Iterable[int]) -> np.ndarray:
    """(K, 3) uint8 colours of numbered things, each far from its neighbours' and the same in every picture."""
    rows = [
        colorsys.hsv_to_rgb((0.6180339887 * i) % 1.0, 0.45 + 0.4 * (i % 3) / 2, 0.95 - 0.3 * (i // 3 % 3) / 2)
        for i in map(int, numbers)
    ]
    return to_uint8(np.array(rows).reshape(-1, 3))


def contact_sheet(images: Sequence[np.ndarray], columns: int | None = None, gap: int = 8) -> np.ndarray:
    """Images of possibly different sizes in one image, row by row, on white, ``gap`` pixels apart.

    Raises:
        ValueError: there is no image.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one image")
    columns = columns or int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    cell_h, cell_w = max(i.shape[0] for i in images), max(i.shape[1] for i in images)
    sheet = np.full((rows * cell_h + (rows + 1) * gap, columns * cell_w + (columns + 1) * gap, 3), WHITE, np.uint8)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        top, left = gap + row * (cell_h + gap), gap + column * (cell_w + gap)
        top, left = top + (cell_h - image.shape[0]) // 2, left + (cell_w - image.shape[1]) // 2
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def captioned(image: np.ndarray, caption: str, size: int = 14) -> np.ndarray:
    """The image with a line of text above it; ``size`` is the letters' in pixels."""
    letters = font(size)
    while len(caption) > 1 and letters.getlength(caption) > image.shape[1] - 2 * _MARGIN:
        caption = f"{caption.rstrip('…')[:-1]}…"
    strip = Image.new("RGB", (image.shape[1], size + _MARGIN), "white")
    ImageDraw.Draw(strip).text((_MARGIN, _MARGIN // 2), caption, fill=INK, font=letters)
    return np.concatenate([np.asarray(strip), image])


def with_legend(image: np.ndarray, legend: Sequence[tuple[str, Sequence[int]]]) -> np.ndarray:
    """The image (H, W, 3) uint8 with a strip of coloured squares and names below it: (name, (r, g, b) 0-255) pairs."""
    letters = font(14)
    places, x, y = [], _MARGIN, 0
    for name, _ in legend:
        width = int(letters.getlength(name)) + 3 * _MARGIN + 12
        if x > _MARGIN and x + width > image.shape[1]:
            x, y = _MARGIN, y + _LINE
        places.append((x, y))
        x += width
    strip = Image.new("RGB", (image.shape[1], y + _LINE + _MARGIN), "white")
    draw = ImageDraw.Draw(strip)
    for (name, color), (x, y) in zip(legend, places, strict=True):
        draw.rectangle((x, y + 4, x + 13, y + 17), fill=tuple(map(int, color)), outline=(90, 90, 90))
        draw.text((x + 20, y + 3), name, fill=(30, 30, 30), font=letters)
    return np.concatenate([image, np.asarray(strip)])


def save_png(path: str | os.PathLike[str], image: np.ndarray) -> Path:
    """Write an (H, W, 3) uint8 image as PNG, whole or not at all; the same image gives the same bytes.

    Raises:
        ValueError: it is no such image.
        OSError: the file cannot be written.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a PNG is written from (H, W, 3) uint8, got {image.shape} {image.dtype}")
    with replacing(path) as partial:
        Image.fromarray(image).save(partial, "PNG")
    return Path(path)

"""Clouds as turntable pictures, with a legend where there are classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_tools.clouds.io import Cloud
from lam3c_plugin.viz import contact_sheet, render_points

YAWS = (0.0, 90.0, 180.0, 270.0)  # degrees
_LINE, _MARGIN = 24, 10  # pixels of the legend


def turntable(
    coord: np.ndarray,
    colors: Sequence[np.ndarray],
    size: tuple[int, int] = (480, 360),
    yaws: Sequence[float] = YAWS,
) -> np.ndarray:
    """A cloud seen obliquely from several sides: a row for each of ``colors``, a column for each yaw.

    Args:
        coord: (N, 3) metres, z up.
        colors: (N, 3) each, uint8 or floats in [0, 1].
        size: width and height of one view in pixels.
        yaws: degrees the cloud is turned by about the vertical.

    Returns:
        (H, W, 3) uint8.
    """
    coord = coord.astype(np.float64) - coord.mean(axis=0, dtype=np.float64)
    images = []
    for color in colors:
        for yaw in np.deg2rad(yaws):
            turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
            images.append(render_points(coord @ turn.T, color, size=size))
    return contact_sheet(images, columns=len(yaws))


def with_legend(image: np.ndarray, legend: Sequence[tuple[str, Sequence[int]]]) -> np.ndarray:
    """The image (H, W, 3) uint8 with a strip of coloured squares and names below it."""
    from PIL import Image, ImageDraw, ImageFont

    try:
        font: Any = ImageFont.load_default(14)
    except TypeError:  # Pillow before 10.1 has one size
        font = ImageFont.load_default()
    places, x, y = [], _MARGIN, 0
    for name, _ in legend:
        width = int(font.getlength(name)) + 3 * _MARGIN + 12
        if x > _MARGIN and x + width > image.shape[1]:
            x, y = _MARGIN, y + _LINE
        places.append((x, y))
        x += width
    strip = Image.new("RGB", (image.shape[1], y + _LINE + _MARGIN), "white")
    draw = ImageDraw.Draw(strip)
    for (name, color), (x, y) in zip(legend, places, strict=True):
        draw.rectangle((x, y + 4, x + 13, y + 17), fill=tuple(map(int, color)), outline=(90, 90, 90))
        draw.text((x + 20, y + 3), name, fill=(30, 30, 30), font=font)
    return np.concatenate([image, np.asarray(strip)])


def display_colors(cloud: Cloud) -> np.ndarray:
    """The cloud's colours (N, 3) uint8, mid grey where it has none."""
    return np.full((len(cloud), 3), 150, dtype=np.uint8) if cloud.color is None else cloud.color


def to_uint8(color: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as 0..255."""
    return np.rint(np.clip(color, 0.0, 1.0) * 255).astype(np.uint8)

"""Small pictures for the pages: thumbnails of pictures, and of clouds seen from above their side."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

GROUND = (238, 241, 245)
RENDERED_POINTS = 120_000
TWO_VIEWS = 1.8  # wider pictures are previews of the clean-up: from above on the left, into the room on the right
AZIMUTH, ELEVATION = -0.9, 0.75  # as the viewer's first look


def jpeg_bytes(image: Image, quality: int = 82) -> bytes:
    """A picture as JPEG; the same picture gives the same bytes."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def data_address(data: bytes, kind: str = "image/jpeg") -> str:
    """A picture as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def shrunk(path: Path, width: int, crop: bool = False) -> bytes | None:
    """A picture file as JPEG of at most ``width`` pixels, or None where it cannot be read.

    With ``crop`` it becomes 4 : 3; of two views side by side the right one is taken.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (2 * width, 2 * width))  # JPEG only: decode small
            image = opened.convert("RGBA") if opened.mode in ("RGBA", "LA", "P") else opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    if image.mode == "RGBA":
        ground = Image.new("RGBA", image.size, (*GROUND, 255))
        image = Image.alpha_composite(ground, image).convert("RGB")
    if crop:
        if image.width > TWO_VIEWS * image.height:
            image = image.crop((image.width // 2, 0, image.width, image.height))
        image = ImageOps.fit(image, (width, width * 3 // 4), Image.Resampling.LANCZOS)
    elif image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    return jpeg_bytes(image)


def render_cloud(
    coord: np.ndarray, color: np.ndarray | None, normal: np.ndarray | None, width: int, height: int
) -> np.ndarray:
    """A cloud from above its side, near walls left out where there are normals.

    Args:
        coord: (N, 3) metres, z up. color: (N, 3) uint8 or None. normal: (N, 3) or None.
        width, height: pixels.

    Returns:
        (height, width, 3) uint8.
    """
    ca, sa, ce, se = np.cos(AZIMUTH), np.sin(AZIMUTH), np.cos(ELEVATION), np.sin(ELEVATION)
    back = np.array([ce * ca, ce * sa, se])
    keep = np.isfinite(coord).all(axis=1)
    if normal is not None:
        keep &= normal.astype(np.float32) @ back.astype(np.float32) > 0
    canvas = np.full((2 * height, 2 * width, 3), GROUND, dtype=np.uint8)
    points = coord[keep].astype(np.float64)
    if not len(points):
        return canvas[::2, ::2]
    colors = np.full((len(points), 3), 120, dtype=np.uint8) if color is None else color[keep]
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    local = points - (low + high) / 2
    plane = np.stack([local @ [-sa, ca, 0], -(local @ [-se * ca, -se * sa, ce])], axis=1)
    left, right = np.percentile(plane, [0.2, 99.8], axis=0)
    scale = 0.94 * min(2 * width / max(right[0] - left[0], 1e-6), 2 * height / max(right[1] - left[1], 1e-6))
    pixel = np.floor((plane - (left + right) / 2) * scale + [width, height]).astype(np.int64)
    order = np.argsort(local @ back, kind="stable")  # far to near: the near one is written last
    pixel, colors = pixel[order], colors[order]
    size = int(np.clip(np.ceil(1.3 * np.sqrt(2 * width * height / len(points))), 2, 7))
    for down in range(size):
        for across in range(size):
            column, row = pixel[:, 0] + across, pixel[:, 1] + down
            inside = (column >= 0) & (column < 2 * width) & (row >= 0) & (row < 2 * height)
            canvas[row[inside], column[inside]] = colors[inside]
    return canvas.reshape(height, 2, width, 2, 3).mean(axis=(1, 3)).astype(np.uint8)


def cloud_picture(
    coord: np.ndarray, color: np.ndarray | None, normal: np.ndarray | None, width: int, quality: int = 82
) -> bytes:
    """`render_cloud` as a 4 : 3 JPEG."""
    from PIL import Image

    return jpeg_bytes(Image.fromarray(render_cloud(coord, color, normal, width, width * 3 // 4)), quality)

"""Small pictures for the pages: thumbnails of pictures, and of clouds seen from above their side."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_tools.drawing.points import render_points

if TYPE_CHECKING:
    from PIL.Image import Image

GROUND = (238, 241, 245)
RENDERED_POINTS = 60_000
TWO_VIEWS = 1.8  # wider pictures are previews of the clean-up: from above on the left, into the room on the right
VIEW = (-51.6, 43.0)  # as the viewer's first look


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


def cloud_picture(
    coord: np.ndarray, color: np.ndarray | None, normal: np.ndarray | None, width: int, quality: int = 82
) -> bytes:
    """A cloud (N, 3) in metres from above its side as a 4 : 3 JPEG; with normals, what faces away is left out."""
    from PIL import Image

    color = np.full((len(coord), 3), 120, dtype=np.uint8) if color is None else color
    cut = 0.15 if normal is None else 0.05  # a ceiling faces away, but for its edges
    image = render_points(
        coord, color, (width, width * 3 // 4), VIEW, normal, ceiling_cut=cut, shading=2.0, background=GROUND
    )
    return jpeg_bytes(Image.fromarray(image), quality)

"""Folders of photos or frames: which files are images, in what order, and their pictures as shown."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from data_tools.stages.record import StageError

HEIC_SUFFIXES = (".heic", ".heif")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".avif", *HEIC_SUFFIXES)
ORIENTATION = 0x112  # EXIF; from 5 on the picture lies on its side
NUMBER = re.compile(r"^\d+(\.\d+)?$")
DIGITS = re.compile(r"(\d+)")


def list_images(folder: Path) -> list[tuple[Path, float]]:
    """The images of a folder with their times: the names' numbers, else positions; in the order of time.

    Raises:
        StageError: there is none, or all are HEIC photos and their package is not there.
    """
    paths = [path for path in folder_files(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise StageError(f"{folder.name}: no image in this folder; it takes {' '.join(IMAGE_SUFFIXES)}")
    others = [path for path in paths if path.suffix.lower() not in HEIC_SUFFIXES]
    if len(others) < len(paths) and not _opens_heic():
        if not others:
            reason = f"{folder.name}: its HEIC photos need pip install pillow-heif, or export them as JPEG"
            raise StageError(reason, permanent=False)
        paths = others  # the caller names what is left out
    if all(NUMBER.match(path.stem) for path in paths):
        return sorted(((path, float(path.stem)) for path in paths), key=lambda entry: (entry[1], entry[0].name))
    return [(path, float(position)) for position, path in enumerate(paths)]


def folder_files(folder: Path) -> list[Path]:
    """Visible files, frame_2 before frame_10."""
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(
        files, key=lambda path: ([int(p) if p.isdecimal() else p for p in DIGITS.split(path.name)], path.name)
    )


def image_size(path: Path) -> tuple[int, int] | None:
    """(width, height) as shown, of the header alone; None where it is no image."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            # some versions of Pillow have turned the size of a TIFF already
            stored = (image.tag_v2[256], image.tag_v2[257]) if image.format == "TIFF" else image.size
            return stored[::-1] if image.getexif().get(ORIENTATION, 1) >= 5 else stored
    except (OSError, ValueError, LookupError, SyntaxError, Image.DecompressionBombError) as error:
        if getattr(error, "errno", None) is not None:  # the disk's trouble, not the image's
            raise
        return None


def read_image(path: Path, wanted: tuple[int, int], full: tuple[int, int], resize: str) -> np.ndarray | None:
    """(H, W, 3) RGB of the wanted (width, height), turned as its EXIF says; None where it does not decode."""
    import cv2
    from PIL import Image

    if path.suffix.lower() in (".avif", *HEIC_SUFFIXES):  # OpenCV leaves an AVIF on its side
        raw = _read_by_pillow(path)
    else:
        raw = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR)
    if raw is None or raw.shape[1::-1] != full:
        return None
    if wanted != full and resize == "lanczos":  # OpenCV's does not average where it shrinks
        raw = np.asarray(Image.fromarray(raw).resize(wanted, Image.Resampling.LANCZOS))
    elif wanted != full:
        grows = wanted[0] * wanted[1] > full[0] * full[1]
        raw = cv2.resize(raw, wanted, interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)
    return raw[..., ::-1]


def _opens_heic() -> bool:
    """Whether Pillow opens HEIC, with the help of pillow-heif."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _read_by_pillow(path: Path) -> np.ndarray | None:
    """(H, W, 3) BGR as shown; None where it does not decode."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[..., ::-1]
    except (OSError, ValueError):
        return None

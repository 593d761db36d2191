"""Results on the disk: under a temporary name until they are whole, failures in one line; pages shown in a browser."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.clouds.io import Cloud, write_ply
from data_tools.drawing.pictures import save_png
from data_tools.stages.files import replacing, write_text
from lam3c_plugin.errors import DataError


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn the error of a write into one line.

    Raises:
        DataError: the folder or file cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}; check the folder given with --out") from error


def save_ply(path: Path, cloud: Cloud, color: np.ndarray, segment: np.ndarray | None = None) -> Path:
    """The cloud with other colours (N, 3) uint8 and perhaps labels, at its own coordinates."""
    with _writing(path):
        return write_ply(path, Cloud(cloud.coord, color, cloud.normal, segment=segment, origin=cloud.origin))


def save_picture(path: Path, image: np.ndarray) -> Path:
    """An (H, W, 3) uint8 image as PNG."""
    with _writing(path):
        return save_png(path, image)


def save_npz(path: Path, **arrays: Any) -> Path:
    """Named arrays, compressed."""
    with _writing(path), replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)
    return path


def save_text(path: Path, text: str) -> Path:
    """A text file in UTF-8."""
    with _writing(path):
        write_text(path, text)
    return path


def say_made(made: str | Sequence[Path], next_step: str) -> None:
    """The last two lines of a command: what was made, and what to do with it."""
    print(f"made: {made if isinstance(made, str) else ', '.join(map(str, made))}")
    print(f"next: {next_step}")


def has_display() -> bool:
    """Whether a browser could show a window here."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def show_page(path: Path, html: str, open_it: bool = True) -> str:
    """Write a page, open it where there is a display, and say what happened."""
    save_text(path, html)
    if not open_it:
        return f"page: {path}"
    if not has_display():
        return f"page: {path} (no display here: open it in a browser)"
    return f"page: {path} ({'opened' if webbrowser.open(path.resolve().as_uri()) else 'open it in a browser'})"

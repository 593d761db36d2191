"""The one finder of clouds: files that can be read, and scene folders, among and below what is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from data_tools.clouds.io import CLOUD_SUFFIXES, CloudError

HIDDEN = (".", "~")
WORK = "_work"  # the chain's own folder in a data set: half-made clouds


def is_scene(path: Path) -> bool:
    """Whether a path is a scene folder."""
    return (path / "coord.npy").is_file()


def clouds_in(folder: Path, out: Path | None = None) -> list[Path]:
    """Scene folders and cloud files in a folder and below it, folder by folder in the order of their names.

    Hidden files, the chain's ``_work`` and links to a folder's own parents are passed over; nothing is looked for
    inside a scene folder.

    Args:
        out: folder of results, which are no inputs, or None.

    Raises:
        CloudError: a folder cannot be read; one line.
    """
    return list(_walk(folder, None if out is None else out.resolve(), frozenset()))


def _walk(folder: Path, out: Path | None, above: frozenset[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above or (out is not None and (real == out or out in real.parents)):
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise CloudError(f"{folder}: cannot be read ({error.strerror or error}); check its rights") from error
    for entry in entries:
        if entry.name.startswith(HIDDEN) or entry.name == WORK:
            continue
        if entry.is_dir():
            yield from [entry] if is_scene(entry) else _walk(entry, out, above | {real})
        elif entry.suffix.lower() in CLOUD_SUFFIXES:
            yield entry


def clouds_of(given: Sequence[Path], out: Path | None = None) -> dict[Path, list[Path]]:
    """What each given path stands for: a folder for the clouds in it and below it, anything else for itself.

    Args:
        given: files (also such that do not exist), scene folders, other folders.
        out: see `clouds_in`.

    Raises:
        CloudError: a folder cannot be read; one line.
    """
    return {path: clouds_in(path, out) if path.is_dir() and not is_scene(path) else [path] for path in given}

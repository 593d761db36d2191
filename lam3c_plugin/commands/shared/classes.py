"""Names of classes: the benchmarks' own, of a file, of a scene's meta.json, or numbers."""

from __future__ import annotations

import json
from pathlib import Path

from lam3c_plugin import labels
from lam3c_plugin.errors import DataError, did_you_mean

KNOWN: dict[str, list[str]] = {
    "scannet": labels.SCANNET_20,
    "scannet200": labels.SCANNET_200,
    "scannetpp": labels.SCANNETPP_100,
    "s3dis": labels.S3DIS_13,
    "synthetic": labels.SYNTHETIC_24,
}


def class_names(spec: str | None, count: int) -> list[str]:
    """Names for ``count`` classes.

    Args:
        spec: a benchmark (`KNOWN`), a text file with one name a line, or None: the benchmark with so many
            classes, else numbers.
        count: classes.

    Raises:
        DataError: an unknown name, an unreadable file, or another number of names.
    """
    if spec is None:
        return next((names for names in KNOWN.values() if len(names) == count), numbered(count))
    names = read_names(spec)
    if len(names) != count:
        raise DataError(f"--names {spec} has {len(names)} names, there are {count} classes; give as many")
    return names


def numbered(count: int) -> list[str]:
    """``class 0``, ``class 1``, ..."""
    return [f"class {i}" for i in range(count)]


def read_names(spec: str) -> list[str]:
    """The names of a benchmark, or of a text file with one a line.

    Raises:
        DataError: an unknown name, or an unreadable file.
    """
    if spec in KNOWN:
        return list(KNOWN[spec])
    if not Path(spec).is_file():
        raise DataError(f"--names {spec}: neither a benchmark nor a file{did_you_mean(spec, KNOWN)}")
    try:
        return [line.strip() for line in Path(spec).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--names {spec}: cannot be read ({error}); give one name a line") from error


def names_of_labels(spec: str | None, labels: str, scene: Path, highest: int) -> list[str]:
    """Names for the labels of a data folder.

    Args:
        spec: see `read_names`; None: those of the benchmark whose label file this is, else of the scene's
            meta.json (``classes``), else numbers.
        labels: the label file's name.
        scene: one of the scenes.
        highest: largest label that occurs.

    Raises:
        DataError: a label has no name.
    """
    if spec is None:
        spec = {"segment20": "scannet", "segment200": "scannet200"}.get(labels)
    names = read_names(spec) if spec else (_meta_names(scene) or numbered(highest + 1))
    if highest >= len(names):
        raise DataError(
            f"labels go up to {highest}, but there are names for {len(names)} classes: give --names, or leave labels "
            f"that do not count out with --ignore {highest}"
        )
    return names


def _meta_names(scene: Path) -> list[str] | None:
    try:
        found = json.loads((scene / "meta.json").read_text(encoding="utf-8")).get("classes")
    except (OSError, ValueError, AttributeError):  # no meta.json, or somebody else's
        return None
    return [str(name) for name in found] if isinstance(found, list) and found else None

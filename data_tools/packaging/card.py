"""What a data set says of itself: ``stats.json``, ``dataset_card.md``, ``README.md`` for the hub, whose terms apply."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.stages.files import read_json, write_json, write_text
from data_tools.stages.scene_folder import read_meta

STATS, CARD, README = "stats.json", "dataset_card.md", "README.md"
NO_SPLITS = ("report", "_work")
COUNTED = ("color", "normal", "segment")
LICENSES = {
    "pi3": "CC BY-NC 4.0: these clouds come from pi3, whose weights are CC BY-NC 4.0; non-commercial use only.",
    "cc-by-nc": "CC BY-NC 4.0, https://creativecommons.org/licenses/by-nc/4.0/",
    "cc-by": "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/",
    "mit": "MIT",
}
BACKEND_LICENSES = {
    "pi3": LICENSES["pi3"],
    "vggt": "vggt: its first weights (VGGT-1B) are for non-commercial use only, VGGT-1B-Commercial has its own terms; "
    "clouds made with them go by the terms of the weights that were used.",
    "depth_anything": "Depth Anything 3: weights of the giant and large models are CC BY-NC 4.0 (non-commercial), "
    "small and base are Apache 2.0; clouds go by the terms of the weights that were used.",
    "mapanything": "MapAnything: facebook/map-anything-apache is Apache 2.0, facebook/map-anything CC BY-NC 4.0 "
    "(non-commercial), the models that it wraps have their own terms; clouds go by the terms of the weights that were "
    "used.",
    "sfm": "sfm: structure from motion without weights; no terms of a model apply.",
}
VIDEO_NOTE = "The videos belong to those who made them; ask before you pass on clouds or pictures made from them."
HUB_NAMES = {"CC BY-NC 4.0": "cc-by-nc-4.0", "CC BY 4.0": "cc-by-4.0", "MIT": "mit"}  # the strictest first
PACKED = (
    "## Tar files",
    "",
    "`<split>/*.tar` hold the folders. `RoomToursDataset` of lam3c-plugin reads them as they are (`data_root` is this",
    "folder), `tar xf` unpacks one, `sha256sum -c SHA256SUMS` checks all.",
    "",
)
NOT_STATED = "Not stated. Ask whoever made the clouds before you share them."


def license_of(backends: Iterable[str]) -> str:
    """The terms that come with a data set's backends, and with videos; empty without any."""
    known = [BACKEND_LICENSES.get(name, f"{name}: see its license.") for name in sorted(set(backends))]
    return "\n\n".join([*known, VIDEO_NOTE]) if known else ""


def summarise(folder: Path, license_note: str = "") -> dict[str, Any]:
    """Statistics of all scenes below ``folder``, from ``<split>/<scene>/meta.json``.

    Args:
        license_note: the terms; else those of the backends that the scenes come from, else what ``stats.json`` says.
    """
    scenes: dict[str, list[tuple[int, Sequence[float], tuple[str, ...]]]] = {}
    backends = set[str]()
    for split, meta in _metas(folder):
        extent, arrays = meta.get("extent", (0.0, 0.0, 0.0)), meta.get("arrays", ())
        there = tuple(name for name in COUNTED if name in arrays)
        scenes.setdefault(split, []).append((int(meta.get("num_points", 0)), extent, there))
        found = meta.get("backend") or (meta.get("reconstruction") or {}).get("backend")
        backends |= {str(found)} if found else set()
    note = license_note or license_of(backends) or str(read_json(folder / STATS, dict).get("license") or "")
    return {"splits": {name: _figures(rows) for name, rows in scenes.items()}, "license": note}


def _figures(rows: Sequence[tuple[int, Sequence[float], tuple[str, ...]]]) -> dict[str, Any]:
    """Of a split, from its scenes' points, extents and arrays."""
    points, extent = [row[0] for row in rows], np.array([row[1] for row in rows], dtype=np.float64)
    return {
        "scenes": len(rows),
        "points": sum(points),
        "points_median": float(np.median(points)),
        "extent_median": [round(float(v), 3) for v in np.median(extent, axis=0)],
        "extent_max": [round(float(v), 3) for v in extent.max(axis=0)],
        **{f"with_{name}": sum(name in there for _, _, there in rows) for name in COUNTED},
    }


def _metas(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for split in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        scenes = [] if split.name in NO_SPLITS else sorted(split.iterdir())
        for scene in scenes:
            meta = None if scene.name.startswith(".") else read_meta(scene)
            if meta is not None:
                yield split.name, meta


def write_summary(folder: Path, license_note: str = "", title: str = "") -> dict[str, Any]:
    """Write ``stats.json`` and ``dataset_card.md`` over all scenes in ``folder``; returns the statistics.

    Raises:
        OSError: the disk is full or not writable.
    """
    stats = summarise(folder, license_note)
    write_json(folder / STATS, stats)
    write_text(folder / CARD, _card(stats, title or folder.name))
    return stats


def write_card(folder: Path, out: Path, license_note: str = "") -> None:
    """Write ``README.md``, the hub's dataset card, and ``stats.json`` of the scenes in ``folder`` to ``out``.

    Raises:
        OSError: the disk is full or not writable.
    """
    stats = summarise(folder, license_note)
    head = ["---", _hub_license(stats), "tags:", "- point-cloud", "- 3d", "---", ""]
    write_json(out / STATS, stats)
    write_text(
        out / README, "\n".join([*head, _card(stats, folder.resolve().name), *(PACKED if out != folder else ())])
    )


def has_other_license(folder: Path, license_note: str = "") -> bool:
    """Whether ``README.md`` in a folder, perhaps a person's, lacks the licence that its scenes come with."""
    wanted = _hub_license(summarise(folder, license_note))
    return wanted != "license: other" and wanted not in (folder / README).read_text("utf-8").splitlines()


def _hub_license(stats: dict[str, Any]) -> str:
    names = (hub for words, hub in HUB_NAMES.items() if re.search(rf"\b{re.escape(words)}\b", stats["license"]))
    return f"license: {next(names, 'other')}"


def _card(stats: dict[str, Any], title: str) -> str:
    lines = [
        f"# {title}",
        "",
        "Indoor clouds, a folder a scene: `<split>/<scene>/{coord,color,normal[,segment,instance]}.npy`, `meta.json`.",
        "`coord` float32 metres, z up; `color` uint8 0..255; `normal` unit vectors; labels int32, -1 unknown.",
        "",
        "| split | scenes | points | median points | median size (m) |",
        "|---|---|---|---|---|",
    ]
    for split, row in stats["splits"].items():
        size = " x ".join(f"{v:.1f}" for v in row["extent_median"])
        lines.append(f"| {split} | {row['scenes']} | {row['points']:,} | {row['points_median']:,.0f} | {size} |")
    return "\n".join([*lines, "", "## License", "", stats["license"] or NOT_STATED, ""])

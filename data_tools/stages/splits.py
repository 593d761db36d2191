"""The one rule that says in which split a scene lies, whichever tool writes it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from data_tools.stages.scene_folder import is_done, read_meta


def split_of(key: str, split: str, val_share: float) -> str:
    """The split of a scene that is not written yet: "val" for a share of the keys, else ``split``.

    Args:
        key: the video's id where the scene comes from one, so that the rooms of a video never lie on both sides; else
            the scene's name. Nothing else decides: not the order, the number or the place of the others.
        split: of the others.
        val_share: in [0, 1).
    """
    number = int.from_bytes(hashlib.blake2b(b"split" + key.encode(), digest_size=8).digest(), "big") / 2**64
    return "val" if number < val_share else split


def check_split(split: str) -> None:
    """Refuse a split that is no plain folder of the data set.

    Raises:
        ValueError: one line.
    """
    if not split or split != Path(split).name or split.startswith((".", "_")):
        raise ValueError(f"--split {split!r} must be the plain name of a folder, for example train or val")


def written_splits(out: Path, name: str) -> list[str]:
    """Splits of a data set that hold a scene of that name; it stays where it is, whatever share is asked for later."""
    if not out.is_dir():
        return []
    splits = sorted(path for path in out.iterdir() if not path.name.startswith("."))
    return [path.name for path in splits if is_done(path / name)]


def video_of(cloud: Path) -> str:
    """The video that a scene folder comes from, by its meta.json; empty for any other cloud."""
    found = (read_meta(cloud) or {}).get("video")
    return found if isinstance(found, str) else ""

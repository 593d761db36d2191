"""Other people's indexes: read from a file, an address or a Hub repository, checked, and kept."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.zoo import fetch, hub
from lam3c_plugin.zoo.index import FORMAT, INDEX_FILE, Entry, parse_entry, parse_index
from lam3c_plugin.zoo.store import added_indexes, entries, home, write_small

_HUB_ID = re.compile(r"(?:hf://)?([\w][\w.-]*/[\w][\w.-]*)(?:@([\w.-]+))?")


def add(place: str) -> tuple[Path, list[Entry]]:
    """Add an index, in place of an earlier one from the same place.

    Args:
        place: a JSON file, a folder with ``lam3c-zoo.json``, an https address, or a Hub repository
            ``owner/name[@revision]``.

    Returns:
        the file it is kept in (remove it to undo), and its entries.

    Raises:
        CheckpointError: it cannot be got, is no index, has a wrong entry, or a name that is taken.
    """
    content, base = _get(place)
    made = [parse_entry(_absolute(entry, base, place), place) for entry in parse_index(content, place)]
    kept = home() / "indexes" / (re.sub(r"[^a-z0-9]+", "-", base["key"].lower()).strip("-") + ".json")
    taken = {entry.name: entry.origin for entry in entries() if entry.origin != base["key"]}
    for entry in made:
        if entry.name in taken:
            raise CheckpointError(
                f"{place}: the name {entry.name} is taken ({taken[entry.name]}); its author must rename it"
            )
    stored = {"format": FORMAT, "entries": [{**entry.to_json(), "origin": base["key"]} for entry in made]}
    write_small(kept, json.dumps(stored, indent=1) + "\n")
    return kept, made


def remove(name: str) -> Path:
    """Remove the index that an entry of this name came with; returns its file.

    Raises:
        CheckpointError: no added index has the name.
    """
    for path, content in added_indexes().items():
        if any(entry.get("name") == name for entry in parse_index(content, str(path))):
            path.unlink()
            return path
    raise CheckpointError(f"no added index has an entry {name!r}; `lam3c zoo list` shows the names")


def _get(place: str) -> tuple[Any, dict[str, str]]:
    """The index's content, and what ``{"file": …}`` is relative to: ``path``, ``url``, or ``hub`` and ``revision``."""
    path = Path(place).expanduser()
    if path.is_dir():
        path = path / INDEX_FILE
    if path.is_file():
        path = path.resolve()
        return _parse(path, place), {"key": str(path), "path": str(path.parent)}
    if place.startswith(("https://", "http://")):
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / INDEX_FILE
            fetch.download(place, target)
            return _parse(target, place), {"key": place, "url": place}
    match = _HUB_ID.fullmatch(place)
    if not match:
        raise CheckpointError(
            f"{place} is no file, folder with {INDEX_FILE}, https address or Hub repository owner/name"
        )
    wanted = Entry(place, "backbone", "", "", hub=match[1], files=(INDEX_FILE,))
    file = hub.get_file(wanted, match[2])
    return _parse(file.path, place), {"key": match[1], "hub": match[1], "revision": file.commit}


def _parse(path: Path, place: str) -> Any:
    try:
        if path.stat().st_size > 8 << 20:
            raise ValueError("more than 8 MB")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{place} is not a zoo index: {error}; it must be JSON, see docs/zoo.md") from error


def _absolute(entry: Any, base: Mapping[str, str], place: str) -> Any:
    """The entry with its ``{"file": …}`` made absolute; an index from elsewhere may not name files of this machine."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("source"), Mapping):
        return entry
    source = dict(entry["source"])
    if "path" in source:
        raise CheckpointError(f'{place}: a source is {{"file": …}} beside the index, not "path"')
    file = source.pop("file", None)
    if file is not None:
        if not isinstance(file, str) or not re.fullmatch(r"(?!.*\.\.)[\w][\w./ +-]*", file):
            raise CheckpointError(f"{place}: file {file!r} must be a name beside the index")
        if "path" in base:
            source["path"] = str(Path(base["path"]) / file)
        elif "url" in base:
            source["url"] = urljoin(base["url"], file)
        else:
            source |= {"hub": base["hub"], "files": [file], "revision": base["revision"]}
    return {**entry, "source": source, "origin": base["key"]}

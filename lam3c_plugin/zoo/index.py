"""The index of checkpoints: what there is, from where, under which licence; the shipped one and other people's.

An index file is JSON, ``{"format": "lam3c-zoo/1", "entries": [{…}, …]}``; the fields of an entry are those of
`Entry`, with ``source`` as one of ``{"hub": "owner/name", "files": [...], "revision": …}``, ``{"url": "https://…"}``
and ``{"file": "model.safetensors"}`` (beside the index file, wherever that lies).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from lam3c_plugin.errors import CheckpointError, did_you_mean

FORMAT = "lam3c-zoo/1"
INDEX_FILE = "lam3c-zoo.json"
KINDS = ("backbone", "head")
#: licences that ask for nothing but credit; all others are confirmed before the first download
PERMISSIVE = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0")
LICENCE_URLS = {
    "cc-by-nc-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "cc-by-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
}
_SOURCE = ("hub", "files", "revision", "url", "path")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,79}")
_HUB = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_FILE = re.compile(r"(?!.*\.\.)[\w][\w./ +-]*")
_KIND_WORDS = {int: "whole number", float: "number of metres", Mapping: "dictionary", str: "text"}
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """A checkpoint of the zoo.

    Attributes:
        name: lower case; what people type.
        kind: "backbone" or "head" (a linear layer on a backbone's features).
        summary: one line.
        licence: SPDX-like id.
        licence_url: where to read it.
        hub: Hub repository.
        revision: commit in it; ``None``: not pinned.
        files: the spellings of the file's name there.
        url: plain https address, instead of a Hub repository.
        path: local file, instead of both.
        sha256: of the file; ``None``: not known when the index was written.
        size: likewise, in bytes.
        config: arguments of the backbone, where the file has none.
        grid_size: metres of the cells it was trained on, likewise.
        backbone: for a head, the name of the backbone it was trained on.
        scores: benchmark -> percent.
        page: where to read about it.
        origin: "shipped", or the index that brought it.
    """

    name: str
    kind: str
    summary: str
    licence: str
    licence_url: str = ""
    hub: str | None = None
    revision: str | None = None
    files: tuple[str, ...] = ()
    url: str | None = None
    path: str | None = None
    sha256: str | None = None
    size: int | None = None
    config: Mapping[str, Any] | None = None
    grid_size: float | None = None
    backbone: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    page: str = ""
    origin: str = "shipped"

    @property
    def free(self) -> bool:
        """Whether the licence needs no confirmation."""
        return self.licence.lower() in PERMISSIVE

    @property
    def where(self) -> str:
        """The source in words."""
        if self.hub:
            return f"{self.hub}@{self.revision[:12] if self.revision else 'main (unpinned)'}"
        return self.url or str(self.path)

    def spellings(self) -> set[str]:
        """Everything this entry answers to: its name, and its files' names with and without their ending."""
        names = {self.name}
        for file in self.files:
            base = file.rsplit("/", 1)[-1]
            names |= {base.lower(), base.rsplit(".", 1)[0].lower()}
        return names

    def to_json(self) -> dict[str, Any]:
        """The entry as an index file has it."""
        content = asdict(self)
        source = {key: content.pop(key) for key in _SOURCE}
        content["source"] = {key: value for key, value in source.items() if value}
        return {key: value for key, value in content.items() if value not in (None, "", {})}


def parse_entry(content: Any, where: str, *, strict: bool = True) -> Entry:
    """An entry of an index file.

    Args:
        content: the JSON object; ``source`` must be absolute by now (no ``file``).
        where: named in errors.
        strict: insist on a SHA-256, as other people's entries must.

    Raises:
        CheckpointError: a field is missing, unknown or wrong.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{where}: an entry is {type(content).__name__}, not an object; see docs/zoo.md")
    name = content.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise CheckpointError(f"{where}: name {name!r} must be 2-80 lower-case letters, digits, '.', '_' or '-'")
    where = f"{where}: {name}"
    source = content.get("source")
    if not isinstance(source, Mapping):
        raise CheckpointError(f"{where}: has no source; give hub + files, url or file")
    known = {item.name for item in fields(Entry)} - set(_SOURCE)
    for part, names in ((content, {*known, "source"}), (source, _SOURCE)):
        for key in part:
            if key not in names:
                raise CheckpointError(f"{where}: unknown field {key!r}{did_you_mean(key, names)}")
    flat = {**{key: value for key, value in content.items() if key != "source"}, **source}
    files = flat.get("files") or []
    if not isinstance(files, list | tuple):
        raise CheckpointError(f"{where}: files {files!r} is not a list; give the spellings of the file's name")
    flat["files"] = tuple(files)
    flat["sha256"] = str(flat["sha256"]).lower() if flat.get("sha256") else None
    _check_fields(flat, where, strict)
    flat.setdefault("licence_url", LICENCE_URLS.get(flat["licence"].lower(), ""))
    return Entry(**flat)


def _check_fields(flat: Mapping[str, Any], where: str, strict: bool) -> None:
    if flat.get("kind") not in KINDS:
        raise CheckpointError(f"{where}: kind {flat.get('kind')!r} is not one of {', '.join(KINDS)}")
    for key in ("summary", "licence"):
        if not isinstance(flat.get(key), str) or not flat[key].strip():
            raise CheckpointError(f"{where}: {key} is missing; write it as text")
    if sum(bool(flat.get(key)) for key in ("hub", "url", "path")) != 1:
        raise CheckpointError(f"{where}: source must be one of hub + files, url, file")
    if flat.get("hub") and not (_HUB.fullmatch(str(flat["hub"])) and flat["files"]):
        raise CheckpointError(f"{where}: hub must be owner/name with files; got {flat['hub']!r}, {flat['files']}")
    if not all(isinstance(file, str) and _FILE.fullmatch(file) for file in flat["files"]):
        raise CheckpointError(f"{where}: files must be names inside the repository; got {list(flat['files'])}")
    if flat.get("url") and not re.match(r"https?://", str(flat["url"])):
        raise CheckpointError(f"{where}: url must begin with https://; got {flat['url']!r}")
    digest = flat["sha256"]
    if digest is None and strict:
        raise CheckpointError(f"{where}: sha256 is missing; `sha256sum FILE` prints it")
    if digest is not None and not _SHA256.fullmatch(digest):
        raise CheckpointError(f"{where}: sha256 {digest!r} is not 64 hexadecimal digits")
    texts = dict.fromkeys(("revision", "licence_url", "backbone", "page", "origin"), str)
    for key, kind in {"size": int, "grid_size": float, "config": Mapping, "scores": Mapping, **texts}.items():
        if flat.get(key) is not None and not isinstance(flat[key], kind):
            raise CheckpointError(f"{where}: {key} {flat[key]!r} is not a {_KIND_WORDS[kind]}")
    for name, value in (flat.get("scores") or {}).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CheckpointError(f"{where}: the score {name!r} is {value!r}; give a number in percent")
    shown = [flat.get(key) or "" for key in ("summary", "licence", "licence_url", "page")]
    if not "".join([*shown, *map(str, flat.get("scores") or {})]).isprintable():
        raise CheckpointError(f"{where}: its texts hold line breaks or control characters; write them in one line")


def parse_index(content: Any, where: str) -> list[Mapping[str, Any]]:
    """The raw entries of an index file.

    Raises:
        CheckpointError: it is no index, or has a name twice.
    """
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise CheckpointError(f'{where} is not a zoo index: it needs "format": "{FORMAT}"; see docs/zoo.md')
    entries = content.get("entries")
    if not isinstance(entries, list) or not entries:
        raise CheckpointError(f"{where} lists no entries")
    names = [str(entry.get("name")) for entry in entries if isinstance(entry, Mapping)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CheckpointError(f"{where} has {twice[0]} twice; names must differ")
    return entries


def find(name: str, known: Iterable[Entry]) -> Entry:
    """The entry of that name, or of a file of that name.

    Raises:
        CheckpointError: there is none; the message suggests others.
    """
    known = list(known)
    wanted = name.lower()
    for match in (lambda entry: entry.name == wanted, lambda entry: wanted in entry.spellings()):
        for entry in known:
            if match(entry):
                return entry
    raise CheckpointError(
        f"{name!r} is neither a file, a folder nor a name of the zoo{did_you_mean(name, [e.name for e in known])}; "
        "`lam3c zoo list` shows the names"
    )

"""A data set as a few large tar files with an index each, which pre-training reads where they lie.

``OUT/<split>/00000.tar`` is a plain tar of ``<scene>/<file>`` (``tar xf`` gives the folders back), ``00000.json``
beside it holds its ``size``, ``sha256`` and ``scenes``: name -> file -> [first byte, bytes]. A tar gets its name when
it is whole and its index after that; the index also keeps a mark of the files it was made from, so that a later call
writes only what is missing, damaged or of scenes that changed. New scenes go into tar files of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from data_tools.packaging.card import NO_SPLITS, write_card
from data_tools.stages.files import checksum, read_json, remove_leftovers, replacing, write_json, write_text
from data_tools.stages.record import StageError, StageRecord, text_hash
from data_tools.stages.run import run_items

FIRST = ("coord.npy", "color.npy", "normal.npy")  # side by side, for one read ahead
SUMS = "SHA256SUMS"
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BLOCK, CHUNK = tarfile.BLOCKSIZE, 1 << 20


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene folder as it lies there: its files' names, sizes and times of change, in the order of the tar."""

    name: str
    files: tuple[tuple[str, int, int], ...]

    @property
    def bytes(self) -> int:
        """What it takes in a tar, about."""
        return sum(BLOCK + -(-size // BLOCK) * BLOCK for _, size, _ in self.files)


@dataclass(frozen=True)
class Shard:
    """One tar file to be.

    Attributes:
        source: the split's folder, which holds the scenes.
    """

    source: Path
    tar: Path
    scenes: tuple[Scene, ...]

    @property
    def name(self) -> str:
        """``<split>/<number>``."""
        return f"{self.tar.parent.name}/{self.tar.stem}"

    @property
    def index(self) -> Path:
        """The file beside the tar."""
        return self.tar.with_suffix(".json")

    @property
    def mark(self) -> str:
        """Hash of the scenes' names and of their files' names, sizes and times."""
        return text_hash(*(f"{scene.name}\0{scene.files}" for scene in self.scenes))


def parse_size(text: str) -> int:
    """Bytes of "2GB", "500MB".

    Raises:
        ValueError: anything else; one line.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT]B)", text.strip().upper())
    if found is None or not float(found[1]):
        raise ValueError(f"--shards {text!r}: give a number and a unit, such as 2GB or 500MB")
    return int(float(found[1]) * UNITS[found[2]])


def list_scenes(folder: Path) -> dict[str, list[Scene]]:
    """The scenes of a data set by split, sorted by name; folders without coord.npy are passed over, with a note.

    Raises:
        ValueError: there are none.
        OSError: a folder cannot be read.
    """
    found: dict[str, list[Scene]] = {}
    others = 0
    for split in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if split.name.startswith(".") or split.name in NO_SPLITS or not split.is_dir():
            continue
        folders = (entry for entry in os.scandir(split.path) if not entry.name.startswith(".") and entry.is_dir())
        scenes = [_scene(entry) for entry in sorted(folders, key=lambda entry: entry.name)]
        whole = [scene for scene in scenes if any(name == FIRST[0] for name, _, _ in scene.files)]
        others += len(scenes) - len(whole) if whole else 0
        found |= {split.name: whole} if whole else {}
    if not found:
        raise ValueError(f"{folder}: holds no <split>/<scene>/coord.npy; give the data set's folder")
    if others:
        print(f"note: {others} folders without coord.npy are left out")
    return found


def _scene(folder: os.DirEntry[str]) -> Scene:
    entries = [entry for entry in os.scandir(folder.path) if not entry.name.startswith(".") and entry.is_file()]
    files = [(entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries]
    return Scene(folder.name, tuple(sorted(files, key=lambda file: (file[0] not in FIRST, file[0]))))


def plan_shards(source: Path, out: Path, scenes: Sequence[Scene], size: int) -> list[Shard]:
    """The tar files of a split: those that are there and still stand for their scenes, then new ones for the rest.

    ``size`` is the most bytes of a tar; a larger scene has one alone.
    """
    left = {scene.name: scene for scene in scenes}
    shards, taken = list[Shard](), set[str]()
    for path in sorted(out.glob("*.json")):
        index = read_index(path)
        names = index.get("scenes", ())
        shard = Shard(source, path.with_suffix(".tar"), tuple(left[name] for name in names if name in left))
        if names and len(shard.scenes) == len(names) and index.get("mark") == shard.mark:
            shards.append(shard)
            left = {name: scene for name, scene in left.items() if name not in names}
        if names:  # nor the name of one that goes at the end: a training may be reading it by its index
            taken.add(shard.tar.name)
    free = (name for name in (f"{number:05d}.tar" for number in range(10**5)) if name not in taken)
    shards += [Shard(source, out / next(free), tuple(group)) for group in _groups(list(left.values()), size)]
    return sorted(shards, key=lambda shard: shard.tar.name)


def check_others(out: Path, folder: Path, splits: Mapping[str, Sequence[Scene]]) -> None:
    """See that no tar file in ``out`` would go whose scenes are all of another data set, or no longer anywhere else.

    Raises:
        ValueError: one would; one line.
    """
    for path in sorted(out.glob("*/*.json")):
        names = read_index(path).get("scenes", ())
        if names and not {scene.name for scene in splits.get(path.parent.name, ())}.intersection(names):
            raise ValueError(
                f"{path.with_suffix('.tar')}: {folder} has none of its {len(names)} scenes; "
                "give another --out, or delete it and its .json if they are to go"
            )


def _groups(scenes: Sequence[Scene], size: int) -> Iterator[list[Scene]]:
    group, total = list[Scene](), 0
    for scene in scenes:
        if group and total + scene.bytes > size:
            yield group
            group, total = [], 0
        group.append(scene)
        total += scene.bytes
    if group:
        yield group


def read_index(path: Path) -> dict[str, Any]:
    """An index; empty where it is missing or damaged."""
    found = read_json(path, dict)
    return found if isinstance(found.get("scenes"), dict) else {}


class _Hashed:
    """A file that is written through a hash."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256, self.bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.sha256.update(data)
        self.bytes += len(data)


def write_shard(shard: Shard) -> StageRecord:
    """Write a tar file and its index, or find the one that is there whole (its checksum is taken).

    Raises:
        OSError: the output cannot be written; nothing half has the tar's name.
    """
    record = StageRecord("shards", shard.name)
    index = read_index(shard.index)
    if index.get("mark") == shard.mark and shard.tar.is_file() and checksum(shard.tar) == index.get("sha256"):
        record.skipped = True
        return record
    shard.index.unlink(missing_ok=True)  # so that no index ever stands beside another tar than its own
    places: dict[str, dict[str, list[int]]] = {}
    try:
        with replacing(shard.tar, durable=True) as temporary, temporary.open("wb") as file:
            out = _Hashed(file)
            for scene in shard.scenes:
                places[scene.name] = _add(out, shard.source / scene.name, scene)
            out.write(bytes(-out.bytes % tarfile.RECORDSIZE or tarfile.RECORDSIZE))  # two empty blocks end a tar
    except StageError as error:
        record.status, record.reason = "failed", str(error)
        return record
    facts = {"mark": shard.mark, "sha256": out.sha256.hexdigest(), "size": out.bytes, "scenes": places}
    write_text(shard.index, json.dumps(facts, ensure_ascii=False) + "\n")
    return record


def _add(out: _Hashed, folder: Path, scene: Scene) -> dict[str, list[int]]:
    """Add a scene's files; where each begins and how long it is."""
    places: dict[str, list[int]] = {}
    for name, size, _ in scene.files:
        info = tarfile.TarInfo(f"{scene.name}/{name}")
        info.size, info.mode = size, 0o644  # no times and owners: the same scenes give the same bytes
        out.write(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
        places[name] = [out.bytes, size]
        changed = StageError(f"{folder / name}: changed while it was read; start it again", permanent=False)
        try:
            with (folder / name).open("rb") as file:
                while data := file.read(CHUNK):
                    out.write(data)
        except FileNotFoundError:
            raise changed from None
        if out.bytes != sum(places[name]):
            raise changed
        out.write(bytes(-size % BLOCK))
    return places


def run_shards(
    folder: Path, out: Path, splits: Mapping[str, Sequence[Scene]], size: int, jobs: int = 1, license_note: str = ""
) -> list[StageRecord]:
    """A data set's scenes as tar files in another folder, with its lists of scenes, statistics, a card and checksums.

    ``splits`` are the scenes (`list_scenes`), ``size`` the most bytes of a tar, ``license_note`` goes into the card.

    Raises:
        OSError: the output cannot be written; what was whole stays.
    """
    shards: list[Shard] = []
    for split, scenes in splits.items():
        (out / split).mkdir(parents=True, exist_ok=True)
        remove_leftovers(out / split)
        shards += plan_shards(folder / split, out / split, scenes, size)
    records = run_items("shards", shards, write_shard, lambda shard: shard.name, jobs, "tar")
    if all(record.status == "done" for record in records):
        _finish(folder, out, shards, license_note)
    return records


def _finish(folder: Path, out: Path, shards: Sequence[Shard], license_note: str) -> None:
    """Take away tar files that nothing stands for any more; write what goes with the others."""
    wanted = {path for shard in shards for path in (shard.tar, shard.index)}
    splits = {shard.tar.parent for shard in shards}
    numbered = [path for split in splits for path in split.glob("[0-9]*.*") if path.suffix in (".tar", ".json")]
    for path in sorted(set(numbered) - wanted, key=lambda path: path.suffix):  # the index first
        path.unlink()
    for path in folder.glob("*.json"):
        entries = read_json(path, list)
        if entries and all(isinstance(entry, str) for entry in entries):  # a split as a list
            write_json(out / path.name, entries)
    write_card(folder, out, license_note)
    rows = [f"{read_index(shard.index)['sha256']}  {shard.name}.tar" for shard in shards]
    rows += [f"{checksum(shard.index)}  {shard.name}.json" for shard in shards]
    write_text(out / SUMS, "".join(f"{row}\n" for row in rows))

"""Many clouds: find them, name their scenes, run them in processes, keep the records."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from data_tools.clouds.io import CLOUD_SUFFIXES
from data_tools.packaging.clouds import PackageSettings, Record, fingerprint, package_cloud, path_id, scene_stem
from data_tools.stages.files import clean_partial, write_json
from data_tools.stages.run import in_processes
from data_tools.stages.scene_folder import read_meta, write_summary

FAILURES = "package_failures.json"
HIDDEN = (".", "~")


@dataclass(frozen=True)
class Job:
    """One cloud and where its scene goes."""

    path: Path
    split_dir: Path
    name: str


def find_clouds(paths: Sequence[Path], out: Path) -> list[Path]:
    """Cloud files and scene folders among and below the given paths, sorted, each once.

    A path that does not exist and a folder without clouds stay in the list: they are reported and the others go on.

    Raises:
        ValueError: no cloud anywhere, or a folder that is the output.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            found.setdefault(path.resolve(), path)
            continue
        if path.resolve() == out.resolve():
            raise ValueError(f"{path} is the output folder; give the folder with your clouds")
        inside = sorted(_walk(path, out.resolve()), key=str)
        for file in inside or [path]:
            found.setdefault(file.resolve(), file)
    if all(file in paths and file.is_dir() and not (file / "coord.npy").is_file() for file in found.values()):
        names = ", ".join(map(str, paths))
        raise ValueError(f"{names}: holds no cloud ({' '.join(CLOUD_SUFFIXES)}); check the folder")
    return sorted(found.values(), key=lambda p: str(p.resolve()))


def _walk(folder: Path, out: Path) -> Iterator[Path]:
    if (folder / "coord.npy").is_file():
        yield folder
        return
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(HIDDEN) or entry.resolve() == out:
            continue
        if entry.is_dir():
            yield from _walk(entry, out)
        elif entry.suffix.lower() in CLOUD_SUFFIXES:
            yield entry


def plan(paths: Sequence[Path], out: Path, split: str, val_share: float) -> list[Job]:
    """A scene name and a split for every cloud.

    The first of equal names (in the order of the paths) keeps it, the others get six digits of their path; so does a
    cloud whose name belongs to a scene of another cloud from an earlier run. The split depends on the name alone.
    """
    taken: dict[str, Path] = {}
    jobs: list[Job] = []
    for path in paths:
        name = scene_stem(path)
        split_dir = out / _split_of(name, split, val_share)
        if name.casefold() in taken or _belongs_to_other(split_dir / name, path):
            name = f"{name}-{path_id(path)}"
            split_dir = out / _split_of(name, split, val_share)
        taken[name.casefold()] = path
        jobs.append(Job(path, split_dir, name))
    return jobs


def _split_of(name: str, split: str, val_share: float) -> str:
    number = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64
    return "val" if number < val_share else split


def _belongs_to_other(folder: Path, path: Path) -> bool:
    """Whether a scene of that name is there that was made from another file (not a newer version of this one)."""
    meta = read_meta(folder)
    if meta is None:
        return False
    source = meta.get("source", {})
    if source.get("path_id") == path_id(path):
        return False
    try:
        return source.get("fingerprint") != fingerprint(path)
    except OSError:
        return True


def _work(job: Job, settings: PackageSettings, overwrite: bool, workers: int) -> Record:
    return package_cloud(job.path, job.split_dir, settings, job.name, overwrite, workers=workers)


def run_all(
    paths: Sequence[Path],
    out: Path,
    settings: PackageSettings,
    split: str = "train",
    val_share: float = 0.0,
    jobs: int = 1,
    overwrite: bool = False,
    license_note: str = "",
) -> list[Record]:
    """Package all clouds; failures go to ``out/package_failures.json``, statistics and card beside it.

    Returns:
        A record per cloud, in the order of ``paths``.

    Raises:
        OSError: the output cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    clean_partial(out)
    todo = plan(paths, out, split, val_share)
    records: dict[Job, Record] = {}
    try:
        for job, record in _bar(_records(todo, settings, overwrite, jobs), len(todo)):
            records[job] = record
            if record.status == "failed":
                print(f"failed: {record.reason}", file=sys.stderr)
    finally:
        _write_failures(out, list(records.values()))
    write_summary(out, license_note)
    return [records[job] for job in todo]


def _records(
    todo: Sequence[Job], settings: PackageSettings, overwrite: bool, jobs: int
) -> Iterator[tuple[Job, Record]]:
    workers = -1 if jobs <= 1 or len(todo) <= 1 else 1
    work = partial(_work, settings=settings, overwrite=overwrite, workers=workers)
    for index, record in in_processes(todo, work, _died, jobs):
        yield todo[index], record


def _died(job: Job) -> Record:
    reason = f"{job.path}: its process was killed, most likely for memory; thin it out first"
    return Record(str(job.path), job.name, "failed", reason)


def _bar(results: Iterator[tuple[Job, Record]], total: int) -> Iterator[tuple[Job, Record]]:
    from tqdm import tqdm

    return iter(tqdm(results, total=total, desc="package", unit="cloud"))


def _write_failures(out: Path, records: Sequence[Record]) -> None:
    """Keep what failed; a cloud that now went well leaves the list."""
    path = out / FAILURES
    known = {}
    if path.is_file():
        known = {row["source"]: row for row in (read_failures(path))}
    for record in records:
        known.pop(record.source, None)
        if record.status == "failed":
            known[record.source] = {"source": record.source, "scene": record.scene, "reason": record.reason}
    if known:
        write_json(path, sorted(known.values(), key=lambda row: row["source"]))
    else:
        path.unlink(missing_ok=True)


def read_failures(path: Path) -> list[dict[str, str]]:
    """The rows of a failures file; none if it is damaged."""
    import json

    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [row for row in rows if isinstance(row, dict) and "source" in row]


def print_table(records: Sequence[Record]) -> None:
    """What was found and done, a line per cloud, and a summary."""
    print(f"{'scene':32} {'state':8} {'points':>9}  {'size (m)':18} {'unit':9} {'up':20} notes")
    for record in records:
        row = asdict(record)
        size = " x ".join(f"{v:.2f}" for v in row["size"])
        notes = record.reason if record.status == "failed" else "; ".join(record.notes)
        points = f"{record.points:,}" if record.points else "-"
        print(f"{record.scene:32} {record.status:8} {points:>9}  {size:18} {record.unit:9} {record.up:20} {notes}")
    counts = {state: sum(r.status == state for r in records) for state in ("written", "skipped", "failed")}
    print(", ".join(f"{count} {state}" for state, count in counts.items()))

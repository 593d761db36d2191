"""Many clouds: find them, name their scenes, run them in processes, keep the records."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data_tools.clouds.find import clouds_of
from data_tools.clouds.io import CLOUD_SUFFIXES
from data_tools.packaging.card import write_summary
from data_tools.packaging.clouds import PackageSettings, fingerprint, package_cloud, path_id, scene_stem
from data_tools.stages.files import clean_partial, read_json, write_json
from data_tools.stages.record import StageRecord
from data_tools.stages.run import print_records, run_items
from data_tools.stages.scene_folder import read_meta
from data_tools.stages.splits import split_of, video_of, written_splits

FAILURES = "package_failures.json"


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
        ValueError: no cloud anywhere, a folder that is the output, or one of reconstructions.
    """
    if out.resolve() in {path.resolve() for path in paths}:
        raise ValueError(f"{out} is the output folder; give the folder with your clouds")
    inside = clouds_of(paths, out)
    if all(path.is_dir() and not found for path, found in inside.items()):
        names = ", ".join(map(str, paths))
        raise ValueError(f"{names}: holds no cloud ({' '.join(CLOUD_SUFFIXES)}); check the folder")
    for path, found in inside.items():
        for file in found:
            if path != file and file.name == "cloud.ply" and (file.parent / "cameras.npz").is_file():
                raise ValueError(
                    f"{file.parent} is a reconstruction, whose scale is not known: `python data_tools/postprocess.py "
                    f"{path} --out OUT` makes scenes of it (or give {file} by name)"
                )
    listed = [file for path, found in inside.items() for file in found or [path]]
    by_place = {os.path.realpath(file): file for file in reversed(listed)}  # which bears links to themselves
    return [file for _, file in sorted(by_place.items())]


def plan(paths: Sequence[Path], out: Path, split: str, val_share: float) -> list[Job]:
    """A scene name and a split for every cloud.

    The first of equal names (in the order of the paths) keeps it, the others get six digits of their path; so does a
    cloud whose name belongs to a scene of another cloud from an earlier run. For splits see `data_tools.stages.splits`.
    """
    taken: dict[str, Path] = {}
    jobs: list[Job] = []
    for path in paths:
        name = scene_stem(path)
        where = None if name.casefold() in taken else _split_for(name, path, out, split, val_share)
        if where is None:
            name = f"{name}-{path_id(path)}"
            where = _split_for(name, path, out, split, val_share) or split
        taken[name.casefold()] = path
        jobs.append(Job(path, out / where, name))
    return jobs


def _split_for(name: str, path: Path, out: Path, split: str, val_share: float) -> str | None:
    """The split of a scene of that name; None where it would take another cloud's place."""
    written = written_splits(out, name)
    ours = [there for there in written if not _belongs_to_other(out / there / name, path)]
    if ours:
        return ours[0]
    new = split_of(video_of(path) or name, split, val_share)
    return None if new in written else new


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


def _work(job: Job, settings: PackageSettings, overwrite: bool, workers: int) -> StageRecord:
    return package_cloud(job.path, job.split_dir, settings, job.name, overwrite, workers)


def run_all(
    paths: Sequence[Path],
    out: Path,
    settings: PackageSettings,
    split: str = "train",
    val_share: float = 0.0,
    jobs: int = 1,
    overwrite: bool = False,
    license_note: str = "",
) -> list[StageRecord]:
    """Package all clouds; failures go to ``out/package_failures.json``, statistics and card beside it.

    Returns:
        A record per cloud, in the order of ``paths``.

    Raises:
        OSError: the output cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    clean_partial(out)
    todo = plan(paths, out, split, val_share)
    workers = -1 if jobs <= 1 or len(todo) <= 1 else 1
    work = partial(_work, settings=settings, overwrite=overwrite, workers=workers)
    records = run_items("package", todo, work, lambda job: job.name, jobs, "cloud")
    _write_failures(out, todo, records)
    write_summary(out, license_note)
    return records


def _write_failures(out: Path, jobs: Sequence[Job], records: Sequence[StageRecord]) -> None:
    """Keep what failed; a cloud that now went well leaves the list."""
    path = out / FAILURES
    known = {row["source"]: row for row in read_failures(path)}
    for job, record in zip(jobs, records, strict=True):
        known.pop(str(job.path), None)
        if record.status == "failed":
            known[str(job.path)] = {"source": str(job.path), "scene": record.item, "reason": record.reason}
    if known:
        write_json(path, sorted(known.values(), key=lambda row: row["source"]))
    else:
        path.unlink(missing_ok=True)


def read_failures(path: Path) -> list[dict[str, str]]:
    """The rows of a failures file; none if it is damaged."""
    return [row for row in read_json(path, list) if isinstance(row, dict) and "source" in row]


def print_table(records: Sequence[StageRecord]) -> int:
    """What became of each cloud, a line a cloud; what was found and done, a line a kind of note; and a summary."""
    print(f"{'scene':32} {'state':9} {'points':>9}  {'size (m)':18} {'unit':9} {'up':20}")
    for record in records:
        row = {"points": 0, "size": [], "unit": "", "up": "", **record.result}
        size = " x ".join(f"{v:.2f}" for v in row["size"])
        notes = record.reason if record.status == "failed" else ""
        points = f"{row['points']:,}" if row["points"] else "-"
        state = "as before" if record.skipped else record.status
        print(f"{record.item:32} {state:9} {points:>9}  {size:18} {row['unit']:9} {row['up']:20} {notes}")
    return print_records(records, "cloud")

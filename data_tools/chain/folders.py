"""What the folders say: marks, records, scenes; giving an attempt its place, taking folders away."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from data_tools.chain.items import SCENE_NAME, SCENE_STAGES, STAGES, Outcome, Places, folders_in, names_in
from data_tools.chain.journal import Journal, Row
from data_tools.stages.files import PARTIAL, remove_leftovers, replacing_folder, take_place
from data_tools.stages.record import RECORD, StageRecord, read_record, write_record

GONE = "~gone"
ALL = "all"  # the name of a run over everything


def mark_of(folder: Path) -> str:
    """Size and time of a folder's record; empty where there is none."""
    try:
        stat = os.stat(f"{folder}/{RECORD}")
    except OSError:
        return ""
    return f"{stat.st_size}:{stat.st_mtime_ns}"


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a result of the chain, and not the record of a failure."""
    record = read_record(folder)
    return record is not None and record.status == "done"


def row_of_record(record: StageRecord, name: str, video: str, mark: str) -> Row:
    """A row of the log of a stage's record."""
    return Row(record.stage, name, video, record.status, record.reason, record.permanent, record.key, mark)


def publish(outcome: Outcome, places: Places) -> Path:
    """Give an attempt's folder its final place; a record that was current as it is gets the call's key.

    Only the process that plans does this, with the one outcome it accepted: an attempt that was given up and lives on
    on a lost node can write into its own folder only. A failure never takes the place of a finished result.

    Returns:
        The folder whose record says what came of the call.

    Raises:
        OSError: the disk is full or not writable.
    """
    call, record = outcome.call, outcome.record
    final, refused = call.folder, places.refused(call.stage, call.name)
    if record is None:
        return refused  # killed: what it left goes with the run's attempts
    is_done = record.status == "done"
    if record.skipped:
        if final.is_dir():
            write_record(final, record)
    elif call.attempts is not None and outcome.folder.is_dir():
        if is_done or refused != final:
            _settle(outcome.folder, final, refused, record)
        elif record.status == "rejected" or not is_finished(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            take_place(outcome.folder, final, outcome.folder.with_name(f"{final.name}~old"))
    if call.attempts is not None:
        shutil.rmtree(call.attempts / outcome.folder.parent.parent.name, ignore_errors=True)
    return final if is_done else refused


def _settle(folder: Path, final: Path, refused: Path, record: StageRecord) -> None:
    """A result to its place, or the record of another end to the place of those; a result makes the latter obsolete."""
    if record.status == "done":
        final.parent.mkdir(parents=True, exist_ok=True)
        take_place(folder, final, folder.with_name(f"{final.name}~old"))
        if refused != final and refused.is_dir():
            remove_folder(refused)
    else:
        with replacing_folder(refused, refused.parent) as partial:
            write_record(partial, record)


def clear_attempts(places: Places, run: str) -> None:
    """Remove what an earlier, killed run left.

    Args:
        places: the folders.
        run: the run's name; attempts of other shards stay, and, but for `ALL`, folders that are empty.
    """
    for root in {places.work, places.out}:
        shutil.rmtree(root / ".attempts" / run, ignore_errors=True)
    remove_leftovers(places.out)
    remove_leftovers(places.work)
    for area in (area for stage in SCENE_STAGES for area in places.areas(stage)):
        for scrap in area.glob(f".*{GONE}"):
            shutil.rmtree(scrap, ignore_errors=True)
    if run != ALL:
        return  # another shard may be about to put its first item into an empty folder
    empty = [root / name for root in (places.work, places.out) for name in (".attempts", PARTIAL)]
    for area in [*empty, *(places.refused(stage, "") for stage in SCENE_STAGES)]:
        with suppress(OSError):  # not there, or not empty
            area.rmdir()


def discard(scene: str, places: Places, names: Sequence[str]) -> None:
    """Throw away files and folders of a scene's reconstruction that nobody needs; record and cameras stay."""
    for path in (places.folder("reconstruct", scene) / name for name in names):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def list_scenes(places: Places) -> dict[str, set[str]]:
    """Names of the scenes that have a folder, by video."""
    found: dict[str, set[str]] = {}
    for area in (area for stage in SCENE_STAGES for area in places.areas(stage)):
        for match in filter(None, map(SCENE_NAME.match, names_in(area))):
            found.setdefault(match["video"], set()).add(match[0])
    return found


def list_splits(places: Places) -> dict[str, str]:
    """The split that holds a video's scenes, by video."""
    found: dict[str, str] = {}
    for split in places.splits():
        for match in filter(None, map(SCENE_NAME.match, names_in(split))):
            found.setdefault(match["video"], split.name)
    return found


def scene_folders(places: Places, stage: str, scene: str) -> list[Path]:
    """A scene's folders that the chain made in a stage (a person may keep other scenes beside them in OUT)."""
    folders = [area / scene for area in places.areas(stage)]
    return [folder for folder in folders if folder.is_dir() and read_record(folder) is not None]


def remove_folder(folder: Path) -> None:
    """Take a folder away as a whole: no half of it is seen under its name."""
    aside = folder.parent / f".{folder.name}{GONE}"
    try:
        folder.replace(aside)
    except OSError:
        aside = folder
    shutil.rmtree(aside, ignore_errors=True)


def all_rows(places: Places, journal: Journal) -> list[Row]:
    """The state of every item: what the logs say while its record is the one they mean, else the record."""
    rows: list[Row] = []
    for stage in STAGES:
        held: dict[str, list[Path]] = {}
        for folder in (folder for area in places.areas(stage) for folder in folders_in(area)):
            held.setdefault(folder.name, []).append(folder)
        for name in sorted(held.keys() | {name for kind, name in journal.rows if kind == stage}):
            row, folders = journal.get(stage, name), held.get(name, [])
            if row is None or not is_believed(row, folders[0] if folders else None, places):
                row = next(filter(None, (row_of_folder(folder, stage) for folder in folders)), None)
            if row is not None:
                rows.append(row)
    return rows


def is_believed(row: Row, final: Path | None, places: Places) -> bool:
    """Whether an item's record is the one that a row was written for; a failure may have left none."""
    place = final if row.status == "done" else places.refused(row.stage, row.name)
    mark = mark_of(place) if place is not None else ""
    return row.mark == mark and (bool(mark) or row.status == "failed")


def row_of_folder(folder: Path, stage: str) -> Row | None:
    """The row that a folder's record stands for, or None where the stage left none in it."""
    mark = mark_of(folder)
    record = read_record(folder) if mark else None
    if record is None or record.stage != stage:
        return None
    match = SCENE_NAME.match(folder.name) if stage in SCENE_STAGES else None
    return row_of_record(record, folder.name, match["video"] if match else folder.name, mark)

"""What the folders say: keys, marks, records; publishing an attempt, rebuilding the table."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from data_tools.chain.items import CHAIN_MARK, SCENE_NAME, STAGES, Outcome, Places, mark_file
from data_tools.chain.states import Row
from data_tools.stages.files import PARTIAL, remove_leftovers, take_place, write_json
from data_tools.stages.record import StageRecord, read_record
from data_tools.stages.scene_folder import read_meta

GONE = "~gone"
NO_SPLITS = ("report", "_work")


def mark_of(folder: Path, stage: str) -> str:
    """Size and time of a folder's record; empty where there is none."""
    try:
        stat = os.stat(folder / mark_file(stage))
    except OSError:
        return ""
    return f"{stat.st_size}:{stat.st_mtime_ns}"


def has_files(folder: Path, stage: str) -> bool:
    """Whether what the next stage needs lies in the folder."""
    return all((folder / name).is_file() for name in STAGES[stage].needs)


def _read_json(path: Path) -> dict[str, Any]:
    import json

    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def row_of_folder(folder: Path, stage: str, video: str, scene: str) -> Row | None:
    """The row that a finished folder stands for, or None where there is no record in it."""
    mark = mark_of(folder, stage)
    if not mark:
        return None
    if stage == "package":
        meta = read_meta(folder)
        if meta is None or not all((folder / f"{name}.npy").is_file() for name in meta.get("arrays", ["coord"])):
            return None
        digest = str(meta.get("settings_hash", ""))
        return Row(video, scene, stage, "done", key=str(meta.get("chain_key", "")), mark=mark, settings_hash=digest)
    record = read_record(folder)
    if record is None:
        return None
    key = str(_read_json(folder / CHAIN_MARK).get("key", ""))
    return row_of_record(record, video, scene, key, mark)


def row_of_record(record: StageRecord, video: str, scene: str, key: str, mark: str) -> Row:
    """A table row of a stage's record."""
    return Row(
        video,
        scene,
        record.stage,
        record.status,
        record.reason,
        record.permanent,
        key=key,
        mark=mark,
        settings_hash=record.settings_hash,
        input_hash=record.input_hash,
    )


def publish(outcome: Outcome) -> None:
    """Give an attempt's folder its final name, or mark the one that turned out to be current.

    Only the process that plans does this, with the one outcome it accepted: an attempt that was given up and lives on
    on a lost node can write into its own folder only. A failure never takes the place of a finished result.

    Raises:
        OSError: the disk is full or not writable.
    """
    call, record = outcome.call, outcome.record
    if record is None:
        return  # killed: what it left goes with the run's attempts
    final, has_mark = call.folder, bool(STAGES[call.stage].area)
    keeps = record.status == "failed" and (not has_mark or is_finished(final, call.stage))
    if call.attempts is None or record.skipped:
        if has_mark and final.is_dir() and not keeps:
            _mark(final, call.key, outcome.folder if call.attempts is not None else final)
    elif outcome.folder.is_dir() and not keeps:
        if has_mark:
            _mark(outcome.folder, call.key, outcome.folder)
        final.parent.mkdir(parents=True, exist_ok=True)
        take_place(outcome.folder, final, outcome.folder.with_name(f"{final.name}~old"))
    if call.attempts is not None:
        shutil.rmtree(call.attempts / outcome.folder.parent.parent.name, ignore_errors=True)


def is_finished(folder: Path, stage: str) -> bool:
    """Whether a folder holds a result, and not the record of a failure."""
    row = row_of_folder(folder, stage, "", "")
    return row is not None and row.status == "done"


def _mark(folder: Path, key: str, area: Path) -> None:
    """Write a folder's key; it is built in ``area``, so that a kill leaves no scrap beside finished files."""
    area.mkdir(parents=True, exist_ok=True)
    write_json(area / CHAIN_MARK, {"key": key})
    if area != folder:
        os.replace(area / CHAIN_MARK, folder / CHAIN_MARK)


def clear_attempts(places: Places, run: str) -> None:
    """Remove what an earlier, killed run left.

    Args:
        places: the folders.
        run: the run's name; attempts of other shards stay.
    """
    for root in {places.work, places.out}:
        shutil.rmtree(root / ".attempts" / run, ignore_errors=True)
        for area in (root / ".attempts", root / PARTIAL):
            with suppress(OSError):  # not there, or another shard's
                area.rmdir()
    remove_leftovers(places.out)
    for area in chain.from_iterable(_scene_areas(places).values()):
        for scrap in area.glob(f".*{GONE}"):
            shutil.rmtree(scrap, ignore_errors=True)


def discard(scene: str, places: Places) -> None:
    """Throw away the heavy files of a finished scene; records, cameras and pictures stay."""
    for name in ("reconstruct", "postprocess"):
        for file in STAGES[name].needs:
            (places.folder(name, scene) / file).unlink(missing_ok=True)


def list_scenes(places: Places) -> dict[str, list[tuple[str, Path]]]:
    """Folders of scenes that the chain made, by video: (stage, folder)."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for stage, areas in _scene_areas(places).items():
        for folder in (folder for area in areas for folder in _folders(area)):
            match = SCENE_NAME.match(folder.name)
            if match:
                found.setdefault(match["video"], []).append((stage, folder))
    return found


def _scene_areas(places: Places) -> dict[str, list[Path]]:
    """Folders that hold a folder per scene, by stage."""
    splits = [area for area in _folders(places.out) if area != places.work and area.name not in NO_SPLITS]
    areas = {stage: [places.work / STAGES[stage].area] for stage in ("reconstruct", "postprocess")}
    return {**areas, "package": splits}


def _folders(area: Path) -> list[Path]:
    try:
        with os.scandir(area) as entries:
            return sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []


def is_ours(stage: str, folder: Path) -> bool:
    """Whether the chain made a folder (a person may keep other scenes beside it in OUT)."""
    return stage != "package" or "chain_key" in (read_meta(folder) or {})


def remove_folder(folder: Path) -> None:
    """Take a folder away as a whole: no half of it is seen under its name."""
    aside = folder.parent / f".{folder.name}{GONE}"
    try:
        folder.replace(aside)
    except OSError:
        aside = folder
    shutil.rmtree(aside, ignore_errors=True)


def rebuild_rows(places: Places) -> list[Row]:
    """All rows that the folders stand for."""
    rows: list[Row | None] = []
    for stage in ("collect", "segment"):
        for folder in _folders(places.work / STAGES[stage].area):
            rows.append(row_of_folder(folder, stage, folder.name, ""))
    for video, folders in list_scenes(places).items():
        for stage, folder in folders:
            if is_ours(stage, folder):
                rows.append(row_of_folder(folder, stage, video, folder.name))
    return [row for row in rows if row is not None]

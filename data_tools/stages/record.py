"""What all stages of the video chain share: one item, one folder, one record.

A stage turns an item (a video, a scene) into a folder. The folder is built under a temporary name and renamed, with
``record.json`` inside: it is whole or it is not there, whenever the process is killed. What failed or was rejected
leaves a folder that holds the record alone, with the reason. Records carry no time stamps, so that the same input and
settings give the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from data_tools.stages.files import clean_partial, replacing_folder, write_json

RECORD = "record.json"
STATES = ("done", "rejected", "failed")
DISK = "disk"  # ``result["failure"]`` of what met a full disk: it says nothing of the item
FULL_ERRNO = (errno.ENOSPC, errno.EDQUOT)
PASSING_ERRNO = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EIO)


class StageError(Exception):
    """An item that cannot be done; the message is one line that names the file and the cure.

    Args:
        reason: the line.
        permanent: whether trying again with the same input would fail again (a truncated file), or may go well
            (a full disk, a network that is down).
    """

    def __init__(self, reason: str, permanent: bool = True) -> None:
        super().__init__(reason)
        self.permanent = permanent


class _KeptError(Exception):
    """A failure that leaves the earlier result as it is."""


class RejectedError(StageError):
    """An item that is readable but not wanted (no room in the video, quality too low)."""


@dataclass
class StageRecord:
    """What a stage did with one item.

    Attributes:
        stage: "collect", "segment", "reconstruct", "postprocess", "package".
        status: "done", "rejected" (readable, not wanted), "failed".
        reason: why not, one line; empty when done.
        permanent: whether another try would fail the same way.
        settings_hash: of the settings that touch the result.
        input_hash: of what the item was made from.
        result: figures and facts of the stage, JSON types only, no time stamps.
        notes: what was found and done, in words.
        key: what the chain made the folder from (`data_tools.chain.plan`); empty where a stage's script ran alone.
        skipped: whether the record was there already (never stored).
    """

    stage: str
    item: str
    status: str = "done"
    reason: str = ""
    permanent: bool = False
    settings_hash: str = ""
    input_hash: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    key: str = ""
    skipped: bool = False


def text_hash(*parts: object) -> str:
    """16 hexadecimal digits of any texts, numbers and paths, for ``input_hash``."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).hexdigest()


def tool_versions(names: Sequence[str]) -> dict[str, str]:
    """Installed versions of the packages a stage used; those that are not there are left out."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def read_record(folder: Path) -> StageRecord | None:
    """The record in a stage folder, or None where it is missing or damaged."""
    try:
        return StageRecord(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def is_current(record: StageRecord | None, settings_hash: str, input_hash: str) -> bool:
    """Whether a record stands for these settings and this input and need not be made again."""
    if record is None or record.settings_hash != settings_hash or record.input_hash != input_hash:
        return False
    return record.status == "done" or record.permanent


def run_stage(
    stage: str,
    folder: Path,
    settings_hash: str,
    input_hash: str,
    work: Callable[[Path, StageRecord], None],
    overwrite: bool = False,
    refused: Path | None = None,
) -> StageRecord:
    """Make one item's folder, or skip it when it is there with these settings and this input.

    Args:
        stage: the stage's name.
        folder: the item's folder; its parent is the stage's.
        settings_hash: of the settings that touch the result.
        input_hash: of what the item is made from.
        work: fills a temporary folder and the record's ``result`` and ``notes``; raises ``StageError`` or
            ``RejectedError`` for what it cannot or will not do.
        overwrite: make it again.
        refused: takes the record of what is rejected or failed, where ``folder`` may hold results only; it is on the
            same disk.

    Returns:
        The record; ``status`` tells whether it went well. Nothing is raised for a bad item. A failure leaves a
        finished folder, made with other settings or of another input, as it is; so does a rejection with ``refused``.

    Raises:
        KeyboardInterrupt, MemoryError: as they come; nothing is left under the item's name that was not there.
    """
    before = read_record(folder)
    for known in (before, read_record(refused) if refused is not None else None):
        if not overwrite and known is not None and is_current(known, settings_hash, input_hash):
            known.skipped = True
            return known
    record = StageRecord(stage, folder.name, settings_hash=settings_hash, input_hash=input_hash)
    root = folder.parent if refused is None else folder.parent.parent
    try:
        with replacing_folder(folder, root) as partial:
            try:
                work(partial, record)
                write_record(partial, record)
            except (StageError, OSError) as error:
                _refuse(partial, record, error)
                if refused is not None or (
                    record.status == "failed" and before is not None and before.status == "done"
                ):
                    raise _KeptError from error
        if refused is not None:
            shutil.rmtree(refused, ignore_errors=True)
    except _KeptError:
        if before is not None and before.status == "done":
            record.reason += "; the earlier result stays"
        if refused is not None:
            _write_refusal(refused, record)
    except OSError as error:  # the record itself cannot be written: report it, leave what was there
        _describe(record, error)
    finally:
        clean_partial(root)
    return record


def _write_refusal(folder: Path, record: StageRecord) -> None:
    try:
        with replacing_folder(folder, folder.parent) as partial:
            write_record(partial, record)
    except OSError as error:
        _describe(record, error)


def write_record(folder: Path, record: StageRecord) -> None:
    """Write a folder's record.

    Raises:
        OSError: the disk is full or not writable.
    """
    values = asdict(record)
    values.pop("skipped")
    write_json(folder / RECORD, values)


def _describe(record: StageRecord, error: Exception) -> None:
    record.status = "rejected" if isinstance(error, RejectedError) else "failed"
    record.permanent = error.permanent if isinstance(error, StageError) else False
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, OSError) and error.errno in PASSING_ERRNO:
        text = f"{error.strerror}: free space or limits on the disk, then start it again"
        if error.errno in FULL_ERRNO:
            record.result = {"failure": DISK}
    record.reason = text


def _refuse(partial: Path, record: StageRecord, error: Exception) -> None:
    """Only the record stays of what failed; a full disk may have room for no more than that."""
    for entry in partial.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    _describe(record, error)
    write_record(partial, record)

"""Channels: the review file in which a person decides whose videos are wanted."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data_tools.stages.files import replacing

ALLOW, DENY, OPEN = "allow", "deny", ""
SPELLINGS = {
    **dict.fromkeys(("allow", "allowed", "yes", "y", "keep", "ok", "1", "true", "+"), ALLOW),
    **dict.fromkeys(("deny", "denied", "no", "n", "drop", "reject", "0", "false", "x"), DENY),
    **dict.fromkeys(("", "?", "open"), OPEN),
}
COUNTED = ("channel_id", "channel", "videos", "kept", "hours", "reasons", "sample_titles", "sample_urls")
COLUMNS = ("channel_id", "channel", "decision", "note", *COUNTED[2:])
SAMPLES = 5
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a stranger's title that starts so is shown by a spreadsheet, not run


def channel_key(entry: dict[str, Any]) -> str:
    """What a channel is known by: its id, else its handle, else its name."""
    return str(
        entry.get("channel_id") or entry.get("uploader_id") or entry.get("channel") or entry.get("uploader") or ""
    )


def channel_reason(entry: dict[str, Any], decisions: Mapping[str, str], only_allowed: bool) -> str:
    """Why a video of this channel is not wanted, or ""."""
    decision = decisions.get(channel_key(entry).casefold(), OPEN)
    if decision == DENY:
        return "channel: denied"
    return "channel: not allowed yet" if only_allowed and decision != ALLOW else ""


def read_review(path: Path) -> dict[str, dict[str, str]]:
    """Rows of a review file by channel, as the person left them (comma, semicolon or tab; extra columns stay).

    Raises:
        ValueError: no channel_id or decision column, or a decision that is none; names file and line.
    """
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as handle:
        first = handle.readline()
        handle.seek(0)
        reader = csv.DictReader(handle, delimiter=max("\t;,", key=first.count))
        names = [str(name).strip().lower() for name in reader.fieldnames or []]
        if "channel_id" not in names or "decision" not in names:
            raise ValueError(f"{path}: no channel_id and decision columns; delete it to have a new one written")
        reader.fieldnames = names
        rows = {}
        for row in reader:
            text = _unguard(row.get("decision") or "").strip().lower()
            if text not in SPELLINGS:
                raise ValueError(f"{path}:{reader.line_num}: decision {text!r}; write allow, deny or nothing")
            kept = {name: _unguard(value or "") for name, value in row.items() if name}
            rows[kept["channel_id"]] = {**kept, "decision": SPELLINGS[text]}
    return rows


def decisions_of(rows: dict[str, dict[str, str]]) -> dict[str, str]:
    """The decided ones of a review file, by channel in small letters."""
    return {key.casefold(): row["decision"] for key, row in rows.items() if row["decision"]}


def count_channels(verdicts: Iterable[tuple[dict[str, Any], str]]) -> dict[str, dict[str, str]]:
    """Counts and samples by channel, of (entry, reason why it is not wanted, or "")."""
    groups: dict[str, list[tuple[dict[str, Any], str]]] = {}
    for entry, reason in verdicts:
        groups.setdefault(channel_key(entry), []).append((entry, reason))
    rows = {}
    for key, group in groups.items():
        entries = [entry for entry, reason in group if not reason] or [entry for entry, _ in group]
        reasons = sorted({reason.split(":")[0] for _, reason in group if reason})
        rows[key] = {
            "channel_id": key,
            "channel": str(group[0][0].get("channel") or group[0][0].get("uploader") or ""),
            "videos": str(len(group)),
            "kept": str(sum(not reason for _, reason in group)),
            "hours": f"{sum(float(entry.get('duration') or 0) for entry, _ in group) / 3600:.1f}",
            "reasons": ", ".join(reasons),
            "sample_titles": " | ".join(str(entry.get("title") or "") for entry in entries[:SAMPLES]),
            "sample_urls": " ".join(str(entry.get("url") or "") for entry in entries[:SAMPLES]),
        }
    return rows


def write_review(path: Path, counted: dict[str, dict[str, str]], before: dict[str, dict[str, str]]) -> None:
    """Write the review file: fresh counts, the person's decisions, notes and own columns as they were.

    It has a byte-order mark, so that spreadsheets read it as UTF-8. Channels that were not found this time stay.
    """
    rows = {key: {**before.get(key, {}), **counted.get(key, {})} for key in (*before, *counted)}
    own = [name for row in before.values() for name in row if name not in COLUMNS]
    columns = [*COLUMNS, *dict.fromkeys(own)]
    order = sorted(rows.values(), key=lambda row: (-int(row.get("videos") or 0), row["channel_id"]))
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8-sig") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        for cells in ([row.get(name, "") for name in columns] for row in order):
            writer.writerow([f"'{cell}" if cell.startswith(FORMULA) else cell for cell in cells])


def _unguard(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(FORMULA) else cell

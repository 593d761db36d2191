"""The forms that lists of videos come in, each read into rows: a source, or why the row names none."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.collection.sources import (
    VIDEO_SUFFIXES,
    YOUTUBE_ID,
    SourceError,
    VideoSource,
    source_from_id,
    source_from_path,
    source_from_url,
)

ID_NAMES = ("video_id", "videoid", "youtube_id", "youtubeid", "yt_id", "ytid", "vid", "id")
URL_NAMES = ("url", "video_url", "youtube_url", "youtube_link", "video_link", "link", "webpage_url", "href")
PATH_NAMES = ("path", "file", "filename", "video_path")
START_NAMES = ("start", "start_time", "start_sec", "start_seconds")
END_NAMES = ("end", "end_time", "end_sec", "end_seconds")
EITHER_NAMES = ("video", "youtube")
ALL_NAMES = frozenset((*ID_NAMES, *URL_NAMES, *PATH_NAMES, *START_NAMES, *END_NAMES, *EITHER_NAMES))
CAMERA_COLUMNS = 19  # time stamp, 4 intrinsics, 2 unused, 12 of the pose
MICROSECONDS = 1e6


@dataclass(frozen=True)
class Row:
    """A row of a list: where it stands, and its source or the reason why it has none."""

    place: str
    source: VideoSource | str


def row_from_fields(place: str, fields: dict[str, Any], root: Path) -> Row:
    """A row of named columns: an address wins over a file, a file over a bare id.

    Args:
        place: "FILE:LINE".
        fields: column name in any case to text.
        root: folder that relative file names start from.
    """
    values = {str(k).strip().lower(): "" if v is None else str(v).strip() for k, v in fields.items() if k is not None}
    identity, url, file = (_first(values, names) for names in (ID_NAMES, URL_NAMES, PATH_NAMES))
    either = _first(values, EITHER_NAMES)
    extra = {k: v for k, v in values.items() if v and k not in ALL_NAMES}
    try:
        ranges = _ranges(_first(values, START_NAMES), _first(values, END_NAMES))
        for text in (url, identity, either):
            if text.startswith(("http://", "https://")):
                return Row(
                    place, source_from_url(text, "" if text == identity else identity, ranges=ranges, extra=extra)
                )
        local = file or next((t for t in (url, either, identity) if t.lower().endswith(VIDEO_SUFFIXES)), "")
        if local:
            return Row(place, _local(root / local, "" if identity == local else identity, ranges, extra))
        if url:
            raise SourceError(f"{url!r} is no http(s) address")
        return Row(place, source_from_id(identity or either, ranges=ranges, extra=extra))
    except (SourceError, UnicodeError) as error:
        return Row(place, str(error))


def read_table(path: Path) -> list[Row]:
    """CSV or TSV, with or without a header line; unknown columns are kept in ``extra``."""
    first = next((line for line in _lines(path) if line.strip()), "")
    delimiter = max("\t;,", key=first.count)  # spreadsheets of half of Europe save with semicolons
    header: list[str] | None = None
    rows, is_first = [], True
    for line, cells in _table_cells(path, delimiter):
        cells = [cell.strip() for cell in cells]
        if not any(cells) or cells[0].startswith("#"):
            continue
        names = [cell.lower() for cell in cells]
        if is_first and any(name in ALL_NAMES for name in names):
            header, is_first = names, False
            continue
        is_first = False
        rows.append(row_from_fields(f"{path}:{line}", _columns(cells, header), path.parent))
    return rows


def _table_cells(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row of a table; quoted cells may go over several lines."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as handle:
        reader = csv.reader(handle, delimiter=delimiter)
        try:
            for cells in reader:
                yield reader.line_num, cells
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}; save the table again") from error


def _lines(path: Path) -> list[str]:
    """Lines without their ends; other signs that Unicode breaks lines at may stand in a title."""
    with path.open(encoding="utf-8-sig", errors="replace") as handle:
        return [line.rstrip("\n") for line in handle]


def _columns(cells: list[str], header: list[str] | None) -> dict[str, str]:
    if header is not None:
        return dict(zip(header, cells, strict=False))
    if len(cells) == 1:
        return {"video": cells[0]}
    urls = [cell for cell in cells if cell.startswith(("http://", "https://"))]
    others = [cell for cell in cells if cell not in urls]
    return {
        "video_id": others[0] if others else "",
        "url": urls[0] if urls else "" if YOUTUBE_ID.fullmatch(cells[0]) else cells[1],
    }


def read_text(path: Path) -> list[Row]:
    """A RealEstate10K camera file, or a list with an id, an address or a local video on each line."""
    if is_camera_file(path):
        return read_camera_file(path)
    stripped = [(number, line.strip()) for number, line in enumerate(_lines(path), 1)]
    wanted = [(number, line) for number, line in stripped if line and not line.startswith("#")]
    if any("," in line for _, line in wanted) and not any("/" in line.split(",")[0] for _, line in wanted):
        return read_table(path)
    return [row_from_fields(f"{path}:{number}", {"video": line}, path.parent) for number, line in wanted]


def read_json(path: Path) -> list[Row]:
    """JSON of texts or objects: a list, an id-to-address object, or an object that holds a list."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("its brackets nest too deeply") from error
    return [_json_row(f"{path}: entry {n}", item, path.parent) for n, item in enumerate(_json_items(value), 1)]


def read_json_lines(path: Path) -> list[Row]:
    """One JSON text or object a line."""
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            rows.append(_json_row(place, json.loads(line.decode("utf-8-sig")), path.parent))
        except (ValueError, RecursionError) as error:
            rows.append(Row(place, f"no JSON: {getattr(error, 'msg', error)}"))
    return rows


def read_array(path: Path) -> list[Row]:
    """YouTube House Tours' ``urls.npy``: an array of ids; nothing pickled is ever loaded."""
    import numpy as np

    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"not an array of texts ({error}); save the ids as text, one a line") from error
    if values.dtype.kind not in "US":
        raise ValueError(f"an array of {values.dtype}, not of texts")
    texts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values.ravel().tolist()]
    return [row_from_fields(f"{path}: entry {n}", {"video": text}, path.parent) for n, text in enumerate(texts, 1)]


def is_camera_file(path: Path) -> bool:
    """Whether a text file is RealEstate10K's: an address, then lines that begin with a time stamp and intrinsics."""
    with path.open(encoding="utf-8", errors="replace") as handle:
        first, second = handle.readline().strip(), handle.readline().split()
    return first.startswith(("http://", "https://")) and len(second) == CAMERA_COLUMNS and second[0].isdigit()


def read_camera_file(path: Path) -> list[Row]:
    """RealEstate10K: the first line is the video's address, each further line starts with microseconds."""
    lines = _lines(path)
    times = []
    for number, line in enumerate(lines[1:], 2):
        cells = line.split()
        if cells and not cells[0].isdigit():
            return [Row(f"{path}:{number}", f"{cells[0]!r} is no time stamp in microseconds")]
        times += [int(cells[0])] if cells else []
    ranges = ((min(times) / MICROSECONDS, max(times) / MICROSECONDS),) if times else ()
    try:
        return [Row(f"{path}:1", source_from_url(lines[0], ranges=ranges, extra={"clips": path.stem}))]
    except SourceError as error:
        return [Row(f"{path}:1", str(error))]


def _json_items(value: Any) -> Iterable[Any]:
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        raise ValueError("neither a list nor an object of videos")
    lists = [item for item in value.values() if isinstance(item, list) and item]
    if lists and not any(YOUTUBE_ID.fullmatch(str(key)) for key in value):
        return [entry for item in lists for entry in item]  # {"videos": [...]}, or {"train": [...], "val": [...]}
    urls = {k: {"url": v} for k, v in value.items() if isinstance(v, str) and v.startswith(("http://", "https://"))}
    facts = {key: item for key, item in value.items() if isinstance(item, dict)}
    return [{"video_id": key, **urls.get(key, facts.get(key, {}))} for key in value]


def _json_row(place: str, item: Any, root: Path) -> Row:
    if isinstance(item, (str, dict)):
        return row_from_fields(place, {"video": item} if isinstance(item, str) else item, root)
    return Row(place, f"{str(item)[:40]!r} is neither a text nor an object")


def _first(values: dict[str, str], names: tuple[str, ...]) -> str:
    return next((values[name] for name in names if values.get(name)), "")


def _ranges(start: str, end: str) -> tuple[tuple[float, float], ...]:
    if not start and not end:
        return ()
    try:
        found = float(start or 0), float(end)
    except ValueError as error:
        raise SourceError(f"range {start!r} to {end!r} is not in seconds") from error
    if not (math.isfinite(found[1]) and 0 <= found[0] < found[1]):
        raise SourceError(f"range {start} to {end} is empty")
    return (found,)


def _local(path: Path, name: str, ranges: tuple[tuple[float, float], ...], extra: dict[str, str]) -> VideoSource:
    try:
        exists = path.is_file()
    except (OSError, ValueError):  # too long a name, or one with a null character
        exists = False
    if not exists:
        raise SourceError(f"{str(path)[:200]!r}: no such video")
    return source_from_path(path, name, ranges=ranges, extra=extra)


FILE_READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".csv": read_table,
    ".tsv": read_table,
    ".txt": read_text,
    ".list": read_text,
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".npy": read_array,
}

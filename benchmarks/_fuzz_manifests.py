"""Lists of videos, mutated, through `data_tools.collection.manifest`; the judges are Python's csv and json."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks._fuzz import SAME, SILENT, Tally
from data_tools.collection.manifest import ManifestError, scan_manifest

MANIFESTS = ("manifest csv", "manifest tsv", "manifest txt", "manifest json", "manifest jsonl")
LETTERS = list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
TITLES = (
    "A house tour", "Haus, Küche", 'a "quoted" title', "two\nlines", "tab\there", "semi;colon", "日本の家", "a\u2028b",
    "a\x0bb", "", "'", "x" * 300, "\x85", "#1 of 3", "null", "NaN",
)  # fmt: skip
SIGNS = "\"',;\t\n\r\x00\x0b\x0c{}[]:\\#/&?=é\u2028\u0085\ufeff 09aZ"
ENDS = (b"\r\n", b"\r", b"\n\n")
LINES = (
    b'"', b'""', b"\\ud800", b"null", b"NaN", b"1e999", b"[" * 3000, b"{}", b"9" * 5000, b"x" * 200_000, b"../",
    b"a.mp4", b"https://", b"http://[", b"https://youtu.be/", b"\xff\xfe", b"\xef\xbb\xbf", b"\n\n", b"#",
    b"video_id", b".mp4,",
)  # fmt: skip


def make_manifest(folder: Path, kind: str, rng: np.random.Generator) -> tuple[Path, list[dict[str, str]]]:
    """A list of videos with faults, and the rows as they were before."""
    rows = [_row(rng) for _ in range(int(rng.integers(1, 12)))]
    form = kind.split()[1]
    path = folder / f"case.{form}"
    if form in ("csv", "tsv"):
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(rows[0]), delimiter="," if form == "csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    elif form == "txt":
        path.write_text("".join(f"{row['url']}\n" for row in rows), encoding="utf-8")
    elif form == "json":
        path.write_text(json.dumps(rows, ensure_ascii=bool(rng.random() < 0.5)), encoding="utf-8")
    else:
        escaped = bool(rng.random() < 0.5)
        path.write_text("".join(json.dumps(row, ensure_ascii=escaped) + "\n" for row in rows), encoding="utf-8")
    for _ in range(int(rng.choice([0, 1, 1, 2, 3]))):
        path.write_bytes(mutate(path.read_bytes(), rng))
    return path, rows


def _row(rng: np.random.Generator) -> dict[str, str]:
    name = "".join(rng.choice(LETTERS, 11))
    return {"video_id": name, "url": f"https://www.youtube.com/watch?v={name}", "title": str(rng.choice(TITLES))}


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One fault: what is odd within a line or between two, a line twice or gone, other line ends, some characters."""
    way, rows = int(rng.integers(0, 11)), data.split(b"\n")
    row, at = int(rng.integers(0, len(rows))), int(rng.integers(0, len(data) + 1))
    odd, rest = LINES[int(rng.integers(len(LINES)))], data[at + int(rng.integers(0, 2)) :]
    if way < 2:
        return data[:at] + odd + data[at:]
    if way < 5:
        return b"\n".join([*rows[:row], odd, *rows[row:]])
    if way == 5:
        return b"\n".join([*rows[:row], *rows[row : row + 1] * int(rng.choice([0, 2])), *rows[row + 1 :]])
    if way == 6:
        return data.replace(b"\n", ENDS[int(rng.integers(len(ENDS)))])
    if way == 7:
        return data[:at]
    if way == 8:
        return data[:at] + bytes(rng.integers(0, 256, 1).tolist()) + rest
    if way == 9:
        return data[:at] + data[at + int(rng.integers(1, 6)) :]
    return data[:at] + SIGNS[int(rng.integers(len(SIGNS)))].encode() + rest


# ------------------------------------------------------------------------------------------------------------- judging
def table_rows(path: Path) -> list[list[str]]:
    """Cells of every row that holds anything, as Python's csv has them; the header is one of them."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as handle:
        rows = [[cell.strip() for cell in row] for row in csv.reader(handle, delimiter=_delimiter(path))]
    return [row for row in rows if any(row) and not row[0].startswith("#")]


def _delimiter(path: Path) -> str:
    """The sign that the first line with text has most of, as a spreadsheet's import offers it."""
    with path.open(encoding="utf-8-sig", errors="replace") as handle:
        first = next((line for line in handle if line.strip()), "")
    return max("\t;,", key=first.count)


def text_rows(path: Path) -> list[list[str]]:
    """Lines with text, which are no comments."""
    with path.open(encoding="utf-8-sig", errors="replace") as handle:
        return [[line.strip()] for line in handle if line.strip() and not line.lstrip().startswith("#")]


def json_rows(path: Path) -> list[list[str]]:
    """The objects' values, as texts."""
    value = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(value, list):
        raise ValueError("not the kind that is made here")
    return [_cells(item) for item in value]


def json_line_rows(path: Path) -> list[list[str]]:
    """The objects' values line by line; a line that is no JSON is a row without any."""
    rows = []
    for line in path.read_bytes().replace(b"\r", b"\n").split(b"\n"):
        try:
            rows += [_cells(json.loads(line.decode("utf-8-sig")))] if line.strip() else []
        except (ValueError, RecursionError):
            rows.append([])
    return rows


def _cells(item: object) -> list[str]:
    return [str(value).strip() for value in item.values()] if isinstance(item, dict) else [str(item)]


JUDGES: dict[str, Callable[[Path], list[list[str]]]] = {
    "csv": table_rows,
    "tsv": table_rows,
    "txt": text_rows,
    "json": json_rows,
    "jsonl": json_line_rows,
}


def judge_manifest(path: Path, made: list[dict[str, str]], kind: str, tally: Tally, number: int) -> None:
    """Read one list with ours and Python's, and count the outcome."""
    label = f"case {number}"
    found = tally.attempt(kind, label, lambda: scan_manifest(path), ManifestError, [path.name])
    if found is None:
        return None
    try:
        rows = JUDGES[kind.split()[1]](path)
    except (ValueError, RecursionError, csv.Error) as error:
        return tally.add(kind, SILENT, f"{label}: {type(error).__name__} of the judge, {len(found.sources)} videos")
    whole = {row["video_id"] for row in made if [value.strip() for value in row.values()] in rows}
    whole |= {row["video_id"] for row in made if [row["url"]] in rows}
    names = {source.video_id for source in found.sources}
    told = len(found.sources) + found.duplicates + len(found.problems)
    if whole - names:
        return tally.add(kind, SILENT, f"{label}: {sorted(whole - names)} are not found; problems {found.problems}")
    if told not in (len(rows), len(rows) - 1):  # one of them may be the header
        return tally.add(kind, SILENT, f"{label}: {len(rows)} rows, {told} accounted for")
    return tally.add(kind, SAME)


def run(count: int, seed: int) -> Tally:
    """Make, mutate and read ``count`` lists; a case depends on its number and the seed alone."""
    tally = Tally("lists of videos")
    for number in range(count):
        kind = MANIFESTS[number % len(MANIFESTS)]
        with tempfile.TemporaryDirectory() as folder:
            path, rows = make_manifest(Path(folder), kind, np.random.default_rng([seed, number]))
            judge_manifest(path, rows, kind, tally, number)
    return tally

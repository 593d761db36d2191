"""Tables of numbers in text (xyz, txt, csv)."""

from __future__ import annotations

import re
from pathlib import Path

from data_tools.clouds.columns import cloud_from_columns, cloud_from_matrix, plain_name
from data_tools.clouds.table import is_number, parse_rows
from data_tools.clouds.types import Cloud, CloudError

COMMENTS = ("#", "//")
COMMENT = re.compile(r"(^|\s)(#|//).*")  # not the sign inside 1.#IND
HEADER_LINES = 50


def read_text(path: Path) -> Cloud:
    """Read a table of numbers, parted by blanks, commas or semicolons; a header line with names is used.

    Raises:
        CloudError: not text, a bad row, or not 3, 6 or 9 columns without a header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise CloudError(f"{path}: is not a text file; name it by its real format") from None
    lines = [line for line in text.splitlines() if line.strip()]
    names, first, notes = _text_header(path, lines)
    rows = lines[first:]
    if any(mark in text for mark in COMMENTS):
        rows = [left for line in rows if (left := COMMENT.sub("", line).strip())]
    if not rows:
        raise CloudError(f"{path}: holds no line of numbers; export the points again")
    delimiter = next((mark for mark in ",;" if mark in rows[0]), None)
    values = parse_rows(path, rows, delimiter=delimiter)
    if {"x", "y", "z"} <= {plain_name(name) for name in names}:
        if len(names) == values.shape[1]:
            return cloud_from_columns(path, [(name, values[:, i]) for i, name in enumerate(names)], notes)
        notes.append(f"the header names {len(names)} columns and the rows have {values.shape[1]}: names not used")
    return cloud_from_matrix(path, values, notes)


def _words(line: str) -> list[str]:
    text = line.lstrip("#/ ")
    for mark in ",;":
        if mark in text:
            return [word.strip() for word in text.split(mark)]
    return text.split()


def _text_header(path: Path, lines: list[str]) -> tuple[list[str], int, list[str]]:
    """Column names, if a line has them, the index of the first line of numbers, and notes about lines left out."""
    names: list[str] = []
    notes: list[str] = []
    for index, line in enumerate(lines[:HEADER_LINES]):
        words = _words(line)
        numbers = sum(map(is_number, words))
        is_comment = line.lstrip().startswith(COMMENTS)
        if numbers == len(words) and not is_comment and (numbers > 1 or index + 1 == len(lines)):
            return names, index, notes
        if not is_comment and 1 < numbers < len(words):
            bad = next(word for word in words if not is_number(word))
            raise CloudError(f"{path}: line {index + 1}: {bad[:40]!r} is no number; export it again")
        if {"x", "y", "z"} <= {plain_name(word) for word in words}:
            names = words
        elif not is_comment and words != [str(len(lines) - index - 1)]:  # some files begin with the number of points
            notes.append(f"line {index + 1} ({line.strip()[:40]!r}) is no row of numbers: left out")
    return names, len(lines), notes

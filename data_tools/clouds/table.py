"""Rows of numbers in text: ASCII PLY and PCD, xyz, txt and csv share this one parser."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_tools.clouds.types import CloudError

# what C libraries print for values that are not finite: -nan, nan(ind), nan(snan), 1.#IND, -1.#QNAN, 1.#INF00
NOT_A_NUMBER = re.compile(r"[-+]?(nan(\(\w*\))?|1\.#(ind|qnan|snan|nan)\d*)", re.IGNORECASE)
INFINITE = re.compile(r"[-+]?(inf(inity)?|1\.#inf\d*)", re.IGNORECASE)
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def parse_number(word: str) -> float:
    """A number as C and Python print it, values that are not finite in any spelling.

    Raises:
        ValueError: the word is no number.
    """
    if NUMBER.fullmatch(word):
        return float(word)
    if NOT_A_NUMBER.fullmatch(word):
        return float("nan")
    if INFINITE.fullmatch(word):
        return float("-inf" if word.startswith("-") else "inf")
    raise ValueError(f"{word[:40]!r} is no number")


def is_number(word: str) -> bool:
    """Whether `parse_number` takes the word."""
    return (word.isdecimal() and word.isascii()) or any(
        pattern.fullmatch(word) for pattern in (NUMBER, NOT_A_NUMBER, INFINITE)
    )


def parse_rows(
    path: Path, lines: Sequence[str], columns: int = 0, delimiter: str | None = None, what: str = "row"
) -> np.ndarray:
    """A table of text lines, a row a line.

    Args:
        lines: of the rows, none of them blank.
        columns: numbers in every row; 0: as many as in the first.
        delimiter: between the numbers; None: blanks.

    Returns:
        (N, columns) float64.

    Raises:
        CloudError: a row holds more or fewer numbers, or something that is no number; the message names it.
    """
    table = _quick_table(lines, delimiter)
    if table is not None and table.shape == (len(lines), columns or table.shape[1]):
        return table
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        words = [word.strip() for word in line.split(delimiter)]
        columns = columns or len(words)
        if len(words) != columns:
            raise CloudError(
                f"{path}: {what} {number} holds {len(words)} numbers instead of {columns}; export it again"
            )
        try:
            rows.append([parse_number(word) for word in words])
        except ValueError as error:
            raise CloudError(f"{path}: {what} {number}: {error}; export it again") from None
    return np.array(rows, dtype=np.float64).reshape(len(rows), columns)


def _quick_table(lines: Sequence[str], delimiter: str | None) -> np.ndarray | None:
    """The rows by NumPy's parser; None where one is bad or has a spelling that NumPy does not know."""
    try:
        return np.loadtxt(lines, delimiter=delimiter, comments=None, ndmin=2)
    except (ValueError, IndexError):
        return None


def as_declared(values: np.ndarray, kind: str, name: str, notes: list[str]) -> np.ndarray:
    """Text numbers in the type that a header declares; as they are written, with a note, where it cannot hold them."""
    if kind[0] == "f":
        return values
    limits = np.iinfo(kind)
    with np.errstate(invalid="ignore"):
        fits = (values == np.rint(values)) & (values >= limits.min) & (values <= limits.max)
    if fits.all():
        return values.astype(kind)
    notes.append(f"{int((~fits).sum())} values of {name!r} do not fit its type {np.dtype(kind)}: read as written")
    return values

"""PCD (Point Cloud Library) files: ascii, binary and binary_compressed, packed colours."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_tools.clouds.columns import cloud_from_columns
from data_tools.clouds.table import as_declared, parse_rows
from data_tools.clouds.types import Cloud, CloudError

PCD_TYPES = {"F": "f", "I": "i", "U": "u"}
KEYWORDS = ("VERSION", "FIELDS", "COLUMNS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")


@dataclass
class _Header:
    """What a PCD header says: names, NumPy types and counts of the fields, number of points, kind of data."""

    names: list[str]
    types: list[str]
    counts: list[int]
    points: int
    data: str

    @property
    def dtype(self) -> np.dtype:
        fields = enumerate(zip(self.types, self.counts, strict=True))
        return np.dtype([(f"f{i}", "<" + kind, (count,)) for i, (kind, count) in fields])


def lzf_decompress(data: bytes, size: int) -> bytes:
    """Decode LZF, the compression of ``DATA binary_compressed``.

    A control byte below 32 copies that many bytes plus one; any other is a match: length in its top three bits
    (7 means one more length byte), distance in its low five bits and the next byte.

    Raises:
        ValueError: the stream is damaged.
    """
    out = bytearray()
    position, end = 0, len(data)
    try:
        while position < end:
            control = data[position]
            position += 1
            if control < 32:
                out += data[position : position + control + 1]
                position += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[position]
                position += 1
            start = len(out) - ((control & 31) << 8) - data[position] - 1
            position += 1
            length += 2
            if start < 0:
                raise ValueError("a match reaches before the start")
            while length > 0:  # source and target may overlap: copy what is there, again and again
                chunk = out[start : start + length]
                out += chunk
                start += len(chunk)
                length -= len(chunk)
    except IndexError:
        raise ValueError("the stream ends inside a match") from None
    if len(out) != size:
        raise ValueError(f"{len(out)} bytes came out, {size} were promised")
    return bytes(out)


def _read_header(path: Path, data: bytes, notes: list[str]) -> tuple[_Header, int]:
    words: dict[str, list[str]] = {}
    position = 0
    while "DATA" not in words:
        end = data.find(b"\n", position, position + 65536)
        if end < 0:
            raise CloudError(f"{path}: is not a PCD file or its header has no DATA line; name it by its real format")
        line = data[position:end].decode("latin-1").split("#")[0].split()
        position = end + 1
        if line and line[0].upper() not in KEYWORDS:
            notes.append(f"header line {' '.join(line)[:40]!r} is not understood: left out")
        elif line:
            words[line[0].upper()] = line[1:]
    try:
        names = words.get("FIELDS") or words["COLUMNS"]
        types = [PCD_TYPES[kind] + size for kind, size in zip(words["TYPE"], words["SIZE"], strict=True)]
        counts = [int(count) for count in words.get("COUNT", ["1"] * len(names))]
        points = int(words["POINTS"][0]) if "POINTS" in words else int(words["WIDTH"][0]) * int(words["HEIGHT"][0])
        header = _Header(names, types, counts, points, words["DATA"][0].lower())
        if len(names) != len(types) or len(names) != len(counts) or points < 0 or header.dtype.itemsize < 1:
            raise ValueError("the header's lists differ in length")
    except (KeyError, IndexError, ValueError, TypeError):
        raise CloudError(f"{path}: its PCD header is not understood; export it again") from None
    return header, position


def _compressed_columns(path: Path, data: bytes, header: _Header) -> list[np.ndarray]:
    """Fields of a compressed file; they lie one after the other, not point by point."""
    try:
        packed, size = struct.unpack_from("<II", data)
        if len(data) < 8 + packed:
            raise ValueError(f"{len(data) - 8} of {packed} bytes are there")
        raw = lzf_decompress(data[8 : 8 + packed], size)
        columns, position = [], 0
        for kind, count in zip(header.types, header.counts, strict=True):
            values = np.frombuffer(raw, "<" + kind, header.points * count, position)
            columns.append(values.reshape(header.points, count))
            position += values.nbytes
    except (ValueError, struct.error) as error:
        raise CloudError(f"{path}: compressed data is damaged ({error}); copy the file again") from None
    return columns


def _plain_columns(path: Path, data: bytes, header: _Header, notes: list[str]) -> list[np.ndarray]:
    if header.data == "binary":
        needed = header.points * header.dtype.itemsize
        if len(data) < needed:
            raise CloudError(
                f"{path}: {needed} bytes of points promised, {len(data)} there; it is cut off, copy it again"
            )
        if len(data) > needed:
            notes.append(f"{len(data) - needed} bytes more than the header promises left out")
        table = np.frombuffer(data, header.dtype, header.points)
        return [table[f"f{i}"] for i in range(len(header.names))]
    lines = [line for line in data.decode("latin-1").splitlines() if line.strip()]
    if len(lines) < header.points:
        raise CloudError(f"{path}: {header.points} lines promised, {len(lines)} there; it is cut off, copy it again")
    if len(lines) > header.points:
        notes.append(f"{len(lines) - header.points} lines more than the header promises left out")
    table = parse_rows(path, lines[: header.points], sum(header.counts), what="point")
    ends = np.cumsum([0, *header.counts])
    return [
        as_declared(table[:, first:last], kind, name, notes) if last > first else table[:, :0]
        for name, kind, first, last in zip(header.names, header.types, ends[:-1], ends[1:], strict=True)
    ]


def unpack_rgb(values: np.ndarray, kind: str) -> np.ndarray:
    """(N, 3) colours of PCL's ``rgb``: (N, 1) packed as 0x00RRGGBB, or (N, 3) as they are.

    Args:
        kind: its declared type; an "f" means the bits of a float32, whatever number they spell.
    """
    if values.shape[1] == 3:
        return values
    packed = np.ascontiguousarray(values[:, 0])
    if kind[0] == "f":
        number = packed.astype(np.float32).view(np.uint32)
    else:
        number = np.nan_to_num(packed.astype(np.float64), posinf=0, neginf=0).astype(np.int64)
    return np.stack([(number >> shift) & 255 for shift in (16, 8, 0)], axis=1).astype(np.uint8)


def read_pcd(path: Path) -> Cloud:
    """Read a PCD file.

    Raises:
        CloudError: not a PCD file, cut off, damaged, or without points.
    """
    data = path.read_bytes()
    notes: list[str] = []
    header, start = _read_header(path, data, notes)
    if header.points < 1:
        raise CloudError(f"{path}: holds no point; export the points again")
    if header.data == "binary_compressed":
        values = _compressed_columns(path, data[start:], header)
    elif header.data in ("ascii", "binary"):
        values = _plain_columns(path, data[start:], header, notes)
    else:
        raise CloudError(f"{path}: DATA {header.data!r} is unknown; export as ascii, binary or binary_compressed")
    columns: list[tuple[str, np.ndarray]] = []
    for name, kind, value in zip(header.names, header.types, values, strict=True):
        if name.lower() in ("rgb", "rgba") and value.shape[1]:
            lost = int((~np.isfinite(value)).sum()) if header.data == "ascii" else 0  # in bytes NaN is a colour
            notes += [f"{lost} packed colours are no numbers: taken as black"] if lost else []
            colors = unpack_rgb(np.where(np.isfinite(value), value, 0) if lost else value, kind)
            columns += [("red", colors[:, 0]), ("green", colors[:, 1]), ("blue", colors[:, 2])]
        elif value.shape[1] and name != "_":  # padding
            columns.append((name, value[:, 0]))
    return cloud_from_columns(path, columns, notes)

"""PCD (Point Cloud Library) files: ascii, binary and binary_compressed, packed colours."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_tools.clouds.types import Cloud, CloudError, cloud_from_columns

PCD_TYPES = {"F": "f", "I": "i", "U": "u"}


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
        return np.dtype(
            [
                (f"f{i}", "<" + kind, (count,))
                for i, (kind, count) in enumerate(zip(self.types, self.counts, strict=True))
            ]
        )


def lzf_decompress(data: bytes, size: int) -> bytes:
    """Decode LZF, the compression of ``DATA binary_compressed``.

    A control byte below 32 copies that many bytes plus one; any other is a match: length in its top three bits
    (7 means one more length byte), distance in its low five bits and the next byte.

    Args:
        data: compressed bytes.
        size: how many bytes must come out.

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


def _read_header(path: Path, data: bytes) -> tuple[_Header, int]:
    words: dict[str, list[str]] = {}
    position = 0
    while "DATA" not in words:
        end = data.find(b"\n", position, position + 65536)
        if end < 0:
            raise CloudError(f"{path}: is not a PCD file or its header has no DATA line; name it by its real format")
        line = data[position:end].decode("latin-1").split("#")[0].split()
        position = end + 1
        if line:
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


def _plain_columns(path: Path, data: bytes, header: _Header) -> list[np.ndarray]:
    if header.data == "binary":
        needed = header.points * header.dtype.itemsize
        if len(data) < needed:
            raise CloudError(
                f"{path}: {needed} bytes of points promised, {len(data)} there; it is cut off, copy it again"
            )
        table = np.frombuffer(data, header.dtype, header.points)
        return [table[f"f{i}"] for i in range(len(header.names))]
    words = data.split()
    width = sum(header.counts)
    if len(words) < header.points * width:
        raise CloudError(f"{path}: {header.points} lines promised, the file ends earlier; it is cut off, copy it again")
    columns, first = [], 0
    rows = np.array(words[: header.points * width]).reshape(header.points, width)
    for kind, count in zip(header.types, header.counts, strict=True):
        # integers go through int64: a packed colour above 2^24 would lose bits as a float32
        part = rows[:, first : first + count]
        try:
            wide = part.astype(np.float64)
        except ValueError:
            raise CloudError(f"{path}: a point's line holds something that is no number; export it again") from None
        columns.append(wide.astype(kind) if kind[0] == "f" else wide.astype(np.int64).astype(kind))
        first += count
    return columns


def unpack_rgb(packed: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 colours of PCL's packed ``rgb``: 0x00RRGGBB, as an integer or as the bits of a float32."""
    bits = np.ascontiguousarray(packed)
    number = bits.astype(np.float32).view(np.uint32) if bits.dtype.kind == "f" else bits.astype(np.int64)
    return np.stack([(number >> shift) & 255 for shift in (16, 8, 0)], axis=1).astype(np.uint8)


def read_pcd(path: Path) -> Cloud:
    """Read a PCD file.

    Raises:
        CloudError: not a PCD file, cut off, damaged, or without points.
    """
    data = path.read_bytes()
    header, start = _read_header(path, data)
    if header.points < 1:
        raise CloudError(f"{path}: holds no point; export the points again")
    if header.data == "binary_compressed":
        values = _compressed_columns(path, data[start:], header)
    elif header.data in ("ascii", "binary"):
        values = _plain_columns(path, data[start:], header)
    else:
        raise CloudError(f"{path}: DATA {header.data!r} is unknown; export as ascii, binary or binary_compressed")
    columns = {name.lower(): value[:, 0] for name, value in zip(header.names, values, strict=True) if value.shape[1]}
    for name in ("rgb", "rgba"):
        if name in columns:
            colors = unpack_rgb(columns.pop(name))
            columns.update(red=colors[:, 0], green=colors[:, 1], blue=colors[:, 2])
    return cloud_from_columns(path, columns)

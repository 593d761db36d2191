"""PLY, read (ASCII and binary of either byte order, any properties and elements) and written."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_tools.clouds.columns import cloud_from_columns
from data_tools.clouds.table import as_declared, is_number, parse_rows
from data_tools.clouds.types import Cloud, CloudError
from data_tools.stages.files import replacing

PLY_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
PLY_FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
END_HEADER = re.compile(rb"(\r\n|\r|\n)end_header[ \t\r]*\n")
MAX_HEADER_BYTES = 1 << 20


@dataclass
class _Element:
    """One element of a PLY header: (name, type of a list's count or "", type of the values) of its properties."""

    name: str
    count: int
    order: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def scalars(self) -> list[tuple[str, str]]:
        return [(name, kind) for name, count_type, kind in self.order if not count_type]

    @property
    def has_list(self) -> bool:
        return len(self.scalars) < len(self.order)


def _read_header(path: Path, data: bytes, notes: list[str]) -> tuple[str, list[_Element], int]:
    """Byte-order mark of the format ('' is ASCII), the elements, and where the data begins."""
    if not data.startswith(b"ply"):
        raise CloudError(f"{path}: is not a PLY file (it does not begin with 'ply'); name it by its real format")
    end = END_HEADER.search(data, 0, MAX_HEADER_BYTES)
    if end is None:
        raise CloudError(f"{path}: its PLY header has no end_header line; the file is cut off, copy it again")
    order: str | None = None
    elements: list[_Element] = []
    for number, line in enumerate(re.split("\r\n|\n|\r", data[: end.start()].decode("latin-1"))):
        word = line.split()
        if word and word[0] in ("comment", "obj_info"):
            continue
        if number and _is_odd(line, word, elements):
            notes.append(f"header line {number + 1} ({line.strip()[:40]!r}) is odd: damaged, perhaps")
        try:
            if not word or word[0] == "ply":
                continue
            if word[0] == "format":
                order = PLY_FORMATS[word[1]]
            elif word[0] == "element":
                elements.append(_Element(word[1], int(word[2])))
                if elements[-1].count < 0:
                    raise ValueError("negative count")
            elif word[0] == "property" and word[1] == "list":
                elements[-1].order.append((word[4], PLY_TYPES[word[2]], PLY_TYPES[word[3]]))
            elif word[0] == "property":
                elements[-1].order.append((word[2], "", PLY_TYPES[word[1]]))
            else:
                raise KeyError(word[0])
        except (KeyError, IndexError, ValueError):
            raise CloudError(f"{path}: PLY header line {line.strip()!r} is not understood; export it again") from None
    if order is None:
        raise CloudError(f"{path}: its PLY header names no format; export it again")
    return order, elements, end.end()


def _is_odd(line: str, word: list[str], elements: list[_Element]) -> bool:
    """Whether a header line, not the first, is one that the format does not have but can be read over."""
    if not word or word[0] == "ply" or not line.isascii() or (word[0] == "format" and elements):
        return True
    return len(word) != (5 if word[:2] == ["property", "list"] else 3)


def _walk_binary(path: Path, data: bytes, start: int, element: _Element, order: str) -> tuple[list[list[float]], int]:
    """Rows of an element with list properties, one by one (rare: faces usually come after the vertices)."""
    rows: list[list[float]] = []
    position = start
    for _ in range(element.count):
        row: list[float] = []
        for _, count_type, value_type in element.order:
            try:
                size = 1
                if count_type:
                    size = int(np.frombuffer(data, order + count_type, 1, position)[0])
                    position += np.dtype(count_type).itemsize
                if size < 0:
                    raise ValueError("negative length")
                values = np.frombuffer(data, order + value_type, size, position) if size else np.empty(0)
            except ValueError:
                raise CloudError(
                    f"{path}: ends inside element {element.name!r}, or a list's length is wrong; copy it again"
                ) from None
            position += size * np.dtype(value_type).itemsize
            if not count_type:
                row.append(float(values[0]))
        rows.append(row)
    return rows, position


Columns = list[tuple[str, np.ndarray]]


def _read_binary(
    path: Path, data: bytes, start: int, elements: list[_Element], order: str, notes: list[str]
) -> Columns:
    position = start
    for element in elements:
        if element.has_list:
            rows, position = _walk_binary(path, data, position, element, order)
            table = np.asarray(rows, dtype=np.float64).reshape(element.count, len(element.scalars))
            columns = [(name, table[:, i].astype(kind)) for i, (name, kind) in enumerate(element.scalars)]
        else:
            # names may repeat in broken exports; numbered fields keep NumPy from refusing them
            dtype = np.dtype([(f"f{i}", order + kind) for i, (_, kind) in enumerate(element.scalars)])
            needed = element.count * dtype.itemsize
            if position + needed > len(data):
                raise CloudError(
                    f"{path}: element {element.name!r} needs {needed} bytes and {len(data) - position} are there; "
                    "it is cut off, copy it again"
                )
            table = np.frombuffer(data, dtype, element.count, position) if needed else np.empty(0, dtype)
            columns = [(name, table[f"f{i}"]) for i, (name, _) in enumerate(element.scalars)]
            position += needed
        if element.name == "vertex":
            _check_rest(path, data, position, elements[elements.index(element) + 1 :], order, notes)
            return columns
    return []


def _check_rest(path: Path, data: bytes, position: int, elements: list[_Element], order: str, notes: list[str]) -> None:
    """Whether the file ends where its header says: if not, bytes are lost or added, before the vertices' end perhaps.

    Raises:
        CloudError: it ends earlier.
    """
    for element in elements:
        position = _skip_binary(path, data, position, element, order)
    if position > len(data):
        raise CloudError(f"{path}: ends {position - len(data)} bytes early; it is cut off, copy it again")
    if position < len(data):
        notes.append(f"{len(data) - position} bytes more than the header promises left out")


def _skip_binary(path: Path, data: bytes, position: int, element: _Element, order: str) -> int:
    """Where an element ends; at once for scalars and for one list of equal lengths (triangles), else row by row."""
    if not element.has_list:
        return position + element.count * sum(np.dtype(kind).itemsize for _, kind in element.scalars)
    if len(element.order) == 1 and element.count:
        _, count_type, value_type = element.order[0]
        head = np.dtype(order + count_type)
        if position + head.itemsize <= len(data):
            length = int(np.frombuffer(data, head, 1, position)[0])
            row = head.itemsize + max(0, length) * np.dtype(value_type).itemsize
            if position + element.count * row <= len(data):
                rows = np.frombuffer(
                    data, np.dtype([("n", head), ("rest", f"V{row - head.itemsize}")]), element.count, position
                )
                if (rows["n"] == length).all():
                    return position + element.count * row
    return _walk_binary(path, data, position, element, order)[1]


def _read_ascii(path: Path, data: bytes, start: int, elements: list[_Element], notes: list[str]) -> Columns:
    written = data[start:].decode("latin-1").rstrip().splitlines()
    lines = [line for line in written if line.strip()]
    if len(lines) < len(written):
        notes.append(f"{len(written) - len(lines)} blank lines among the rows passed over")
    promised = sum(element.count for element in elements)
    if len(lines) < promised:
        raise CloudError(f"{path}: has {len(lines)} of {promised} lines promised; it is cut off, copy it again")
    if len(lines) > promised:
        notes.append(f"{len(lines) - promised} lines more than the header promises left out")
    first, columns = 0, None
    for element in elements:
        rows = lines[first : first + element.count]
        first += element.count
        if element.has_list or element.name != "vertex":  # a bad line may be a vertex that slipped among the faces
            rows = [_without_lists(path, number, row.split(), element) for number, row in enumerate(rows, 1)]
        table = parse_rows(path, rows, len(element.scalars), what=element.name) if element.scalars and rows else None
        if element.name == "vertex" and columns is None and table is not None:
            columns = [
                (name, as_declared(table[:, i], kind, name, notes)) for i, (name, kind) in enumerate(element.scalars)
            ]
    return columns or []


def _without_lists(path: Path, number: int, words: list[str], element: _Element) -> str:
    """A line without its list properties, checked to end where the properties do."""
    kept: list[str] = []
    position = 0
    for _, count_type, value_type in element.order:
        word = words[position] if position < len(words) else ""
        if count_type and not word.isdigit():
            raise CloudError(f"{path}: {element.name} {number}: {word!r} is no length of a list; export it again")
        end = position + (1 + int(word) if count_type else 1)
        for item in words[position + 1 : end]:
            if not (item.lstrip("+-").isdecimal() or (value_type[0] == "f" and is_number(item))):
                raise CloudError(f"{path}: {element.name} {number}: {item!r} does not fit its list; export it again")
        kept += [] if count_type else [word]
        position = end
    if position != len(words):
        counts = f"holds {len(words)} numbers instead of {position}"
        raise CloudError(f"{path}: {element.name} {number} {counts}; export it again")
    return " ".join(kept)


def read_ply(path: Path) -> Cloud:
    """Read the vertices of a PLY file; other elements (faces, cameras) are ignored.

    Raises:
        CloudError: not a PLY file, cut off, or without vertices.
    """
    data = path.read_bytes()
    notes: list[str] = []
    order, elements, start = _read_header(path, data, notes)
    vertex = next((element for element in elements if element.name == "vertex"), None)
    if vertex is None or vertex.count < 1:
        raise CloudError(f"{path}: holds no vertex; export the points again")
    if order:
        columns = _read_binary(path, data, start, elements, order, notes)
    else:
        columns = _read_ascii(path, data, start, elements, notes)
    return cloud_from_columns(path, columns, notes)


def write_ply(path: str | Path, cloud: Cloud) -> Path:
    """Write a cloud as binary little-endian PLY, its origin added, whole or not at all; the path written."""
    path = Path(path)
    coord = cloud.coord if not cloud.origin.any() else cloud.coord.astype(np.float64) + cloud.origin
    kind = "f4" if coord.dtype == np.float32 else "f8"
    names: list[tuple[str, str, np.ndarray]] = [(axis, kind, coord[:, i]) for i, axis in enumerate("xyz")]
    if cloud.normal is not None:
        names += [(f"n{axis}", "f4", cloud.normal[:, i]) for i, axis in enumerate("xyz")]
    if cloud.color is not None:
        names += [(name, "u1", cloud.color[:, i]) for i, name in enumerate(("red", "green", "blue"))]
    scalar_types = {"confidence": "f4", "segment": "i4", "instance": "i4"}
    names += [(name, kind, value) for name, kind in scalar_types.items() if (value := getattr(cloud, name)) is not None]
    table = np.empty(len(cloud), dtype=[(name, "<" + kind) for name, kind, _ in names])
    for name, _, value in names:
        table[name] = value
    words = {"f4": "float", "f8": "double", "u1": "uchar", "i4": "int"}
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(cloud)}"]
    header += [f"property {words[kind]} {name}" for name, kind, _ in names] + ["end_header", ""]
    with replacing(path) as partial, partial.open("wb") as file:
        file.write("\n".join(header).encode("ascii"))
        file.write(table.tobytes())
    return path

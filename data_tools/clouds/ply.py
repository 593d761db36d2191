"""PLY, read (ASCII and binary of either byte order, any properties and elements) and written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_tools.clouds.types import Cloud, CloudError, cloud_from_columns
from data_tools.stages.files import replacing

PLY_TYPES = {
    "char": "i1",
    "int8": "i1",
    "uchar": "u1",
    "uint8": "u1",
    "short": "i2",
    "int16": "i2",
    "ushort": "u2",
    "uint16": "u2",
    "int": "i4",
    "int32": "i4",
    "uint": "u4",
    "uint32": "u4",
    "float": "f4",
    "float32": "f4",
    "double": "f8",
    "float64": "f8",
}
PLY_FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
MAX_HEADER_BYTES = 1 << 20


@dataclass
class _Element:
    """One element of a PLY header; ``lists`` holds (count type, value type) of the list properties."""

    name: str
    count: int
    scalars: list[tuple[str, str]] = field(default_factory=list)
    order: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def has_list(self) -> bool:
        return any(count_type for _, count_type, _ in self.order)


def _read_header(path: Path, data: bytes) -> tuple[str, list[_Element], int]:
    """Byte-order mark of the format ('' is ASCII), the elements, and where the data begins."""
    if not data.startswith(b"ply"):
        raise CloudError(f"{path}: is not a PLY file (it does not begin with 'ply'); name it by its real format")
    end = data.find(b"end_header", 0, MAX_HEADER_BYTES)
    line_end = data.find(b"\n", end) if end >= 0 else -1
    if line_end < 0:
        raise CloudError(f"{path}: its PLY header has no end_header line; the file is cut off, copy it again")
    order: str | None = None
    elements: list[_Element] = []
    for line in data[:end].decode("latin-1").replace("\r", "\n").split("\n"):
        word = line.split()
        try:
            if not word or word[0] in ("ply", "comment", "obj_info"):
                continue
            if word[0] == "format":
                order = PLY_FORMATS[word[1]]
            elif word[0] == "element":
                elements.append(_Element(word[1], int(word[2])))
            elif word[0] == "property" and word[1] == "list":
                elements[-1].order.append((word[4], PLY_TYPES[word[2]], PLY_TYPES[word[3]]))
            elif word[0] == "property":
                elements[-1].order.append((word[2], "", PLY_TYPES[word[1]]))
                elements[-1].scalars.append((word[2], PLY_TYPES[word[1]]))
            else:
                raise KeyError(word[0])
        except (KeyError, IndexError, ValueError):
            raise CloudError(f"{path}: PLY header line {line.strip()!r} is not understood; export it again") from None
    if order is None:
        raise CloudError(f"{path}: its PLY header names no format; export it again")
    return order, elements, line_end + 1


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
                values = np.frombuffer(data, order + value_type, size, position) if size else np.empty(0)
            except ValueError:
                raise CloudError(
                    f"{path}: ends inside element {element.name!r}; it is cut off, copy it again"
                ) from None
            position += size * np.dtype(value_type).itemsize
            if not count_type:
                row.append(float(values[0]))
        rows.append(row)
    return rows, position


def _read_binary(path: Path, data: bytes, start: int, elements: list[_Element], order: str) -> dict[str, np.ndarray]:
    position = start
    for element in elements:
        if element.has_list:
            rows, position = _walk_binary(path, data, position, element, order)
            table = np.asarray(rows, dtype=np.float64).reshape(element.count, len(element.scalars))
            columns = {name: table[:, i].astype(kind) for i, (name, kind) in enumerate(element.scalars)}
        else:
            # names may repeat in broken exports; numbered fields keep NumPy from refusing them
            dtype = np.dtype([(f"f{i}", order + kind) for i, (_, kind) in enumerate(element.scalars)])
            needed = element.count * dtype.itemsize
            if position + needed > len(data):
                raise CloudError(
                    f"{path}: element {element.name!r} needs {needed} bytes and {len(data) - position} are there; "
                    "it is cut off, copy it again"
                )
            table = np.frombuffer(data, dtype, element.count, position)
            columns = {name: table[f"f{i}"] for i, (name, _) in enumerate(element.scalars)}
            position += needed
        if element.name == "vertex":
            return columns
    return {}


def _read_ascii(path: Path, data: bytes, start: int, elements: list[_Element]) -> dict[str, np.ndarray]:
    lines = [line for line in data[start:].splitlines() if line.strip()]
    first = 0
    for element in elements:
        rows = lines[first : first + element.count]
        first += element.count
        if element.name != "vertex":
            continue
        if len(rows) < element.count:
            raise CloudError(f"{path}: has {len(rows)} of {element.count} vertex lines; it is cut off, copy it again")
        try:
            if element.has_list:
                table = np.asarray([_ascii_scalars(row.split(), element) for row in rows], dtype=np.float64)
            else:
                table = np.array(b" ".join(rows).split(), dtype=np.float64)
            table = table.reshape(element.count, len(element.scalars))
        except (ValueError, IndexError):
            raise CloudError(
                f"{path}: a vertex line does not hold {len(element.order)} numbers; export it again"
            ) from None
        return {
            name: table[:, i].astype(kind) if kind.startswith(("u1", "u2")) else table[:, i]
            for i, (name, kind) in enumerate(element.scalars)
        }
    return {}


def _ascii_scalars(words: list[bytes], element: _Element) -> list[float]:
    values: list[float] = []
    position = 0
    for _, count_type, _ in element.order:
        if count_type:
            position += 1 + int(words[position])
        else:
            values.append(float(words[position]))
            position += 1
    return values


def read_ply(path: Path) -> Cloud:
    """Read the vertices of a PLY file; other elements (faces, cameras) are ignored.

    Raises:
        CloudError: not a PLY file, cut off, or without vertices.
    """
    data = path.read_bytes()
    order, elements, start = _read_header(path, data)
    vertex = next((element for element in elements if element.name == "vertex"), None)
    if vertex is None or vertex.count < 1:
        raise CloudError(f"{path}: holds no vertex; export the points again")
    columns = _read_binary(path, data, start, elements, order) if order else _read_ascii(path, data, start, elements)
    return cloud_from_columns(path, columns)


def write_ply(path: str | Path, cloud: Cloud) -> Path:
    """Write a cloud as binary little-endian PLY (float32 coordinates, with its origin added), through a temporary name.

    Returns:
        The path written.
    """
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

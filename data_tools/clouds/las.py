"""LAS and LAZ through laspy."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from data_tools.clouds.columns import cloud_from_columns, tell_coarse
from data_tools.clouds.types import Cloud, CloudError


def read_las(path: Path) -> Cloud:
    """Read LAS/LAZ: coordinates, colours, the classification and extra dimensions with names that we know.

    Colours and a classification that are zero for all points are fields that nobody filled: left out.

    Raises:
        CloudError: laspy is missing, or it cannot read the file.
    """
    try:
        import laspy
    except ImportError:
        raise CloudError(f"{path}: reading {path.suffix} needs laspy; pip install 'laspy[lazrs]'") from None
    _check_header(path)
    try:
        las = laspy.read(str(path))
        columns = [(axis, np.asarray(getattr(las, axis), dtype=np.float64)) for axis in "xyz"]
        there = set(las.point_format.standard_dimension_names)
        names = [name for name in ("red", "green", "blue", "classification") if name in there]
        values = [(name, np.asarray(las[name])) for name in (*names, *las.point_format.extra_dimension_names)]
    except Exception as error:  # laspy raises many kinds, its LAZ back ends others again
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CloudError(f"{path}: laspy cannot read it ({reason}); for .laz: pip install 'laspy[lazrs]'") from None
    if len(las.points) < las.header.point_count:
        counts = f"{las.header.point_count} points promised, {len(las.points)} there"
        raise CloudError(f"{path}: {counts}; it is cut off, copy it again")
    colors = [value for name, value in values if name in ("red", "green", "blue")]
    empty = {"red", "green", "blue"} if not any(value.any() for value in colors) else set()
    columns += [
        (name, value)
        for name, value in values
        if value.ndim == 1 and name not in empty and (name != "classification" or value.any())
    ]
    cloud = cloud_from_columns(path, columns)
    tell_coarse(cloud, float(max(las.header.scales)), "the header's scale")
    return cloud


def _check_header(path: Path) -> None:
    """Refuse counts and places in a LAS header that the file cannot hold; laspy would read on for hours.

    Raises:
        CloudError: not a LAS file, damaged, or cut off.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(375).ljust(375, b"\0")
    if head[:4] != b"LASF":
        raise CloudError(f"{path}: is not a LAS file (it does not begin with 'LASF'); name it by its real format")
    header_size, start, records, kind, length, count = struct.unpack_from("<HIIBHI", head, 94)
    extended, more = 0, 0
    if head[25] >= 4:  # LAS 1.4: 64-bit counts, and records after the points
        extended, more, count = struct.unpack_from("<QIQ", head, 235)
    points = 0 if kind & 0x80 else count * length  # compressed points tell their size themselves
    if header_size + 54 * records > start or start + points > size or (more and extended + 60 * more > size):
        raise CloudError(f"{path}: its header promises more than {size} bytes hold; it is cut off, copy it again")

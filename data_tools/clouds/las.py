"""LAS and LAZ through laspy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_tools.clouds.columns import cloud_from_columns
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
    try:
        las = laspy.read(str(path))
        promised, there = las.header.point_count, len(las.points)
        columns = [(axis, np.asarray(getattr(las, axis), dtype=np.float64)) for axis in "xyz"]
        values = [
            (name, np.asarray(las[name])) for name in las.point_format.dimension_names if name not in ("X", "Y", "Z")
        ]
    except Exception as error:  # laspy raises many kinds, its LAZ back ends others again
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CloudError(f"{path}: laspy cannot read it ({reason}); for .laz: pip install 'laspy[lazrs]'") from None
    if there < promised:
        raise CloudError(f"{path}: {promised} points promised, {there} there; it is cut off, copy it again")
    colors = [value for name, value in values if name in ("red", "green", "blue")]
    empty = {"red", "green", "blue"} if not any(value.any() for value in colors) else set()
    columns += [
        (name, value)
        for name, value in values
        if value.ndim == 1 and name not in empty and (name != "classification" or value.any())
    ]
    return cloud_from_columns(path, columns)

"""Normals of the finished cloud, on the side of the camera that saw the point."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from data_tools.clouds.io import inner_viewpoints, orient_normals
from data_tools.postprocessing.cameras import Cameras

VIEWS = 200  # viewpoints that are looked at: which of many near ones is the nearest does not change the side


def orient(
    normal: np.ndarray, coord: np.ndarray, given: np.ndarray | None, cameras: Cameras | None
) -> tuple[np.ndarray, str]:
    """Turn normals to the side they were seen from.

    The given normals know it best (reconstruction writes them toward the camera of the point); where there are none,
    the nearest camera stands in, and without cameras the free middle of the room.

    Args:
        normal: (N, 3) of either sign.
        coord: (N, 3), z up, metres.
        given: (N, 3) in the same frame, zero where unknown, or None.
        cameras: in the same frame, or None.

    Returns:
        (N, 3) float32, and where the side comes from: "given normals", "nearest camera", "inside of the room".
    """
    facing = "given normals"
    if given is not None:
        side = np.einsum("ni,ni->n", given, normal)
        known = side != 0
        normal = np.where((side < 0)[:, None], -normal, normal)
    else:
        known = np.zeros(len(coord), dtype=bool)
    if not known.all():
        view = inner_viewpoints(coord) if cameras is None else cameras.centers
        if not known.any():
            facing = "inside of the room" if cameras is None else "nearest camera"
        rest = np.flatnonzero(~known)
        normal = normal.copy()
        view = view[:: -(-len(view) // VIEWS)]
        nearest = cKDTree(view).query(coord[rest])[1]
        normal[rest] = orient_normals(coord[rest], normal[rest], view[nearest])
    return normal.astype(np.float32), facing

"""Fixed scenes that hooks look at again and again: read, put on the grid, bounded, and seen from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_tools.clouds.io import grid_cells
from lam3c_plugin.checkpoints.run_config import DEFAULT_GRID, inputs_of
from lam3c_plugin.errors import DataError

TRIES = 20  # broken scenes at the head of a data set that are passed over


def read_folder(folder: str) -> dict[str, np.ndarray]:
    """``coord``, and where they exist ``color`` (0-255) and ``normal``, of a scene folder.

    Raises:
        DataError: there is no ``coord.npy``.
    """
    files = {key: Path(folder, f"{key}.npy") for key in ("coord", "color", "normal")}
    if not files["coord"].is_file():
        raise DataError(f"scene={folder!r} has no coord.npy: give the folder of one scene, or None")
    return {key: np.load(file, allow_pickle=False) for key, file in files.items() if file.is_file()}


def first_scenes(dataset: Any, count: int) -> list[dict[str, Any]]:
    """The first ``count`` readable scenes of a data set (or of the first of a concatenation), before its transforms.

    Raises:
        DataError: none of the first scenes can be read; the last reason is in the message.
    """
    while hasattr(dataset, "datasets"):
        dataset = dataset.datasets[0]
    found: list[dict[str, Any]] = []
    reason: Exception | None = None
    for index in range(min(TRIES + count - 1, len(dataset))):
        if len(found) == count:
            break
        try:
            found.append(dataset.get_data(index))
        except DataError as error:  # the data set itself passes over broken scenes, too
            reason = error
    if not found:
        raise DataError(f"no scene to draw among the first {TRIES} of the training set: {reason}")
    return found


def configured_grid_size(cfg: Any) -> float:
    """Grid size in metres of the training transform's ``GridSample``, or 0.02, the paper's."""
    return inputs_of({"data": {"train": cfg.data.train}}).get("grid_size", DEFAULT_GRID)


def prepare_scene(scene: dict[str, Any], grid_size: float, max_points: int) -> dict[str, Any]:
    """One point a grid cell, centred (x, y at the box's middle, z at its bottom), with the model's nine channels.

    Args:
        scene: ``coord`` (N, 3) metres, optional ``color`` (N, 3) 0-255 and ``normal`` (N, 3).
        grid_size: metres.
        max_points: of more points those nearest to the middle are kept.

    Returns:
        ``coord`` (M, 3) float32, ``color`` (M, 3) in [0, 1], ``feat`` (M, 9) float32, ``grid_size``, and ``rows`` (M,)
        of the points kept.
    """
    coord = np.asarray(scene["coord"], dtype=np.float64)
    keep, _, _ = grid_cells(coord, grid_size)
    low, high = coord[keep].min(axis=0), coord[keep].max(axis=0)
    coord = coord - [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]]
    if len(keep) > max_points:
        distance = np.square(coord[keep, :2]).sum(axis=1)
        keep = keep[np.sort(np.argsort(distance, kind="stable")[:max_points])]
    coord = coord[keep].astype(np.float32)
    color, normal = (
        np.asarray(scene[key], dtype=np.float32)[keep] if scene.get(key) is not None else np.zeros_like(coord)
        for key in ("color", "normal")
    )
    color = np.clip(color / 255.0, 0.0, 1.0)
    return {
        "coord": coord,
        "color": color,
        "feat": _channels(coord, color, normal),
        "grid_size": grid_size,
        "rows": keep,
    }


def other_view(scene: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """A prepared scene turned about z, mirrored or not, scaled and in other light, put on the grid anew.

    Args:
        scene: of `prepare_scene`, M points.
        rng: draws the angle (any), the mirroring (half of all), the scale (0.9 to 1.1), the brightness of each colour
            (0.8 to 1.2).

    Returns:
        what `prepare_scene` returns, without ``rows``, and ``inverse`` (M,): the view's point of each point.
    """
    angle, scale, light = rng.uniform(-np.pi, np.pi), rng.uniform(0.9, 1.1), rng.uniform(0.8, 1.2, 3)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    if rng.random() < 0.5:
        turn[:, 0] *= -1
    coord = scene["coord"].astype(np.float64) @ turn.T * scale
    keep, inverse, _ = grid_cells(coord, scene["grid_size"])
    low, high = coord[keep].min(axis=0), coord[keep].max(axis=0)
    coord = (coord[keep] - [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]]).astype(np.float32)
    color = np.clip(scene["color"][keep] * light, 0.0, 1.0).astype(np.float32)
    normal = (scene["feat"][keep, 6:] @ turn.T).astype(np.float32)
    feat = _channels(coord, color, normal)
    return {"coord": coord, "color": color, "feat": feat, "grid_size": scene["grid_size"], "inverse": inverse}


def _channels(coord: np.ndarray, color: np.ndarray, normal: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.concatenate([coord, color, normal], axis=1))

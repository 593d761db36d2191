"""The cameras that saw a cloud: read, written, moved along with it, asked which way is up and which side was seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from data_tools.clouds.io import inner_viewpoints, orient_normals
from data_tools.stages.record import StageError

VIEWS = 200  # viewpoints that are looked at: which of many near ones is the nearest does not change the side


@dataclass
class Cameras:
    """Poses of a scene's frames.

    Attributes:
        camera_to_world: (F, 4, 4) float64, OpenCV axes (x right, y down, z forward), in the cloud's frame.
        extra: the file's other arrays (intrinsics, frame_index, time, image_size), kept as they are.
    """

    camera_to_world: np.ndarray
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def centers(self) -> np.ndarray:
        """(F, 3) positions."""
        return self.camera_to_world[:, :3, 3]

    def up(self) -> np.ndarray:
        """Robust mean of the cameras' up vectors (-y): (3,), its length says how well they agree (1: all the same).

        Hand-held cameras look up and down and are tilted for moments; the geometric median of the directions lets
        single frames say what they like.
        """
        ways = -self.camera_to_world[:, :3, 1]
        ways = ways / np.maximum(np.linalg.norm(ways, axis=1, keepdims=True), 1e-12)
        mean = ways.mean(axis=0)
        for _ in range(20):
            weight = 1.0 / np.maximum(np.linalg.norm(ways - mean, axis=1), 0.05)
            mean = (ways * weight[:, None]).sum(axis=0) / weight.sum()
        return mean

    def moved(self, rotation: np.ndarray, scale: float, shift: np.ndarray) -> Cameras:
        """The cameras after ``x -> scale * rotation @ x + shift``; intrinsics do not change."""
        pose = self.camera_to_world.copy()
        pose[:, :3, :3] = rotation @ pose[:, :3, :3]
        pose[:, :3, 3] = scale * self.centers @ rotation.T + shift
        return Cameras(pose, dict(self.extra))


def read_cameras(path: Path) -> Cameras | None:
    """Cameras of ``cameras.npz``; None where there is no such file or no frame has a pose.

    Raises:
        StageError: the file is damaged or its poses are no (F, 4, 4) matrices.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        pose = np.asarray(arrays.pop("camera_to_world"), dtype=np.float64)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise StageError(f"{path}: is no camera file ({error}); run the reconstruction of this scene again") from None
    if pose.ndim != 3 or pose.shape[1:] != (4, 4):
        raise StageError(f"{path}: camera_to_world has shape {pose.shape}, (F, 4, 4) is needed; reconstruct it again")
    good = np.isfinite(pose).all(axis=(1, 2))
    per_frame = ("frame_index", "time", *(["intrinsics"] if arrays.get("intrinsics", pose[0]).ndim == 3 else []))
    extra = {name: value[good] if name in per_frame else value for name, value in arrays.items()}
    return Cameras(pose[good], extra) if good.any() else None


def write_cameras(path: Path, cameras: Cameras) -> None:
    """Write ``cameras.npz``; the same cameras give the same bytes (NumPy stamps no time into it)."""
    np.savez(path, camera_to_world=cameras.camera_to_world, **cameras.extra)


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

"""The clouds and cameras of scenes, as the pages need them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_tools.clouds.io import Cloud, CloudError, read_cloud
from data_tools.drawing.pictures import hues
from data_tools.reporting.model import AREAS, Report, SceneRow
from data_tools.reporting.viewer import PointLayer, thin_rows
from data_tools.stages.files import read_json
from data_tools.stages.scene_folder import META

#: Reconstructions are in the first camera's axes (x right, y down, z forward): taken as if it looked level
CAMERA_TO_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def load_cloud(row: SceneRow, most: int) -> Cloud | None:
    """A scene's best cloud, thinned evenly to ``most`` points; None where there is none or it cannot be read."""
    if row.cloud is None:
        return None
    try:
        cloud = read_cloud(row.cloud)
    except CloudError:
        return None
    finite = np.flatnonzero(np.isfinite(cloud.coord).all(axis=1))
    if not len(finite):
        return None
    cloud = cloud.select(finite[thin_rows(len(finite), most)])
    if _is_raw(row.cloud):
        turn = CAMERA_TO_UP[:3, :3].astype(np.float32)
        cloud.coord = cloud.coord @ turn.T
        cloud.normal = None if cloud.normal is None else cloud.normal @ turn.T
    return cloud


def _is_raw(path: Path) -> bool:
    """Whether a cloud is as the reconstruction left it: in no known frame yet."""
    return path.parent.parent.name == AREAS["reconstruct"]


def layers_of(cloud: Cloud, classes: list[str] | None = None) -> list[PointLayer]:
    """Ways to see a scene: colours, normals, height, labels; those it has."""
    coord, normal = cloud.coord, cloud.normal
    layers = []
    if cloud.color is not None:
        layers.append(PointLayer("colour", coord, cloud.color, normal))
    layers.append(PointLayer("height", coord, "height", normal))
    if normal is not None:
        layers.append(PointLayer("normal", coord, "normal", normal))
    if cloud.segment is not None and len(np.unique(cloud.segment)) <= 200:
        layers.append(_labels(cloud, classes or []))
    return layers


def _labels(cloud: Cloud, classes: list[str]) -> PointLayer:
    assert cloud.segment is not None
    known, inverse = np.unique(cloud.segment, return_inverse=True)
    colors = np.where(known[:, None] < 0, np.uint8(150), hues(known))
    names = [classes[label] if 0 <= label < len(classes) else f"label {label}" for label in known]
    legend = [(str(name), color) for name, color in zip(names, colors, strict=True)]
    return PointLayer("labels", cloud.coord, colors[inverse.reshape(-1)], cloud.normal, legend)


def load_cameras(report: Report, row: SceneRow) -> np.ndarray | None:
    """Camera poses (F, 4, 4) in the frame of the scene's cloud, or None where they are not known."""
    source, meta = report.stage_folder("postprocess", row) / "cameras.npz", None
    if not source.is_file():
        source = report.stage_folder("reconstruct", row) / "cameras.npz"
        meta = read_json(row.cloud / META, dict) if row.cloud is not None and row.cloud.is_dir() else None
    raw_turn = CAMERA_TO_UP if row.cloud is not None and _is_raw(row.cloud) else np.eye(4)
    try:
        with np.load(source, allow_pickle=False) as file:
            poses = np.asarray(file["camera_to_world"], dtype=np.float64)
        if meta is not None:  # a similarity; rotations stay rotations
            transform = np.asarray(meta["transform"], dtype=np.float64)
            poses = transform @ poses
            poses[:, :3, :3] /= np.cbrt(np.linalg.det(transform[:3, :3]))
        poses = raw_turn @ poses
        return poses if poses.ndim == 3 and poses.shape[1:] == (4, 4) and np.isfinite(poses).all() else None
    except (OSError, ValueError, KeyError, EOFError):
        return None

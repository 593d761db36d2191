"""A prediction to the files of a scene: one cloud, its cameras, a few thumbnails."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_tools.clouds.io import Cloud, write_ply
from data_tools.reconstruction.base import Frames, Prediction
from data_tools.reconstruction.geometry import scale_intrinsics
from data_tools.reconstruction.masks import each_view, grid_normals

CLOUD = "cloud.ply"
THUMBNAILS = 8
THUMBNAIL_SIDE = 320


def view_quota(counts: np.ndarray, limit: int, rng: np.random.Generator) -> np.ndarray:
    """How many points each view keeps when ``limit`` of all points are drawn, each with the same chance.

    Args:
        counts: (V,) points of the views.
        limit: points to keep; 0 for all.
        rng: of the draw.

    Returns:
        (V,) int64, summing to ``min(limit, counts.sum())``.
    """
    if not limit or counts.sum() <= limit:
        return counts
    return rng.multivariate_hypergeometric(counts, limit, method="marginals")


def build_cloud(prediction: Prediction, keep: np.ndarray, limit: int, seed: int) -> Cloud:
    """The kept points of all views, with colours, confidence and normals toward the camera that saw them.

    Args:
        prediction: V views of h x w points.
        keep: (V, h, w) bool.
        limit: most points, drawn without preference for a view or a place in it; 0 for all.
        seed: of the draw.

    Returns:
        A cloud in the prediction's world, ordered by view and pixel. A point without valid neighbours has the direction
        to its camera for a normal.
    """
    rng = np.random.default_rng(seed)
    quota = view_quota(keep.sum(axis=(1, 2), dtype=np.int64), limit, rng)
    places = [_draw(np.flatnonzero(mask), wanted, rng) for mask, wanted in zip(keep, quota, strict=True)]

    def points_of(view: int) -> tuple[np.ndarray, ...]:
        place = places[view]
        grid = np.where(keep[view][..., None], prediction.points[view], 0)
        coord = grid.reshape(-1, 3)[place]
        found = grid_normals(grid, keep[view]).reshape(-1, 3)[place]
        normal = face_camera(coord, found, prediction.camera_to_world[view][:3, 3])
        color, confidence = prediction.color[view].reshape(-1, 3)[place], prediction.confidence[view].reshape(-1)[place]
        return coord.astype(np.float32), color, normal.astype(np.float32), confidence.astype(np.float32)

    empty = np.zeros((0, 3), np.float32)
    parts = [(empty, empty.astype(np.uint8), empty, empty[:, 0]), *each_view(points_of, len(prediction))]
    return Cloud(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _draw(place: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    return place[np.sort(rng.choice(len(place), wanted, replace=False))] if wanted < len(place) else place


def face_camera(points: np.ndarray, normal: np.ndarray, center: np.ndarray) -> np.ndarray:
    """(N, 3) normals on the side of the camera centre (3,); the direction to it where a normal is zero."""
    to_camera = center.astype(np.float32) - points
    to_camera /= np.maximum(np.linalg.norm(to_camera, axis=1, keepdims=True), 1e-12)
    out = np.where(np.abs(normal).sum(axis=1, keepdims=True) > 0, normal, to_camera)
    away = (out * to_camera).sum(axis=1, keepdims=True) < 0
    return np.where(away, -out, out)


def write_cameras(path: Path, prediction: Prediction, frames: Frames, size: tuple[int, int]) -> None:
    """Write ``cameras.npz``.

    ``camera_to_world`` (V, 4, 4), ``intrinsics`` (V, 3, 3) in pixels of the source's full resolution, ``frame_index``
    (V,) int64, ``time`` (V,) seconds, ``image_size`` (2,) int64 width and height of the source.
    """
    grid = prediction.points.shape[1:3]
    with path.open("wb") as file:
        np.savez(
            file,
            camera_to_world=prediction.camera_to_world.astype(np.float64),
            intrinsics=scale_intrinsics(prediction.intrinsics, grid, (size[1], size[0])),
            frame_index=frames.index[prediction.view].astype(np.int64),
            time=frames.time[prediction.view].astype(np.float64),
            image_size=np.array(size, dtype=np.int64),
        )


def write_thumbnails(folder: Path, frames: Frames) -> None:
    """Write at most 8 frames, evenly spread, as ``<frame number>.jpg`` of at most 320 pixels."""
    import cv2

    folder.mkdir()
    for row in np.unique(np.linspace(0, len(frames) - 1, THUMBNAILS).round().astype(int)):
        image = frames.images[row]
        scale = min(1.0, THUMBNAIL_SIDE / max(image.shape[:2]))
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        done, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
        if done:
            (folder / f"{frames.index[row]:06d}.jpg").write_bytes(data.tobytes())


def write_scene_files(
    folder: Path, cloud: Cloud, prediction: Prediction, frames: Frames, size: tuple[int, int]
) -> None:
    """Write ``cloud.ply``, ``cameras.npz`` and ``frames/`` into an existing folder."""
    write_ply(folder / CLOUD, cloud)
    write_cameras(folder / "cameras.npz", prediction, frames, size)
    write_thumbnails(folder / "frames", frames)

"""Cameras and pixel grids: sizes, intrinsics, depth to points, rigid poses (NumPy only).

A pixel's centre has whole-number coordinates, as in ``base``.
"""

from __future__ import annotations

import math

import numpy as np

PATCH = 14  # side of the transformers' patches


def patch_grid(height: int, width: int, pixels: int = 0, longest: int = 0) -> tuple[int, int]:
    """Image size of whole patches, with about the shape of the original.

    Args:
        height: of the image.
        width: of the image.
        pixels: most pixels (pi3: 255,000), or 0.
        longest: the longer side (VGGT: 518), or 0; exactly one of the two is given.

    Returns:
        height, width, multiples of 14.
    """
    scale = math.sqrt(pixels / (height * width)) if pixels else longest / max(height, width)
    rows, columns = (max(1, round(side * scale / PATCH)) for side in (height, width))
    while pixels and rows * columns * PATCH * PATCH > pixels and max(rows, columns) > 1:
        if columns * height > rows * width:
            columns -= 1
        else:
            rows -= 1
    return rows * PATCH, columns * PATCH


def resize_images(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """(F, H, W, 3) uint8 to (F, height, width, 3) uint8, by areas when it shrinks and cubic when it grows."""
    if images.shape[1:3] == (height, width):
        return images
    import cv2

    grows = height * width > images.shape[1] * images.shape[2]
    how = cv2.INTER_CUBIC if grows else cv2.INTER_AREA
    return np.stack([cv2.resize(image, (width, height), interpolation=how) for image in images])


def scale_intrinsics(intrinsics: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Intrinsics (..., 3, 3) of an image of ``old`` (height, width) for the image resized to ``new``."""
    vertical, horizontal = new[0] / old[0], new[1] / old[1]
    out = np.array(intrinsics, dtype=np.float64)
    out[..., 0, :] *= horizontal
    out[..., 1, :] *= vertical
    out[..., 0, 2] += (horizontal - 1) / 2  # centres are whole numbers: u + 0.5 scales, not u
    out[..., 1, 2] += (vertical - 1) / 2
    return out


def unproject(depth: np.ndarray, intrinsics: np.ndarray, camera_to_world: np.ndarray) -> np.ndarray:
    """World points of depth maps.

    Args:
        depth: (V, h, w) along the camera's z axis.
        intrinsics: (V, 3, 3) pixels.
        camera_to_world: (V, 4, 4).

    Returns:
        (V, h, w, 3) float32.
    """
    height, width = depth.shape[1:]
    points = np.empty((*depth.shape, 3), dtype=np.float32)
    pixel = np.ones((height, width, 3))
    pixel[..., 0], pixel[..., 1] = np.meshgrid(np.arange(width), np.arange(height))
    for view, (z, camera, pose) in enumerate(zip(depth, intrinsics, camera_to_world, strict=True)):
        to_world = pose[:3, :3] @ np.linalg.inv(camera)
        points[view] = (pixel @ to_world.T) * z[..., None] + pose[:3, 3]
    return points


def depth_of(points: np.ndarray, camera_to_world: np.ndarray) -> np.ndarray:
    """(h, w) depth of one view's (h, w, 3) world points along the (4, 4) camera's z axis."""
    axis = camera_to_world[:3, 2].astype(points.dtype)
    return points @ axis - np.float32(camera_to_world[:3, 3] @ camera_to_world[:3, 2])


def reproject(
    points: np.ndarray, camera_to_world: np.ndarray, intrinsics: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Where a view sees points.

    Args:
        points: (N, 3) in the world.
        camera_to_world: (4, 4) of the view.
        intrinsics: (3, 3) of the view.
        shape: (h, w) of its grid.

    Returns:
        The pixel (N,) as an index into the flat grid, -1 where the point is behind or beside the view; its depth (N,).
    """
    height, width = shape
    pose, camera = camera_to_world.astype(points.dtype), intrinsics.astype(points.dtype)
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    z = local[:, 2]
    safe = np.maximum(z, 1e-9)
    column = np.rint(local[:, 0] / safe * camera[0, 0] + camera[0, 2])
    row = np.rint(local[:, 1] / safe * camera[1, 1] + camera[1, 2])
    inside = (z > 1e-6) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return np.where(
        inside, np.where(inside, row, 0).astype(np.int64) * width + np.where(inside, column, 0).astype(np.int64), -1
    ), z


def rigid_poses(matrices: np.ndarray) -> np.ndarray:
    """(V, 4, 4) float64 poses of (V, 3, 4) or (V, 4, 4) matrices, the rotations made exact (networks give nearly so).

    Raises:
        ValueError: a matrix that is not finite or not near a rotation (for example of a diverged network).
    """
    out = np.tile(np.eye(4), (len(matrices), 1, 1))
    out[:, :3] = np.asarray(matrices, dtype=np.float64)[:, :3]
    if not np.isfinite(out).all():
        raise ValueError("poses are not finite; try --dtype fp32 or fewer frames")
    left, scale, right = np.linalg.svd(out[:, :3, :3])
    if len(out) and np.abs(scale - 1).max() > 0.05:
        raise ValueError(f"poses are not rigid (a rotation stretches by {scale.max():.2f}); check the weights")
    left[:, :, 2] *= np.linalg.det(left @ right)[:, None]
    out[:, :3, :3] = left @ right
    return out


def invert_poses(poses: np.ndarray) -> np.ndarray:
    """World-to-camera to camera-to-world, or back; (V, 4, 4)."""
    out = np.tile(np.eye(4), (len(poses), 1, 1))
    out[:, :3, :3] = poses[:, :3, :3].transpose(0, 2, 1)
    out[:, :3, 3] = -np.einsum("vij,vj->vi", out[:, :3, :3], poses[:, :3, 3])
    return out


def fit_intrinsics(local: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Intrinsics that explain camera-frame points at the pixels they stand at.

    Least squares of ``u = fx x/z + cx`` and ``v = fy y/z + cy``. Where a view has too few valid pixels, all count.

    Args:
        local: (V, h, w, 3) points in camera axes.
        valid: (V, h, w) bool.

    Returns:
        (V, 3, 3) float64.
    """
    height, width = local.shape[1:3]
    row, column = (grid.astype(np.float64) for grid in np.mgrid[:height, :width])
    out = np.tile(np.eye(3), (len(local), 1, 1))
    for view, (points, good) in enumerate(zip(local, valid, strict=True)):
        usable = np.isfinite(points).all(axis=-1) & (points[..., 2] > 1e-6)
        used = usable & good if (usable & good).sum() >= 100 else usable
        z = points[..., 2][used].astype(np.float64)
        out[view, 0, 0], out[view, 0, 2] = _line(points[..., 0][used] / z, column[used], width)
        out[view, 1, 1], out[view, 1, 2] = _line(points[..., 1][used] / z, row[used], height)
    return out


def _line(ray: np.ndarray, pixel: np.ndarray, side: int) -> tuple[float, float]:
    """Slope and offset of pixel over ray; a 60 degree lens where the rays tell nothing."""
    spread = np.var(ray) if len(ray) >= 10 else 0.0
    if not spread > 1e-8:
        return float(side), (side - 1) / 2
    slope = float(np.mean((ray - ray.mean()) * (pixel - pixel.mean())) / spread)
    if not slope > 1e-3:
        return float(side), (side - 1) / 2
    return slope, float(pixel.mean() - slope * ray.mean())

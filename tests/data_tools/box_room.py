"""A room that is a box, seen by cameras in it, in closed form; and stand-ins for networks that predict it perfectly."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

SIZE = np.array([4.0, 5.0, 2.6])


def camera_poses(count: int, seed: int = 0) -> np.ndarray:
    """(count, 4, 4) camera-to-world poses: a person who walks and turns; z up, OpenCV axes."""
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    for view, turn in enumerate(np.linspace(0.3, 5.8, count)):
        forward = np.array([np.cos(turn), np.sin(turn), rng.uniform(-0.5, 0.2)])
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        poses[view, :3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
        poses[view, :3, 3] = SIZE / 2 + [np.cos(turn), np.sin(turn), 0.1 * np.sin(5 * turn)]
    return poses


def render(pose: np.ndarray, camera: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth (h, w) along z and colour (h, w, 3) uint8 of the walls; pixel centres at whole numbers."""
    pixel = np.ones((height, width, 3))
    pixel[..., 0], pixel[..., 1] = np.meshgrid(np.arange(width), np.arange(height))
    ray = pixel @ np.linalg.inv(camera).T @ pose[:3, :3].T
    with np.errstate(divide="ignore"):
        depth = np.where(ray > 0, SIZE - pose[:3, 3], -pose[:3, 3]) / ray
    depth = depth.min(axis=-1)
    point = pose[:3, 3] + ray * depth[..., None]
    checker = ((np.floor(point / 0.25 + 1e-6).sum(axis=-1) % 2) * 90 + 80)[..., None]
    return depth, np.clip(checker + point * 15, 0, 255).astype(np.uint8)


def lens(height: int, width: int, middle: bool = False) -> np.ndarray:
    """Intrinsics of 75 degrees across; the principal point at (w - 1) / 2, or at w / 2 with ``middle``."""
    focal = width / 2 / np.tan(np.radians(75) / 2)
    shift = 0 if middle else 1
    return np.array([[focal, 0, (width - shift) / 2], [0, focal, (height - shift) / 2], [0, 0, 1]])


def wall_distance(points: np.ndarray) -> np.ndarray:
    """(N,) distance of points to the box's surface."""
    outside = np.linalg.norm(np.maximum(np.abs(points - SIZE / 2) - SIZE / 2, 0), axis=1)
    inside = np.minimum(points, SIZE - points).min(axis=1)
    return np.where(inside >= 0, inside, outside)


def wall_normal(points: np.ndarray) -> np.ndarray:
    """(N, 3) normals into the room of the walls nearest to the points."""
    both = np.concatenate([points, SIZE - points], axis=1)
    return np.concatenate([np.eye(3), -np.eye(3)])[np.argmin(np.abs(both), axis=1)]


class PerfectPi3:
    """Gives what Pi3's forward gives: camera-frame points, world points, logits, camera-to-world poses."""

    def __init__(self, poses: np.ndarray) -> None:
        self.poses, self.seen = poses, {}

    def __call__(self, images: torch.Tensor, **given: object) -> dict[str, torch.Tensor]:
        _, count, _, height, width = images.shape
        self.seen = {"shape": tuple(images.shape), **given}
        camera = lens(height, width)
        local = np.empty((count, height, width, 3))
        row, column = np.mgrid[:height, :width]
        for view in range(count):
            z, _ = render(self.poses[view], camera, height, width)
            local[view] = np.stack([column - camera[0, 2], row - camera[1, 2], np.full_like(z, camera[0, 0])], -1)
            local[view] *= (z / camera[0, 0])[..., None]
        world = np.einsum("vij,vhwj->vhwi", self.poses[:count, :3, :3], local) + self.poses[:count, None, None, :3, 3]
        logit = np.full((count, height, width, 1), 3.0)
        logit[:, :, :2] = -4.0  # two columns the network is not sure of
        world[:, :, :2] += 5.0
        values = {"local_points": local, "points": world, "conf": logit, "camera_poses": self.poses[:count]}
        return {name: torch.from_numpy(np.asarray(value)).float()[None] for name, value in values.items()}


class PerfectVggt:
    """Gives what VGGT's forward gives: depth, a confidence above 1, a code of world-to-camera poses."""

    def __init__(self, poses: np.ndarray) -> None:
        self.poses = poses

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        count, _, height, width = images.shape
        camera = lens(height, width, middle=True)
        depth = np.stack([render(pose, camera, height, width)[0] for pose in self.poses[:count]])
        inverse = np.linalg.inv(self.poses[:count])
        quaternion = Rotation.from_matrix(inverse[:, :3, :3]).as_quat()
        field = 2 * np.arctan([height / 2 / camera[1, 1], width / 2 / camera[0, 0]])
        code = np.concatenate([inverse[:, :3, 3], quaternion, np.tile(field, (count, 1))], axis=1)
        values = {"depth": depth[..., None], "depth_conf": 1 + np.exp(-depth), "pose_enc": code}
        return {name: torch.from_numpy(value).float()[None] for name, value in values.items()}


class PerfectDepthAnything:
    """Gives what ``DepthAnything3.inference`` gives: depth, conf, world-to-camera extrinsics, intrinsics."""

    def __init__(self, poses: np.ndarray, rows: int = 3) -> None:
        self.poses, self.rows = poses, rows

    def inference(self, images: list[np.ndarray], process_res: int, use_ray_pose: bool) -> SimpleNamespace:
        assert all(isinstance(image, np.ndarray) and image.dtype == np.uint8 for image in images)
        count, (height, width) = len(images), images[0].shape[:2]
        scale = process_res / max(height, width)
        height, width = (round(side * scale / 14) * 14 for side in (height, width))
        camera = lens(height, width, middle=True)
        depth = np.stack([render(pose, camera, height, width)[0] for pose in self.poses[:count]])
        return SimpleNamespace(
            depth=depth.astype(np.float32),
            conf=(1 + np.exp(-depth)).astype(np.float32),
            extrinsics=np.linalg.inv(self.poses[:count])[:, : self.rows].astype(np.float32),
            intrinsics=np.tile(camera, (count, 1, 1)).astype(np.float32),
            sky=None,
            is_metric=0,
        )

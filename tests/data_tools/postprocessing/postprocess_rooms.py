"""Rooms with known truth for the tests of the post-processing: noisy points, hand-held cameras, any frame."""

import numpy as np
from scipy.spatial.transform import Rotation

from data_tools.clouds.io import Cloud
from data_tools.postprocessing.cameras import Cameras
from tests.rooms import synthetic_room


def hand_held(places, seed=0, upside_down=False):
    """Cameras at ``places`` (F, 3) that look around, up and down, and are tilted a little; OpenCV axes, z up."""
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (len(places), 1, 1))
    for pose, place in zip(poses, places, strict=True):
        heading, pitch, roll = rng.uniform(0, 2 * np.pi), rng.normal(-0.15, 0.25), rng.normal(0, 0.08)
        forward = np.array([np.cos(heading) * np.cos(pitch), np.sin(heading) * np.cos(pitch), np.sin(pitch)])
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
        pose[:3, :3] = pose[:3, :3] @ Rotation.from_rotvec([0, 0, roll + np.pi * upside_down]).as_matrix()
        pose[:3, 3] = place
    count = len(places)
    extra = {"frame_index": np.arange(count), "time": np.arange(count) / 2.0, "image_size": np.array([640, 480])}
    return Cameras(poses, extra)


def room(index=0, noise="pi3", points=60_000, seed=11, upside_down=False):
    """Cloud and cameras of a synthetic room, z up, metres; and the room's true size."""
    cloud, extra = synthetic_room(index, seed=seed, noise=noise, points=points, views=12)
    cloud = cloud.select(np.arange(len(cloud)))  # a copy: tests change it
    cloud.segment = cloud.instance = None
    cloud.confidence = np.linspace(0.2, 1, len(cloud), dtype=np.float32)
    return cloud, hand_held(np.array(extra["cameras"]), index, upside_down), extra["room_size"]


def moved(cloud, cameras, turn, scale=1.0, shift=(0.0, 0.0, 0.0)):
    """Cloud and cameras in another frame."""
    coord = (scale * cloud.coord.astype(np.float64) @ turn.T + np.asarray(shift)).astype(np.float32)
    normal = None if cloud.normal is None else (cloud.normal @ turn.T).astype(np.float32)
    out = Cloud(coord, cloud.color, normal, cloud.confidence)
    return out, None if cameras is None else cameras.moved(turn, scale, np.asarray(shift, dtype=float))

"""A hand-held walk: around one room, through the doorway, around the other, and back as long as time lasts.

The camera looks over the room's middle while it walks around it, so that it moves sideways to what it sees and every
wall gets parallax; near the doorway it looks ahead. Steps bob it, hands shake it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_tools.synthetic.walkthrough.flat import RING, Flat

STEP = 0.02  # metres between samples of the path
EYE = 1.5  # metres
CORNER = 0.22  # metres over which corners of the way are rounded
LOOK = 1.5  # seconds over which the gaze turns
VISIT = 30.0  # seconds that a round of a room should come near
FASTEST = 0.6  # m/s; a walk that is too short for its rounds ends on the way
PITCH = -0.15  # radians
STEP_RATE = 1.8  # steps a second


@dataclass(frozen=True)
class Walk:
    """Poses of a walk.

    Attributes:
        camera_to_world: (F, 4, 4) float64, OpenCV axes, metres, z up.
        time: (F,) float64 seconds.
        zone: (F,) int64: number of the room.
        crossings: times at which the camera passes the doorway, in order.
        speed: mean speed in m/s.
    """

    camera_to_world: np.ndarray
    time: np.ndarray
    zone: np.ndarray
    crossings: list[float]
    speed: float


def plan_walk(flat: Flat, seconds: float, fps: float, seed: int) -> Walk:
    """The poses of every frame.

    Args:
        seconds: length of the walk; every `VISIT` of them pay for a round of a room, first, second, first again ...
        seed: of shake, sway and direction.
    """
    rng = np.random.default_rng([seed, 11])
    path = _path(flat, max(1, round(seconds / VISIT)), rng)
    length = _lengths(path)
    total = min(length[-1], seconds * FASTEST)
    time = np.arange(max(2, round(seconds * fps))) / fps
    # uneven steps: a slow sway of the pace that never walks backwards
    share = time / time[-1]
    sway = sum(
        np.sin(2 * np.pi * (k * share + rng.random())) * rng.uniform(0.1, 0.25) / (2 * np.pi * k) for k in (3, 7)
    )
    share = share + sway - (sway[0] * (1 - share) + sway[-1] * share)
    place = np.maximum.accumulate(np.clip(share, 0, 1)) * total
    position = _at(path, length, place)
    yaw = _gaze(flat, path, place, position, fps, rng)
    zone = (position[:, 0] > flat.door.x).astype(np.int64)
    after = np.flatnonzero(np.diff(zone)) + 1
    x, x_before = position[after, 0], position[after - 1, 0]
    crossings = time[after - 1] + (flat.door.x - x_before) / (x - x_before) / fps
    poses = _poses(position, yaw, time, fps, rng)
    return Walk(poses, time, zone, crossings.tolist(), float(total / time[-1]))


def _path(flat: Flat, visits: int, rng: np.random.Generator) -> np.ndarray:
    """The way (K, 2) metres at even steps, corners rounded: rounds of the rooms in turn, each from its ring's gate."""
    from scipy.ndimage import gaussian_filter1d

    gates = [np.array([[flat.door.x0 - RING, flat.door.y]]), np.array([[flat.door.x1 + RING, flat.door.y]])]
    parts = []
    for visit in range(visits):
        corners = flat.rooms[visit % 2].ring()
        corners = np.roll(corners, -2, axis=0) if visit % 2 == 0 else corners[::-1]  # first what lies after the gate
        corners = corners if rng.random() < 0.5 else corners[::-1]
        parts += [gates[visit % 2], corners, gates[visit % 2]]
    path = _resample(np.concatenate(parts))
    return _resample(gaussian_filter1d(path, CORNER / STEP, axis=0, mode="nearest"))


def _lengths(path: np.ndarray) -> np.ndarray:
    """Metres (K,) walked at every point of a path."""
    return np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])


def _at(values: np.ndarray, length: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Values (K, 2) given along a path, at other places of it."""
    return np.stack([np.interp(place, length, values[:, i]) for i in range(2)], axis=1)


def _resample(path: np.ndarray) -> np.ndarray:
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    path = path[np.concatenate([[True], steps > 1e-6])]
    length = _lengths(path)
    return _at(path, length, np.linspace(0, length[-1], max(2, int(length[-1] / STEP) + 1)))


def _gaze(
    flat: Flat, path: np.ndarray, place: np.ndarray, position: np.ndarray, fps: float, rng: np.random.Generator
) -> np.ndarray:
    """Yaw (F,) radians: ahead near the doorway, across the room elsewhere."""
    from scipy.ndimage import gaussian_filter1d

    tangent = np.gradient(gaussian_filter1d(path, 0.3 / STEP, axis=0, mode="nearest"), axis=0)
    ahead = _at(tangent, _lengths(path), place)
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    look = ahead.copy()
    for placed in flat.rooms:
        x0, y0, x1, y1 = placed.bounds()
        inside = (position[:, 0] > x0) & (position[:, 0] < x1)
        across = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) - position[inside]
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        away = np.linalg.norm(position[inside] - (flat.door.x, flat.door.y), axis=1)
        weight = np.clip((1.5 - away) / 0.7, 0, 1)[:, None]
        look[inside] = weight * ahead[inside] + (1 - weight) * across
    yaw = np.unwrap(np.arctan2(look[:, 1], look[:, 0]))
    yaw = gaussian_filter1d(yaw, LOOK * fps, mode="nearest")
    time = np.arange(len(yaw)) / fps
    return yaw + 0.22 * np.sin(2 * np.pi * (time / 6.5 + rng.random()))


def _poses(position: np.ndarray, yaw: np.ndarray, time: np.ndarray, fps: float, rng: np.random.Generator) -> np.ndarray:
    """Poses (F, 4, 4) with bobbing and shake added."""
    from scipy.ndimage import gaussian_filter1d

    def shake(amount: float, seconds: float) -> np.ndarray:
        field = rng.standard_normal((len(time), 3))
        width = max(seconds * fps, 0.3)
        # a filtered white noise has variance 1 / (2 sqrt(pi) width)
        return amount * gaussian_filter1d(field, width, axis=0, mode="nearest") * np.sqrt(2 * np.sqrt(np.pi) * width)

    turn = shake(np.deg2rad(0.8), 0.35) + shake(np.deg2rad(0.10), 0.06)
    move = shake(0.008, 0.4)
    stride = 2 * np.pi * (STEP_RATE * time + rng.random())
    yaw = yaw + turn[:, 0]
    pitch = PITCH + 0.17 * np.sin(2 * np.pi * (time / 8.3 + rng.random())) + turn[:, 1]
    roll = 0.5 * turn[:, 2] + np.deg2rad(0.4) * np.sin(stride / 2)
    center = np.column_stack([position, np.full(len(time), EYE)]) + move
    center[:, 2] += 0.016 * np.sin(stride)
    center[:, :2] += (0.012 * np.sin(stride / 2))[:, None] * np.column_stack([-np.sin(yaw), np.cos(yaw)])
    return look_poses(center, yaw, pitch, roll)


def look_poses(center: np.ndarray, yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Camera-to-world (F, 4, 4), OpenCV axes: centres (F, 3); yaw about z from x, pitch up, roll clockwise, radians."""
    cos, sin = np.cos(pitch), np.sin(pitch)
    forward = np.column_stack([np.cos(yaw) * cos, np.sin(yaw) * cos, sin])
    right = np.column_stack([np.sin(yaw), -np.cos(yaw), np.zeros(len(yaw))])
    down = np.cross(forward, right)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    poses = np.tile(np.eye(4), (len(center), 1, 1))
    poses[:, :3, 0], poses[:, :3, 1] = c * right + s * down, c * down - s * right
    poses[:, :3, 2], poses[:, :3, 3] = forward, center
    return poses

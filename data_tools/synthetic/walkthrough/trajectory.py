"""A hand-held walk: from the street through the front door and once around every room, looking across it.

The camera looks over the room's middle while it walks around it, so that it moves sideways to what it sees and every
wall gets parallax; near a doorway it looks ahead. Steps bob it, hands shake it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from data_tools.synthetic.walkthrough.apartment import Apartment
from data_tools.synthetic.walkthrough.walkable import FreeSpace

STEP = 0.02  # metres between samples of the path
EYE = 1.5  # metres
CORNER = 0.22  # metres over which corners of the way are rounded
LOOK = 1.5  # seconds over which the gaze turns
PACE = 0.45  # m/s that a walk should come near
ROUNDS = (
    (0, 0.5),
    (1, 0.6),
    (1, 0.5),
    (1, 0.4),
    (1, 0.3),
    (2, 0.6),
    (2, 0.5),
)  # times around a room, share of the way out to its walls
PITCH = -0.15  # radians
STEP_RATE = 1.8  # steps a second


@dataclass(frozen=True)
class Walk:
    """Poses of a walk.

    Attributes:
        camera_to_world: (F, 4, 4) float64, OpenCV axes, metres, z up.
        time: (F,) float64 seconds.
        zone: (F,) int64: 0 outdoors, 1.. rooms.
        crossings: time at which the camera passes each doorway, in order.
        speed: mean speed in m/s.
    """

    camera_to_world: np.ndarray
    time: np.ndarray
    zone: np.ndarray
    crossings: list[float]
    speed: float


def plan_walk(apartment: Apartment, seconds: float, fps: float, seed: int) -> Walk:
    """The poses of every frame.

    Args:
        apartment: where to walk.
        seconds: length of the walk.
        fps: frames a second.
        seed: of shake, sway and direction.

    Raises:
        ValueError: a room that cannot be walked through.
    """
    rng = np.random.default_rng([seed, 11])
    clockwise = rng.random(len(apartment.rooms)) < 0.5
    path = _choose_path(apartment, clockwise, seconds)
    count = max(2, round(seconds * fps))
    time = np.arange(count) / fps
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    # uneven steps: a slow sway of the pace that never walks backwards
    share = time / time[-1]
    sway = sum(
        np.sin(2 * np.pi * (k * share + rng.random())) * rng.uniform(0.1, 0.25) / (2 * np.pi * k) for k in (3, 7)
    )
    share = share + sway - (sway[0] * (1 - share) + sway[-1] * share)
    place = np.maximum.accumulate(np.clip(share, 0, 1)) * length[-1]
    position = np.stack([np.interp(place, length, path[:, i]) for i in range(2)], axis=1)
    yaw = _gaze(apartment, path, length, place, position, fps, rng)
    crossings = [_crossing(time, position[:, 0], doorway.x) for doorway in apartment.doorways]
    zone = np.searchsorted(crossings, time, side="right").astype(np.int64)
    poses = _poses(position, yaw, time, fps, rng)
    return Walk(poses, time, zone, crossings, float(length[-1] / time[-1]))


def _choose_path(apartment: Apartment, clockwise: np.ndarray, seconds: float) -> np.ndarray:
    """The way whose pace is nearest to a person's; straight through only where time is too short for a round."""
    paths = [_path(apartment, clockwise, laps, share) for laps, share in ROUNDS]
    speeds = np.array([_length(path) / seconds for path in paths])
    return paths[int(np.argmin(np.abs(np.log(speeds / PACE))))]


def _path(apartment: Apartment, clockwise: np.ndarray, laps: int, share: float) -> np.ndarray:
    """The way (K, 2) metres at even steps, corners rounded."""
    from scipy.ndimage import gaussian_filter1d

    front = apartment.doorways[0]
    parts = [np.array([[front.x0 - 3.2, front.y + 0.9], [front.x0 - 0.9, front.y], [front.x1 + 0.3, front.y]])]
    for number, placed in enumerate(apartment.rooms):
        space = FreeSpace(placed.bounds(), placed.obstacles())
        entry = space.cell((apartment.doorways[number].x1 + 0.4, apartment.doorways[number].y))
        stops = [entry]
        ring = [cell for cell in space.ring(entry, share) if cell is not None]
        if ring and laps:
            ring = ring[::-1] if clockwise[number] else ring
            first = int(np.argmin([np.hypot(cell[0] - entry[0], cell[1] - entry[1]) for cell in ring]))
            ring = ring[first:] + ring[:first]
            stops += (ring * laps) + ring[:1]
        elif ring:
            stops.append(ring[len(ring) // 2])
        if number + 1 < len(apartment.rooms):
            door = apartment.doorways[number + 1]
            stops.append(space.cell((door.x0 - 0.4, door.y)))
        for start, end in pairwise(stops):
            if start != end:
                parts.append(space.way(start, end))
        if number + 1 < len(apartment.rooms):
            parts.append(np.array([[door.x0 - 0.3, door.y], [door.x1 + 0.3, door.y]]))
    path = _resample(np.concatenate(parts))
    padded = gaussian_filter1d(path, CORNER / STEP, axis=0, mode="nearest")
    return _resample(padded)


def _length(path: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def _resample(path: np.ndarray) -> np.ndarray:
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    path = path[np.concatenate([[True], steps > 1e-6])]
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    at = np.linspace(0, length[-1], max(2, int(length[-1] / STEP) + 1))
    return np.stack([np.interp(at, length, path[:, i]) for i in range(2)], axis=1)


def _gaze(
    apartment: Apartment,
    path: np.ndarray,
    length: np.ndarray,
    place: np.ndarray,
    position: np.ndarray,
    fps: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Yaw (F,) radians: ahead near doorways, across the room elsewhere."""
    from scipy.ndimage import gaussian_filter1d

    tangent = np.gradient(gaussian_filter1d(path, 0.3 / STEP, axis=0, mode="nearest"), axis=0)
    ahead = np.stack([np.interp(place, length, tangent[:, i]) for i in range(2)], axis=1)
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    look = ahead.copy()
    for placed in apartment.rooms:
        x0, y0, x1, y1 = placed.bounds()
        inside = (position[:, 0] > x0) & (position[:, 0] < x1)
        away = np.minimum(position[inside, 0] - x0, np.inf)
        middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
        across = middle - position[inside]
        distance = np.linalg.norm(across, axis=1, keepdims=True)
        across = np.where(distance > 0.15, across / np.maximum(distance, 1e-9), ahead[inside])
        doors = [np.array([d.x, d.y]) for d in apartment.doorways if x0 - 0.5 < d.x < x1 + 0.5]
        away = np.min([np.linalg.norm(position[inside] - door, axis=1) for door in doors], axis=0)
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


def _crossing(time: np.ndarray, x: np.ndarray, plane: float) -> float:
    """When the camera first passes a plane of constant x, between frames by interpolation; infinity if it does not."""
    after = np.flatnonzero(x > plane)
    if not len(after):
        return float("inf")
    i = max(int(after[0]), 1)
    return float(time[i - 1] + (plane - x[i - 1]) / (x[i] - x[i - 1]) * (time[i] - time[i - 1]))

"""Which views see a view well, and which of the depths found the other views agree with.

The geometric check is the forward-backward one of Schönberger et al., "Pixelwise View Selection for Unstructured
Multi-View Stereo", ECCV 2016 (section 4.4), on depth maps alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_tools.reconstruction.depth_sweep import DepthMap, View, relative_pose
from data_tools.reconstruction.sfm_poses import PosedFrames

BEST_ANGLE = (5.0, 14.0)  # degrees between rays where depth is sharp and windows still look alike
MIN_SHARED = 12  # sparse points
LEAST_WEIGHT = 0.1  # mean weight of the shared points: about 0.7 degrees


def choose_sources(posed: PosedFrames, count: int) -> list[list[int]]:
    """For each view the views that see its sparse points under a useful angle, best first.

    A view's score is the sum over shared points of a weight that is 1 for angles within `BEST_ANGLE` and falls off
    on both sides (the weighting of Yao et al., "MVSNet", ECCV 2018, section 4.1). A rotation on the spot scores 0.
    """
    views = len(posed.view)
    centres = posed.camera_to_world[:, :3, 3]
    points_of = [np.unique(posed.point_index[posed.view_index == view]) for view in range(views)]
    chosen = []
    for view in range(views):
        scores = []
        for other in range(views):
            shared = np.intersect1d(points_of[view], points_of[other], assume_unique=True) if other != view else []
            if len(shared) >= MIN_SHARED:
                score = float(_angle_weight(posed.points[shared], centres[view], centres[other]).sum())
                if score > LEAST_WEIGHT * len(shared):
                    scores.append((-score, other))
        chosen.append(_spread([other for _, other in sorted(scores)], centres, view, count))
    return chosen


def _angle_weight(points: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    a, b = points - first, points - second
    cosine = (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    low, high = BEST_ANGLE
    spread = np.where(angle < low, low / 2.5, 12.0)
    return np.exp(-(((angle - np.clip(angle, low, high)) / spread) ** 2) / 2)


def _spread(ranked: list[int], centres: np.ndarray, view: int, count: int) -> list[int]:
    """The best ones, without two from nearly the same place while others are left."""
    taken: list[int] = []
    for other in ranked:
        reach = np.linalg.norm(centres[other] - centres[view])
        if all(np.linalg.norm(centres[other] - centres[t]) > 0.25 * reach for t in taken):
            taken.append(other)
        if len(taken) == count:
            return taken
    return (taken + [other for other in ranked if other not in taken])[:count]


def depth_range(posed: PosedFrames, view: int) -> tuple[float, float] | None:
    """Nearest and farthest depth to search, from the sparse points seen by the view; None with too few."""
    seen = np.unique(posed.point_index[posed.view_index == view])
    pose = posed.camera_to_world[view]
    depth = (posed.points[seen] - pose[:3, 3]) @ pose[:3, 2]
    depth = depth[depth > 0]
    if len(depth) < MIN_SHARED:
        return None
    near, far = np.quantile(depth, [0.01, 0.98])
    return float(near) * 0.7, float(far) * 1.6


def plane_count(view: View, sources: Sequence[View], near: float, far: float, least: int, most: int) -> int:
    """Planes so that neighbouring ones lie about a pixel apart in the sources."""
    spread = 0.0
    for source in sources:
        rotation, shift = relative_pose(view, source)
        height, width = view.gray.shape
        ray = np.linalg.inv(view.matrix) @ [width / 2, height / 2, 1.0]
        ends = [source.matrix @ (rotation @ ray * z + shift) for z in (near, far)]
        if min(end[2] for end in ends) > 1e-6:
            spread = max(spread, float(np.linalg.norm(ends[0][:2] / ends[0][2] - ends[1][:2] / ends[1][2])))
    return int(np.clip(spread * 1.1, least, most))


def fuse_depths(
    views: Sequence[View],
    maps: Sequence[DepthMap],
    sources: Sequence[Sequence[int]],
    view: int,
    max_pixels: float = 1.0,
    max_relative: float = 0.012,
) -> tuple[np.ndarray, np.ndarray]:
    """Depths of a view that other views' depth maps confirm, averaged with theirs.

    A depth is confirmed by another view when the point, moved to that view, onto the depth found there, and back, lands
    within ``max_pixels`` of where it began and within ``max_relative`` of its depth.

    Returns:
        depth: (h, w) float32 mean of the agreeing inverse depths, 0 where none was found;
        count: (h, w) uint8 number of views that agree.
    """
    import cv2

    depth = maps[view].depth
    height, width = depth.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(views[view].matrix).T.astype(np.float32)
    total = np.where(depth > 0, 1 / np.maximum(depth, 1e-9), 0)
    count = np.zeros(depth.shape, np.uint8)
    for other in sources[view]:
        rotation, shift = (part.astype(np.float32) for part in relative_pose(views[view], views[other]))
        point = (rays * depth[..., None]) @ rotation.T + shift
        z = np.maximum(point[..., 2], 1e-6)
        matrix = views[other].matrix.astype(np.float32)
        u, v = point[..., 0] / z * matrix[0, 0] + matrix[0, 2], point[..., 1] / z * matrix[1, 1] + matrix[1, 2]
        there = cv2.remap(maps[other].depth, u, v, cv2.INTER_NEAREST)
        rays_there = (np.stack([np.rint(u), np.rint(v), np.ones_like(u)], -1)) @ np.linalg.inv(matrix).T
        back = (rays_there * there[..., None] - shift) @ rotation
        z_back = np.maximum(back[..., 2], 1e-6)
        matrix = views[view].matrix.astype(np.float32)
        # the nearest pixel there is up to 0.5 pixel off the point: take that shift off both ends of the trip
        du = back[..., 0] / z_back * matrix[0, 0] + matrix[0, 2] - x
        dv = back[..., 1] / z_back * matrix[1, 1] + matrix[1, 2] - y
        agree = (depth > 0) & (there > 0) & (point[..., 2] > 0) & (du * du + dv * dv < (max_pixels + 0.7) ** 2)
        agree &= np.abs(z_back - depth) < max_relative * depth
        total += np.where(agree, 1 / z_back, 0)
        count += agree
    mean = (1 + count) / np.maximum(total, 1e-9)
    return np.where(depth > 0, mean, 0).astype(np.float32), count

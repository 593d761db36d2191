"""Which points of a prediction are kept: confidence, jumps of depth, border, sky, given masks, things that move."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from data_tools.reconstruction.base import Frames, Prediction, ReconstructSettings
from data_tools.reconstruction.geometry import depth_of, reproject
from data_tools.stages.record import StageError

NORMAL_TOLERANCE = 5.0  # degrees between neighbours, above which a jump of depth counts as an edge
NEIGHBOUR_STEPS = (-8, -4, -2, -1, 1, 2, 4, 8)  # views that say whether something is still there
SEEN_THROUGH = 0.1  # relative depth behind a point that a view must see to speak against it
THREADS = 4
Result = TypeVar("Result")
STEP = ((-1, 0), (0, -1), (1, 0), (0, 1))


def each_view(work: Callable[[int], Result], views: int) -> list[Result]:
    """What a function gives for every view, in order; views are worked on beside one another: a GPU waits for it."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(views)))


def keep_masks(prediction: Prediction, frames: Frames, settings: ReconstructSettings) -> tuple[np.ndarray, dict]:
    """The mask of all points to keep, and the share that each rule dropped.

    Returns:
        (V, h, w) bool; shares in [0, 1] of all points, by rule, each of what the rules before it left.
    """
    total = max(1, prediction.valid.size)
    keep = np.stack([v & np.isfinite(p).all(axis=-1) for v, p in zip(prediction.valid, prediction.points, strict=True)])
    dropped = {"invalid": round(1 - int(keep.sum()) / total, 4)}
    threshold = prediction.min_confidence if settings.confidence is None else settings.confidence

    def drop(name: str, good: np.ndarray) -> None:
        nonlocal keep
        before = int(keep.sum())
        keep &= good
        dropped[name] = round((before - int(keep.sum())) / total, 4)

    if threshold > 0:
        drop("confidence", prediction.confidence > threshold)
    if settings.edge != "none":
        drop("edge", ~_edges(prediction, keep, settings))
    if settings.border:
        drop("border", border_mask(keep.shape, settings.border))
    if settings.sky == "color":
        drop("sky", ~np.stack([sky_by_color(image) for image in prediction.color]))
    if settings.mask_folder:
        drop("mask", given_masks(Path(settings.mask_folder), frames.index[prediction.view], keep.shape[1:]))
    if settings.dynamic:
        drop("dynamic", ~moving_points(prediction, keep))
    return keep, dropped


def _edges(prediction: Prediction, keep: np.ndarray, settings: ReconstructSettings) -> np.ndarray:
    rule = prediction.edge if settings.edge == "auto" else settings.edge

    def work(view: int) -> np.ndarray:
        points = np.where(keep[view][..., None], prediction.points[view], 0)
        depth = depth_of(points, prediction.camera_to_world[view])
        out = depth_edges(depth, keep[view], settings.edge_tolerance)
        return out & normal_edges(grid_normals(points, keep[view])) if rule == "normal" else out

    return np.stack(each_view(work, len(prediction))) if len(prediction) else np.empty(keep.shape, dtype=bool)


def depth_edges(depth: np.ndarray, valid: np.ndarray, tolerance: float) -> np.ndarray:
    """Pixels in whose 3 x 3 neighbourhood depth differs by more than ``tolerance`` of their own depth.

    Args:
        depth: (h, w); only valid pixels count.
        valid: (h, w) bool.
        tolerance: relative, 0.03 in pi3 and RoomTours.

    Returns:
        (h, w) bool.
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    high = maximum_filter(np.where(valid, depth, -np.inf), size=3, mode="constant", cval=-np.inf)
    low = minimum_filter(np.where(valid, depth, np.inf), size=3, mode="constant", cval=np.inf)
    return valid & (high - low > tolerance * depth)


def grid_normals(points: np.ndarray, valid: np.ndarray, smooth: int = 3) -> np.ndarray:
    """Normals of a grid of points from cross products of neighbours, toward the camera.

    In camera axes right x down points away from the camera, so the order of the products alone gives the side. Every
    product counts with its area; products of a ``smooth`` x ``smooth`` neighbourhood are added.

    Args:
        points: (h, w, 3), finite.
        valid: (h, w) bool.
        smooth: odd; 1 for none.

    Returns:
        (h, w, 3) float32 unit normals, zero where no triangle of valid neighbours is.
    """
    from scipy.ndimage import uniform_filter

    padded = np.pad(points.astype(np.float32), ((1, 1), (1, 1), (0, 0)))
    good = np.pad(valid, 1)
    height, width = valid.shape
    arms = [padded[1 + r : 1 + r + height, 1 + c : 1 + c + width] - points for r, c in STEP]
    there = [good[1 + r : 1 + r + height, 1 + c : 1 + c + width] & valid for r, c in STEP]
    total = np.zeros((height, width, 3), np.float32)
    for one in range(4):
        other = (one + 1) % 4
        both = there[one] & there[other]
        total += np.where(both[..., None], np.cross(arms[one], arms[other]), 0)  # up x left, left x down, ...
    if smooth > 1:
        total = np.stack([uniform_filter(total[..., axis], smooth, mode="constant") for axis in range(3)], axis=-1)
    length = np.linalg.norm(total, axis=-1, keepdims=True)
    usable = valid[..., None] & (length > 0)
    return np.divide(total, length, out=np.zeros_like(total), where=usable)


def normal_edges(normal: np.ndarray, tolerance: float = NORMAL_TOLERANCE) -> np.ndarray:
    """Pixels near (within 2) a pair of neighbours whose normals (h, w, 3) differ by more than ``tolerance`` degrees."""
    from scipy.ndimage import binary_dilation

    known = np.abs(normal).sum(axis=-1) > 0
    limit = np.cos(np.radians(tolerance))
    bent = np.zeros(known.shape, dtype=bool)
    for axis in (0, 1):
        first, second = [slice(None)] * 2, [slice(None)] * 2
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        a, b = tuple(first), tuple(second)
        differ = known[a] & known[b] & ((normal[a] * normal[b]).sum(axis=-1) < limit)
        bent[a] |= differ
        bent[b] |= differ
    return binary_dilation(bent, np.ones((3, 3), bool), iterations=2) | ~known


def border_mask(shape: tuple[int, ...], border: int) -> np.ndarray:
    """(V, h, w) bool, False within ``border`` pixels of a side."""
    out = np.zeros(shape, dtype=bool)
    out[:, border : shape[1] - border, border : shape[2] - border] = True
    return out


def sky_by_color(image: np.ndarray) -> np.ndarray:
    """Pixels that may be sky: smooth, bright, blue or white, and joined to the top edge through such pixels.

    A rule of thumb, no segmentation: a white ceiling lit by the sun can pass for sky, so it is off unless asked for.

    Args:
        image: (h, w, 3) uint8.

    Returns:
        (h, w) bool.
    """
    from scipy.ndimage import gaussian_gradient_magnitude, label

    value = image.astype(np.int16)
    red, green, blue = value[..., 0], value[..., 1], value[..., 2]
    is_blue = (blue > 110) & (blue >= green + 5) & (green >= red)
    is_white = value.min(axis=-1) > 235
    smooth = gaussian_gradient_magnitude(value.sum(axis=-1, dtype=np.float32), 1.0) < 30
    parts, _ = label((is_blue | is_white) & smooth)
    top = np.unique(parts[0])
    return np.isin(parts, top[top > 0])


def given_masks(folder: Path, numbers: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Masks a user brings: ``<frame number>.png`` (leading zeros allowed), black where points are to go.

    Args:
        folder: of the images.
        numbers: (V,) frame numbers; frames without an image are kept whole.
        shape: (h, w) of the grid.

    Returns:
        (V, h, w) bool, True to keep.

    Raises:
        StageError: no such folder, or an image that cannot be read.
    """
    import cv2

    if not folder.is_dir():
        raise StageError(f"{folder}: no such folder of masks; check --mask-folder")
    known = {int(path.stem): path for path in sorted(folder.glob("*.png")) if path.stem.isdigit()}
    out = np.ones((len(numbers), *shape), dtype=bool)
    for view, number in enumerate(numbers):
        path = known.get(int(number))
        if path is None:
            continue
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise StageError(f"{path}: cannot be read as an image; write it as 8 bit PNG")
        out[view] = cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    return out


def moving_points(prediction: Prediction, keep: np.ndarray, votes: int = 2) -> np.ndarray:
    """Points that at least ``votes`` neighbouring views see through: their own depth there is clearly behind.

    It holds for what is predicted well; where poses drift it drops good points too, so it is off unless asked for.

    Returns:
        (V, h, w) bool.
    """
    views = len(keep)
    depth = np.stack([depth_of(p, pose) for p, pose in zip(prediction.points, prediction.camera_to_world, strict=True)])
    depth = np.where(keep, depth, -np.inf)
    out = np.zeros(keep.shape, dtype=bool)
    for view in range(views):
        points = prediction.points[view][keep[view]]
        against = np.zeros(len(points), dtype=np.int16)
        for other in {view + step for step in NEIGHBOUR_STEPS if 0 <= view + step < views}:
            pixel, z = reproject(
                points, prediction.camera_to_world[other], prediction.intrinsics[other], keep.shape[1:]
            )
            inside = pixel >= 0
            against[inside] += depth[other].reshape(-1)[pixel[inside]] > (1 + SEEN_THROUGH) * z[inside]
        out[view][keep[view]] = against >= votes
    return out

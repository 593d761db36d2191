"""Depth of one view from its neighbours: plane sweep, semi-global aggregation, refinement along the surface.

Sources: Collins, "A space-sweep approach to true multi-image matching", CVPR 1996; Hirschmüller, "Stereo processing by
semiglobal matching and mutual information", PAMI 2008 (the path costs, eq. 13; the adaptive P2). Images are grey uint8,
depths are z in the camera, planes are spaced evenly in 1/z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ZERO_COST = 100  # cost of no correlation; a perfect match costs 0
FLAT_VARIANCE = 12.0  # grey levels squared: windows flatter than that say little


@dataclass
class View:
    """A pinhole view at the sweep's size.

    Attributes:
        gray: (h, w) uint8.
        matrix: (3, 3) float64, pixel (0, 0) has its centre at (0, 0).
        world_to_camera: (4, 4) float64.
    """

    gray: np.ndarray
    matrix: np.ndarray
    world_to_camera: np.ndarray


@dataclass
class DepthMap:
    """Depth of a view.

    Attributes:
        depth: (h, w) float32, 0 where there is none.
        score: (h, w) float32 in [0, 1], correlation of the sources at that depth.
    """

    depth: np.ndarray
    score: np.ndarray


def relative_pose(reference: View, source: View) -> tuple[np.ndarray, np.ndarray]:
    """(3, 3) and (3,) with ``x_source = R x_reference + t``."""
    pose = source.world_to_camera @ np.linalg.inv(reference.world_to_camera)
    return pose[:3, :3], pose[:3, 3]


class _Window:
    """Zero-mean normalised correlation of the reference with warped sources, over a square window."""

    def __init__(self, gray: np.ndarray, size: int) -> None:
        self.size = (size, size)
        self.gray = gray.astype(np.float32)
        self.mean = self._mean(self.gray)
        self.variance = self._mean(self.gray * self.gray) - self.mean * self.mean

    def _mean(self, image: np.ndarray) -> np.ndarray:
        import cv2

        return cv2.boxFilter(image, cv2.CV_32F, self.size, borderType=cv2.BORDER_REFLECT)

    def cost(self, warped: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
        """(h, w) uint8: 0 for correlation 1, ZERO_COST for 0 or less and outside the source.

        Flat windows tend to ZERO_COST at every depth, so that the aggregation decides there.
        """
        image = warped.astype(np.float32)
        mean = self._mean(image)
        variance = self._mean(image * image) - mean * mean
        both = self._mean(image * self.gray) - mean * self.mean
        scale = np.sqrt((self.variance + FLAT_VARIANCE) * (np.maximum(variance, 0) + FLAT_VARIANCE))
        cost = np.clip(ZERO_COST * (1 - both / scale), 0, ZERO_COST).astype(np.uint8)
        if inside is not None:
            cost[inside == 0] = ZERO_COST
        return cost


def best_half(costs: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of the lower half of the costs, pixel by pixel (occluded sources drop out): uint8 in and out."""
    count = len(costs)
    if count == 1:
        return costs[0]
    keep = (count + 1) // 2
    ordered = list(costs)
    for step in range(keep):  # bubble the least cost to the front: uint8 minima are cheap
        for k in range(count - 1, step, -1):
            low = np.minimum(ordered[k - 1], ordered[k])
            ordered[k] = np.maximum(ordered[k - 1], ordered[k])
            ordered[k - 1] = low
    total = np.zeros(costs[0].shape, np.uint16)
    for cost in ordered[:keep]:
        total += cost
    return (total // keep).astype(np.uint8)


def sweep_costs(reference: View, sources: Sequence[View], planes: np.ndarray, window: int = 5) -> np.ndarray:
    """Matching cost of every pixel on every fronto-parallel plane.

    Args:
        reference: the view whose depths are looked for.
        sources: views of the same size.
        planes: (D,) inverse depths.
        window: side of the correlation window, pixels.

    Returns:
        (h, D, w) uint8.
    """
    import cv2

    height, width = reference.gray.shape
    volume = np.empty((height, len(planes), width), np.uint8)
    matcher = _Window(reference.gray, window)
    inverse = np.linalg.inv(reference.matrix)
    motions = [relative_pose(reference, source) for source in sources]
    inside_of = [np.full(source.gray.shape, 255, np.uint8) for source in sources]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for plane, inverse_depth in enumerate(planes):
        costs = []
        for source, (rotation, shift), full in zip(sources, motions, inside_of, strict=True):
            normal = np.outer(shift, [0, 0, inverse_depth])
            homography = source.matrix @ (rotation + normal) @ inverse
            warped = cv2.warpPerspective(source.gray, homography, (width, height), flags=flags)
            inside = cv2.warpPerspective(full, homography, (width, height), flags=cv2.INTER_NEAREST | flags & ~1)
            costs.append(matcher.cost(warped, inside))
        volume[:, plane] = best_half(costs)
    return volume


def aggregate(volume: np.ndarray, gray: np.ndarray, p1: int = 8, p2: int = 60) -> np.ndarray:
    """Semi-global aggregation over eight paths.

    Args:
        volume: (h, D, w) uint8 costs.
        gray: (h, w) uint8, the reference: P2 is lowered across its edges.
        p1: penalty of a step of one plane.
        p2: penalty of a longer one.

    Returns:
        (h, D, w) int16 sums of the path costs.
    """
    total = np.zeros(volume.shape, np.int16)
    edges = gray.astype(np.int16)
    for shift in (-1, 0, 1):
        _paths(volume, edges, total, shift, p1, p2)
    swapped = np.ascontiguousarray(volume.transpose(2, 1, 0))
    sideways = np.zeros(swapped.shape, np.int16)
    _paths(swapped, np.ascontiguousarray(edges.T), sideways, 0, p1, p2)
    total += sideways.transpose(2, 1, 0)
    return total


def _paths(volume: np.ndarray, gray: np.ndarray, total: np.ndarray, shift: int, p1: int, p2: int) -> None:
    """Add the path costs down and up the rows, each step going ``shift`` pixels to the side."""
    rows = len(volume)
    for order in (range(rows), range(rows - 1, -1, -1)):
        previous, previous_row = None, 0
        for row in order:
            cost = volume[row].astype(np.int16)
            if previous is not None:
                behind, grays = _shifted(previous, shift), _shifted(gray[previous_row], shift)
                jump = np.maximum(p2 * 6 // (6 + np.abs(gray[row] - grays)), 2 * p1)
                least = behind.min(0)
                best = np.minimum(behind, least + jump)
                np.minimum(best[1:], behind[:-1] + p1, out=best[1:])
                np.minimum(best[:-1], behind[1:] + p1, out=best[:-1])
                best -= least
                cost += best
            total[row] += cost
            previous, previous_row = cost, row


def _shifted(values: np.ndarray, shift: int) -> np.ndarray:
    """Values of the neighbour ``shift`` to the left along the last axis; the border repeats itself."""
    if shift == 0:
        return values
    out = np.empty_like(values)
    if shift > 0:
        out[..., shift:], out[..., :shift] = values[..., :-shift], values[..., :shift]
    else:
        out[..., :shift], out[..., shift:] = values[..., -shift:], values[..., shift:]
    return out


def pick_planes(total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cheapest plane of each pixel, with the vertex of the parabola through its neighbours.

    Args:
        total: (h, D, w) costs.

    Returns:
        plane: (h, w) float32 fractional plane; best: (h, w) int64 whole plane.
    """
    best = total.argmin(1)
    middle = np.clip(best, 1, total.shape[1] - 2)[:, None]
    low, mid, high = (np.take_along_axis(total, middle + k, 1)[:, 0].astype(np.float32) for k in (-1, 0, 1))
    curve = low + high - 2 * mid
    offset = np.where(curve > 0, (low - high) / np.maximum(2 * curve, 1e-6), 0)
    return (best + np.where(middle[:, 0] == best, np.clip(offset, -0.5, 0.5), 0)).astype(np.float32), best


def estimate_depth(reference: View, sources: Sequence[View], near: float, far: float, planes: int) -> DepthMap:
    """Depth of one view: sweep from ``near`` to ``far``, aggregate, refine along the surface found."""
    levels = np.linspace(1 / far, 1 / near, planes)
    volume = sweep_costs(reference, sources, levels)
    plane, best = pick_planes(aggregate(volume, reference.gray))
    step = levels[1] - levels[0]
    inverse = (levels[0] + plane * step).astype(np.float32)
    score = 1 - np.take_along_axis(volume, best[:, None], 1)[:, 0] / np.float32(ZERO_COST)
    inverse, fine = refine(reference, sources, inverse, step, score)
    inner = (best > 0) & (best < planes - 1) & (inverse > 0)
    return DepthMap(np.where(inner, 1 / np.maximum(inverse, 1e-9), 0).astype(np.float32), fine)


def refine(
    reference: View, sources: Sequence[View], inverse: np.ndarray, step: float, score: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Search a narrow band of surfaces parallel to the smoothed one: slanted planes lose their stairs.

    Args:
        reference: as in `sweep_costs`.
        sources: as there.
        inverse: (h, w) float32 inverse depths of the first pass.
        step: spacing of its planes.
        score: (h, w) its correlation, kept as the lower bound where the band adds nothing.

    Returns:
        inverse: (h, w) float32; score: (h, w) float32 in [0, 1].
    """
    import cv2

    smooth = cv2.bilateralFilter(cv2.medianBlur(inverse, 5), 7, 2.5 * step, 3)
    matcher = _Window(reference.gray, 7)
    height, width = inverse.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(reference.matrix).T.astype(np.float32)
    offsets = np.arange(-3, 4) * 0.5
    bands: list[list[np.ndarray]] = [[] for _ in offsets]
    for source in sources:
        rotation, shift = relative_pose(reference, source)
        turned = rays @ (source.matrix @ rotation).T.astype(np.float32)
        moved = (source.matrix @ shift).astype(np.float32)
        for band, offset in zip(bands, offsets, strict=True):
            point = turned + (smooth + np.float32(offset * step))[..., None] * moved
            z = np.maximum(point[..., 2], 1e-6)
            u, v = point[..., 0] / z, point[..., 1] / z
            warped = cv2.remap(source.gray, u, v, cv2.INTER_LINEAR)
            inside = (u >= 0) & (v >= 0) & (u <= width - 1) & (v <= height - 1) & (point[..., 2] > 0)
            band.append(matcher.cost(warped, inside))
    volume = np.stack([best_half(band) for band in bands], 1)
    total = aggregate(volume, reference.gray, p1=4, p2=24)
    plane, best = pick_planes(total)
    fine = 1 - np.take_along_axis(volume, best[:, None], 1)[:, 0] / np.float32(ZERO_COST)
    return smooth + ((plane - 3) * 0.5 * step).astype(np.float32), np.maximum(fine, 0.5 * score)

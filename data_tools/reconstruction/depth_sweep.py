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
        self.gray = gray
        self.mean, variance = self._moments(gray)
        self.weight = np.float32(ZERO_COST) / np.sqrt(variance + np.float32(FLAT_VARIANCE))

    def _mean(self, image: np.ndarray) -> np.ndarray:
        import cv2

        return cv2.boxFilter(image, cv2.CV_32F, self.size, borderType=cv2.BORDER_REFLECT)

    def _moments(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (h, w) float32 of a uint8 image's windows."""
        mean = self._mean(image)
        variance = self._mean(np.multiply(image, image, dtype=np.uint16))
        variance -= mean * mean
        return mean, variance

    def cost(self, warped: np.ndarray) -> np.ndarray:
        """(h, w) uint8: 0 for correlation 1, ZERO_COST for 0 or less and outside the source, which is one grey.

        Flat windows tend to ZERO_COST at every depth, so that the aggregation decides there.
        """
        import cv2

        mean, variance = self._moments(warped)
        both = self._mean(np.multiply(warped, self.gray, dtype=np.uint16))
        mean *= self.mean
        both -= mean
        both *= self.weight
        variance += np.float32(FLAT_VARIANCE)
        both /= cv2.sqrt(variance, dst=variance)
        return cv2.subtract(ZERO_COST, cv2.max(both, 0, dst=both), dtype=cv2.CV_8U)


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
        (D, h, w) uint8.
    """
    import cv2

    height, width = reference.gray.shape
    volume = np.empty((len(planes), height, width), np.uint8)
    matcher = _Window(reference.gray, window)
    inverse = np.linalg.inv(reference.matrix)
    motions = [relative_pose(reference, source) for source in sources]
    for plane, inverse_depth in enumerate(planes):
        costs = []
        for source, (rotation, shift) in zip(sources, motions, strict=True):
            normal = np.outer(shift, [0, 0, inverse_depth])
            homography = source.matrix @ (rotation + normal) @ inverse
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            costs.append(matcher.cost(cv2.warpPerspective(source.gray, homography, (width, height), flags=flags)))
        volume[plane] = best_half(costs)
    return volume


def aggregate(volume: np.ndarray, gray: np.ndarray, p1: int = 8, p2: int = 60) -> np.ndarray:
    """Semi-global aggregation over eight paths.

    Args:
        volume: (D, h, w) uint8 costs, at most 255 - 2 x ``p2``: the sums along a path then fit uint8.
        gray: (h, w) uint8, the reference: P2 is lowered across its edges.
        p1: penalty of a step of one plane.
        p2: penalty of a longer one.

    Returns:
        (D, h, w) uint16 sums of the path costs.
    """
    total = np.zeros(volume.shape, np.uint16)
    for shift in (-1, 0, 1):
        _paths(volume, gray, total, shift, p1, p2)
    sideways = np.zeros((len(volume), *gray.T.shape), np.uint16)
    _paths(_turned(volume), np.ascontiguousarray(gray.T), sideways, 0, p1, p2)
    total += _turned(sideways)
    return total


def _turned(volume: np.ndarray) -> np.ndarray:
    """(D, h, w) to (D, w, h), in memory too."""
    import cv2

    return np.stack([cv2.transpose(plane) for plane in volume])


def _paths(volume: np.ndarray, gray: np.ndarray, total: np.ndarray, shift: int, p1: int, p2: int) -> None:
    """Add the path costs down and up the rows, each step going ``shift`` pixels to the side."""

    jumps = _jumps(gray, shift, p1, p2)
    rows = volume.shape[1]
    best, nearer = (np.empty((len(volume), volume.shape[2]), np.uint8) for _ in range(2))
    for order, behind_of in ((range(rows), -1), (range(rows - 1, -1, -1), 1)):
        previous = None
        for row in order:
            cost = volume[:, row].copy()
            if previous is not None:
                behind = _shifted(previous, shift)
                least = behind.min(0)
                np.minimum(behind, least + jumps[behind_of][row], out=best)
                np.add(behind, np.uint8(p1), out=nearer)
                np.minimum(best[1:], nearer[:-1], out=best[1:])
                np.minimum(best[:-1], nearer[1:], out=best[:-1])
                best -= least
                cost += best
            total[:, row] += cost
            previous = cost


def _jumps(gray: np.ndarray, shift: int, p1: int, p2: int) -> dict[int, np.ndarray]:
    """P2 (h, w) uint8 of the steps onto each row from the one before it (-1) and from the one after it (1)."""
    edges = gray.astype(np.int16)
    found = {}
    for behind_of in (-1, 1):
        change = np.abs(edges - _shifted(np.roll(edges, -behind_of, 0), shift))
        found[behind_of] = np.maximum(p2 * 6 // (6 + change), 2 * p1).astype(np.uint8)
    return found


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
        total: (D, h, w) costs.

    Returns:
        plane: (h, w) float32 fractional plane; best: (h, w) int64 whole plane.
    """
    least, planes = total.min(0), len(total)
    best = np.zeros(least.shape, np.int64)
    for plane in range(planes - 1, -1, -1):  # argmin along the first axis, five times as fast
        np.copyto(best, plane, where=total[plane] == least)
    middle = np.clip(best, 1, planes - 2)[None]
    low, mid, high = (np.take_along_axis(total, middle + k, 0)[0].astype(np.float32) for k in (-1, 0, 1))
    curve = low + high - 2 * mid
    offset = np.where(curve > 0, (low - high) / np.maximum(2 * curve, 1e-6), 0)
    return (best + np.where(middle[0] == best, np.clip(offset, -0.5, 0.5), 0)).astype(np.float32), best


def estimate_depth(reference: View, sources: Sequence[View], near: float, far: float, planes: int) -> DepthMap:
    """Depth of one view: sweep from ``near`` to ``far``, aggregate, refine along the surface found."""
    levels = np.linspace(1 / far, 1 / near, planes)
    volume = sweep_costs(reference, sources, levels)
    plane, best = pick_planes(aggregate(volume, reference.gray))
    step = levels[1] - levels[0]
    inverse = (levels[0] + plane * step).astype(np.float32)
    score = _score(volume, best)
    for spacing in (step, step / 2):
        inverse, score = refine(reference, sources, inverse, spacing, score)
    inner = (best > 0) & (best < planes - 1) & (inverse > 0)
    return DepthMap(np.where(inner, 1 / np.maximum(inverse, 1e-9), 0).astype(np.float32), score)


def _score(volume: np.ndarray, best: np.ndarray) -> np.ndarray:
    """(h, w) float32 correlation at the planes chosen."""
    return 1 - np.take_along_axis(volume, best[None], 0)[0] / np.float32(ZERO_COST)


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
    surfaces = [smooth + np.float32(offset * step) for offset in np.arange(-3, 4) * 0.5]
    bands: list[list[np.ndarray]] = [[] for _ in surfaces]
    for source in sources:
        warp = _Warp(reference, source)
        for band, surface in zip(bands, surfaces, strict=True):
            band.append(matcher.cost(warp(surface)))
    volume = np.stack([best_half(band) for band in bands])
    plane, best = pick_planes(aggregate(volume, reference.gray, p1=4, p2=24))
    fine = _score(volume, best)
    return smooth + ((plane - 3) * 0.5 * step).astype(np.float32), np.maximum(fine, 0.5 * score)


class _Warp:
    """A source's picture as the reference would see it on a surface of given inverse depths."""

    def __init__(self, reference: View, source: View) -> None:
        rotation, shift = relative_pose(reference, source)
        self.gray = source.gray
        height, width = reference.gray.shape
        turn = source.matrix @ rotation @ np.linalg.inv(reference.matrix)
        x, y = np.arange(width), np.arange(height)[:, None]
        self.turned = [(a * x + b * y + c).astype(np.float32) for a, b, c in turn]
        self.moved = [np.float32(part) for part in source.matrix @ shift]

    def __call__(self, inverse: np.ndarray) -> np.ndarray:
        """(h, w) uint8 of (h, w) float32 inverse depths; 0 outside the source and behind it."""
        import cv2

        u, v, z = (turned + inverse * moved for turned, moved in zip(self.turned, self.moved, strict=True))
        z = np.where(z > 1e-6, z, np.float32(np.nan))
        u /= z
        v /= z
        return cv2.remap(self.gray, u, v, cv2.INTER_LINEAR)

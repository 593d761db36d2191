"""The room's outline from a levelled cloud: floor, ceiling, footprint. Lengths in the cloud's own unit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import binary_closing, binary_fill_holes

from data_tools.clouds.io import cell_means, grid_cells, plane_fits
from data_tools.clouds.normals import make_tree
from data_tools.postprocessing.cameras import Cameras

SAMPLE = 300_000
SIDE = 80  # grid cells along the longer side of the floor plan
LEVEL = 0.9  # |z| of a normal that counts as floor or ceiling
LEVEL_SHARE = 0.18  # of the footprint that a floor or ceiling fills at least at one height
TALL = 0.55  # a ceiling lies above this share of the cloud's height


@dataclass(frozen=True)
class Layout:
    """What is known of the room.

    Attributes:
        floor: height of the floor.
        ceiling: height of the ceiling, or None where none was seen.
        low: height that half a percent of the points lie below.
        high: height that half a percent of them lie above.
        footprint: area of the floor plan, holes filled.
        eye: median height of the cameras, or None.
        has_floor: whether a level surface was found at ``floor``, or it is just the lowest points.
    """

    floor: float
    ceiling: float | None
    low: float
    high: float
    footprint: float
    eye: float | None
    has_floor: bool

    @property
    def height(self) -> float:
        """Floor to ceiling, or to the highest points."""
        return max((self.high if self.ceiling is None else self.ceiling) - self.floor, 1e-9)

    def scaled(self, factor: float) -> Layout:
        """The layout in another unit, floor at z = 0."""
        names = ("floor", "ceiling", "low", "high", "eye")
        known = {name: value for name in names if (value := getattr(self, name)) is not None}
        heights = {name: (value - self.floor) * factor for name, value in known.items()}
        return replace(self, **heights, footprint=self.footprint * factor**2)


def footprint_cells(flat: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """Floor plan of points (N, 2): a grid of cells of ``edge``, gaps closed and holes filled; its corner."""
    low = flat.min(axis=0) - 3 * edge
    cell = ((flat - low) / edge).astype(np.int64)
    shape = cell.max(axis=0) + 4
    count = np.bincount(cell[:, 0] * shape[1] + cell[:, 1], minlength=int(shape.prod())).reshape(shape)
    seen = count > 0
    return binary_fill_holes(binary_closing(seen, iterations=2)), low


def _level_heights(height: np.ndarray, level: np.ndarray, cells: float, span: tuple[float, float]) -> np.ndarray:
    """Heights at which level surface fills `LEVEL_SHARE` of the footprint, ascending."""
    low, high = span
    bins = 120
    width = max(high - low, 1e-12) / bins
    index = np.clip(((height[level] - low) / width).astype(int), 0, bins - 1)
    histogram = np.bincount(index, minlength=bins).astype(np.float64)
    summed = np.convolve(histogram, np.ones(5), "same")
    around = np.maximum.reduce([np.roll(summed, step) for step in (-2, -1, 0, 1, 2)])
    peak = np.flatnonzero((summed >= LEVEL_SHARE * cells) & (summed >= around))
    found = []
    for middle in peak:
        near = np.arange(max(0, middle - 2), min(bins, middle + 3))
        found.append(low + width * (float(np.average(near, weights=histogram[near])) + 0.5))
    return np.array(sorted(found))


def find_layout(coord: np.ndarray, cameras: Cameras | None, rng: np.random.Generator) -> Layout:
    """Floor, ceiling and footprint of a z-up cloud (N, 3) in any unit; the cameras are in its frame."""
    if len(coord) > SAMPLE:
        coord = coord[np.sort(rng.permutation(len(coord))[:SAMPLE])]
    point = coord.astype(np.float64)
    box = np.quantile(point, [0.005, 0.995], axis=0)
    margin = 0.02 * float((box[1] - box[0]).max())
    point = point[((point >= box[0] - margin) & (point <= box[1] + margin)).all(axis=1)]
    edge = max(float((box[1] - box[0])[:2].max()), 1e-9) / SIDE
    _, inverse, counts = grid_cells(point, edge)
    mean = cell_means(point, inverse, counts)
    normal, flatness = plane_fits(mean, make_tree(mean), k=min(12, len(mean)))
    level = (np.abs(normal[:, 2]) > LEVEL) & (flatness > 0.5)
    plan, _ = footprint_cells(point[:, :2], edge)
    low, high = float(box[0, 2]), float(box[1, 2])
    heights = _level_heights(mean[:, 2], level, float(plan.sum()), (low - margin, high + margin))
    eye = None if cameras is None else float(np.median(cameras.centers[:, 2]))
    middle = low + 0.45 * (high - low)
    floors = heights[heights < (middle if eye is None else min(middle, eye))]
    top = low + TALL * (high - low)
    ceilings = heights[heights > (top if eye is None else max(top, eye))]
    return Layout(
        floor=float(floors[0]) if len(floors) else low,
        ceiling=float(ceilings[-1]) if len(ceilings) else None,
        low=low,
        high=high,
        footprint=float(plan.sum()) * edge**2,
        eye=eye,
        has_floor=bool(len(floors)),
    )

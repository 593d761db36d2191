"""How good a scene is: coverage, ghosting, noise, flatness; a score in [0, 1], and reasons to leave it out.

Lengths are judged at a ceiling height of 2.5 m where a ceiling was seen, so that a drawn scale does not move the score.
The ends of the scales were set on the synthetic rooms of `data_tools.synthetic` (clean, mild, pi3, worse).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from data_tools.clouds.io import cell_means, grid_cells
from data_tools.clouds.normals import flatness_of
from data_tools.postprocessing.layout import Layout, footprint_cells
from data_tools.postprocessing.scale import CEILING_HEIGHT
from data_tools.postprocessing.settings import Limits

PLAN_CELL = 0.1  # m, of the floor plan
WALL_BAND = 0.2  # m, heights at which a wall is looked for
COLUMN = 0.06  # m, edge of the columns across a plane
AXIS_REACH = np.cos(np.deg2rad(12.0))  # normals of a plane's points
SPLIT = 0.30  # m: surfaces farther apart along a column are two things, nearer ones one thing seen twice
PATCH = 0.15  # m, edge of the cubes that are flat or not
NOISE_PATCH = 0.08  # m, edge of the cubes whose points' distance to a plane is the noise
GAP = 0.02  # m between two layers
LEAST_IN_COLUMN = 8
SPARSE = 6.0  # spacings: no cube or column is smaller, or it would hold too few points to judge
#: part -> (value that is worth 1, value that is worth 0, weight)
RAMPS = {
    "coverage": (0.90, 0.40, 0.2),
    "double": (0.03, 0.40, 0.3),
    "thickness": (0.004, 0.030, 0.2),
    "noise": (0.003, 0.020, 0.2),
    "planar": (0.85, 0.35, 0.1),
}


@dataclass(frozen=True)
class Quality:
    """The parts and the score.

    Attributes:
        score: weighted mean of the parts on their ramps, 0..1.
        coverage: share of floor plan and walls seen; floor_coverage, wall_coverage: its two halves.
        double: share of plane area with two layers.
        thickness: median spread across planes, metres.
        noise: median distance to the local plane, metres.
        planar: share of points on locally flat surface.
        length_factor: what lengths were multiplied by before they were judged.
    """

    score: float
    coverage: float
    floor_coverage: float
    wall_coverage: float
    double: float
    thickness: float
    noise: float
    planar: float
    length_factor: float

    def as_dict(self) -> dict[str, float]:
        """Rounded, for meta.json."""
        return {name: round(value, 5) for name, value in asdict(self).items()}


def wall_heading(normal: np.ndarray) -> float:
    """Main heading of the walls in radians, modulo 90 degrees, from the upright points' normals (N, 3)."""
    wall = normal[np.abs(normal[:, 2]) < 0.2]
    if len(wall) < 10:
        return 0.0
    degrees = np.degrees(np.arctan2(wall[:, 1], wall[:, 0])) % 90.0
    histogram = np.bincount(degrees.astype(int) % 90, minlength=90).astype(np.float64)
    wrapped = np.concatenate([histogram[-2:], histogram, histogram[:2]])
    best = float(np.convolve(wrapped, np.ones(5), "valid").argmax()) + 0.5
    off = (degrees - best + 45.0) % 90.0 - 45.0
    near = np.abs(off) < 5.0
    return float(np.deg2rad(best + np.median(off[near]) if near.any() else best))


def _column_groups(across: np.ndarray, along: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """Sort the points of one facing into columns, and columns into things: order (N,), start of each group (G,).

    Args:
        across: (N, 2) place on the plane, metres.
        along: (N,) place along its normal, metres.
        edge: of the columns, metres.
    """
    cell = ((across - across.min(axis=0)) / edge).astype(np.int64)
    column = cell[:, 0] * (cell[:, 1].max() + 1) + cell[:, 1]
    span = float(np.ptp(along)) + 1e-6
    deep = ((along - along.min()) * ((1 << 20) / span)).astype(np.int64)
    order = np.argsort((column << 21) | deep, kind="stable")
    gap = np.diff(along[order])
    new = np.concatenate([[True], (np.diff(column[order]) != 0) | (gap > SPLIT)])
    return order, np.flatnonzero(new)


def _layers(across: np.ndarray, along: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """Spread (G,) of every filled group along the normal, and whether it has two layers (G,).

    Two layers: a gap of more than `GAP` with at least 15 % of the group's points on either side. Opaque rooms have no
    two surfaces of one facing right behind each other: the front one hides the other.
    """
    order, start = _column_groups(across, along, edge)
    size = np.diff(np.append(start, len(order)))
    value = along[order].astype(np.float64)
    mean = np.add.reduceat(value, start) / size
    off = value - np.repeat(mean, size)
    spread = np.sqrt(np.add.reduceat(off**2, start) / size)
    rank = np.arange(len(order)) - np.repeat(start, size)
    least = np.maximum(2, 0.15 * np.repeat(size, size))
    gap = np.append(np.diff(value), 0.0)
    inner = (rank + 1 >= least) & (np.repeat(size, size) - rank - 1 >= least)
    double = np.maximum.reduceat(np.where(inner, gap, 0.0), start) > GAP
    full = size >= LEAST_IN_COLUMN
    return spread[full], double[full]


def ghosting(coord: np.ndarray, normal: np.ndarray, edge: float = COLUMN) -> tuple[float, float]:
    """Share of the main planes' area that is there twice, and the median thickness of the planes in metres."""
    heading = wall_heading(normal)
    cos, sin = np.float32(np.cos(heading)), np.float32(np.sin(heading))
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], dtype=np.float32)
    place, facing = coord @ turn.T, normal @ turn.T
    spreads, doubles = [], []
    for axis in range(3):
        for sign in (1.0, -1.0):
            rows = np.flatnonzero(sign * facing[:, axis] > AXIS_REACH)
            if len(rows) < LEAST_IN_COLUMN:
                continue
            sides = [i for i in range(3) if i != axis]
            spread, double = _layers(place[rows][:, sides], place[rows, axis], edge)
            spreads.append(spread)
            doubles.append(double)
    spread = np.concatenate(spreads) if spreads else np.zeros(0)
    double = np.concatenate(doubles) if doubles else np.zeros(0, dtype=bool)
    return (float(double.mean()), float(np.median(spread))) if len(spread) else (0.0, 0.0)


def coverage(coord: np.ndarray, layout: Layout) -> tuple[float, float]:
    """Share of the floor plan with something seen below 1 m, and of the walls' bands seen near the plan's rim.

    Args:
        coord: (N, 3) metres, floor at z = 0.
        layout: for the height up to which walls are looked for.
    """
    from scipy.ndimage import binary_dilation, binary_erosion

    plan, low = footprint_cells(coord[:, :2], PLAN_CELL)
    cell = ((coord[:, :2] - low) / PLAN_CELL).astype(np.int64)
    flat = cell[:, 0] * plan.shape[1] + cell[:, 1]
    ground = np.bincount(flat[coord[:, 2] < 1.0], minlength=plan.size).reshape(plan.shape) > 0
    floor = float(binary_dilation(ground)[plan].mean()) if plan.any() else 0.0
    rim = plan & ~binary_erosion(plan)
    top = min(2.0, 0.85 * layout.height)
    bands = max(1, int(top / WALL_BAND))
    seen = np.zeros((bands, *plan.shape), dtype=bool)
    band = np.floor(coord[:, 2] / WALL_BAND).astype(np.int64)
    inside = (band >= 0) & (band < bands)
    seen.reshape(bands, -1)[band[inside], flat[inside]] = True
    near = np.array([binary_dilation(layer, iterations=3) for layer in seen])
    return floor, float(near[:, rim].mean()) if rim.any() else 0.0


def cell_planes(coord: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Planes through the points of every cube of ``edge``, from sums of products: no neighbour is looked up.

    Returns:
        residual (M,) root mean squared distance to the plane, flatness (M,) in [0, 1], points (M,) of each cube.
    """
    _, inverse, counts = grid_cells(coord, edge)
    off = coord - cell_means(coord, inverse, counts)[inverse].astype(np.float32)
    covariance = np.empty((len(counts), 3, 3))
    for i in range(3):
        for j in range(i + 1):
            total = np.bincount(inverse, off[:, i] * off[:, j], len(counts))
            covariance[:, i, j] = covariance[:, j, i] = total / counts
    variance = np.maximum(np.linalg.eigvalsh(covariance), 0.0)
    return np.sqrt(variance[:, 0]), flatness_of(variance), counts


def noise_level(coord: np.ndarray, edge: float = NOISE_PATCH) -> float:
    """Median distance to the plane of a cube of ``edge``, over all points in cubes that have enough."""
    residual, _, counts = cell_planes(coord, edge)
    enough = counts >= LEAST_IN_COLUMN
    residual, counts = residual[enough], counts[enough]
    if not len(counts):
        return 0.0
    order = np.argsort(residual, kind="stable")
    running = np.cumsum(counts[order])
    return float(residual[order[np.searchsorted(running, running[-1] / 2)]])


def planar_share(coord: np.ndarray, edge: float = PATCH) -> float:
    """Share of points in cubes of ``edge`` whose points keep to a plane (thinner than about 2 cm)."""
    _, flatness, counts = cell_planes(coord, edge)
    return float(counts[(flatness > 0.8) & (counts >= 4)].sum() / len(coord))


def measure(coord: np.ndarray, normal: np.ndarray, layout: Layout, spacing: float) -> Quality:
    """The quality of a finished scene.

    Args:
        coord: (N, 3) metres, z up, floor at z = 0.
        normal: (N, 3) toward who saw the point.
        layout: of the same cloud.
        spacing: median distance to the nearest neighbour, metres: in sparse clouds the cubes and columns grow with it.
    """
    factor = CEILING_HEIGHT / layout.height if layout.ceiling is not None else 1.0
    scaled = (coord * np.float32(factor)).astype(np.float32)
    scaled_layout = Layout(0.0, None, 0.0, layout.height * factor, 0.0, None, layout.has_floor)
    floor, wall = coverage(scaled, scaled_layout)
    floor = floor if layout.has_floor else 0.0  # a lone wall stands on a thin plan that is full of points
    edge = SPARSE * spacing * factor
    double, thickness = ghosting(scaled, normal, max(COLUMN, edge))
    parts = {
        "coverage": 0.5 * (floor + wall),
        "double": double,
        "thickness": thickness,
        "noise": noise_level(scaled, max(NOISE_PATCH, edge)),
        "planar": planar_share(scaled, max(PATCH, edge)),
    }
    score = sum(weight * np.clip((parts[k] - zero) / (one - zero), 0, 1) for k, (one, zero, weight) in RAMPS.items())
    return Quality(float(score), floor_coverage=floor, wall_coverage=wall, length_factor=factor, **parts)


def reject_reason(quality: Quality, points: int, limits: Limits) -> str:
    """Why a scene is left out, in one line; empty if it is kept."""
    reasons = []
    if points < limits.min_points:
        reasons.append(f"{points} points are left (limit {limits.min_points})")
    if quality.double > limits.max_double:
        reasons.append(f"ghosted walls: {quality.double:.0%} of the area is double (limit {limits.max_double:.0%})")
    if quality.noise > limits.max_noise:
        reasons.append(f"noise of {quality.noise * 1000:.0f} mm (limit {limits.max_noise * 1000:.0f} mm)")
    if quality.coverage < limits.min_coverage:
        reasons.append(f"{quality.coverage:.0%} of floor and walls seen (limit {limits.min_coverage:.0%})")
    if quality.planar < limits.min_planar:
        reasons.append(f"{quality.planar:.0%} of the points on flat surface (limit {limits.min_planar:.0%})")
    if quality.score < limits.min_score and not reasons:
        reasons.append(f"score {quality.score:.2f} (limit {limits.min_score:.2f})")
    return "; ".join(reasons)

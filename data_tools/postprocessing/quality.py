"""How good a scene is: coverage, double walls, noise, bend; each with a unit and a verdict, and one score in [0, 1].

What clutter does must not look like what a bad reconstruction does: noise is that of the flattest surfaces, two layers
count only where they lie over the same ground, and lengths are judged at a size that a drawn scale does not move.
`benchmarks/quality.py` puts known faults on clouds of known truth; the ends of the scales come from its table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from data_tools.clouds.io import grid_cells
from data_tools.postprocessing.layout import Layout, footprint_cells
from data_tools.postprocessing.scale import CEILING_HEIGHT, EYE_HEIGHT, SCANNET_MEAN_FLOOR
from data_tools.postprocessing.settings import Limits

PLAN_CELL = 0.1  # m, of the floor plan
WALL_BAND = 0.2  # m, heights at which a wall is looked for
COLUMN = 0.06  # m, edge of the columns across a plane
AXIS_REACH = np.cos(np.deg2rad(12.0))  # normals of a plane's points
SPLIT = 0.30  # m: surfaces farther apart along a column are two things, nearer ones one thing seen twice
GAP = 0.02  # m between two layers
APART = 4.0  # spreads of the layers: less is one noisy layer
ASIDE = 0.3  # of a column's edge: layers that lie beside each other are an edge of something
NOISE_CUBE = 0.08  # m; the plane goes through the points of a cube and of the 26 around it
BEND_CUBE = 0.17
FLATTEST = 0.25  # share of the points whose surroundings are flattest: walls and floor, not what stands about
SEEN_FROM = 0.7  # cosine between a point's own normal and its plane's
LEAST_IN_COLUMN = 8
SPARSE = 6.0  # spacings: no cube or column is smaller, or it would hold too few points to judge


@dataclass(frozen=True)
class Part:
    """One measure and its scale.

    Attributes:
        good: value from which on it is "good" and worth 1.
        poor: value from which on it is "poor" and worth 0.
        weight: in the score.
        words: what the value says, to be formatted with it.
        times: factor of the value in the words.
        cure: what to do about it.
    """

    good: float
    poor: float
    weight: float
    words: str
    times: float
    cure: str

    def worth(self, value: float) -> float:
        """1 at `good`, 0 at `poor`, a line between."""
        return float(np.clip((value - self.poor) / (self.good - self.poor), 0, 1))


PARTS = {
    "coverage": Part(0.90, 0.40, 0.2, "{:.0f} % of floor and walls seen", 100, "film every wall from floor to ceiling"),
    "double": Part(
        0.10, 0.35, 0.3, "walls and floor stand double in {:.0f} % of their area", 100,
        "move slowly and end where you began, so that the places seen twice join",
    ),
    "noise": Part(
        0.004, 0.030, 0.3, "flat surfaces are {:.0f} mm rough", 1000,
        "step sideways as you film, in good light; turning on the spot gives no depth",
    ),
    "bend": Part(
        0.5, 3.0, 0.2, "walls and floor lean by {:.1f} degrees", 1,
        "keep two walls in the picture, and let no picture show a bare wall alone",
    ),
}  # fmt: skip
VERDICTS = ((0.75, "good"), (0.35, "usable"), (0.0, "poor"))  # from this worth on


def verdict(worth: float) -> str:
    """The word for a worth or a score: good, usable or poor."""
    return next(word for least, word in VERDICTS if worth >= least)


def room_lines(result: Mapping[str, Any]) -> list[str]:
    """A finished scene's record in a few lines: its size and what that is worth first, then the verdicts."""
    size = " x ".join(f"{value:.1f}" for value in result.get("size", []))
    said = result.get("scale", {}).get("said", "")
    return [f"{size} m, {result.get('points', 0):,} points", said, *result.get("verdict", [])]


@dataclass(frozen=True)
class Quality:
    """The parts and the score.

    Attributes:
        score: half the weighted mean of the parts' worths, half the worst of them: one fault spoils a scene. 0..1.
        coverage: share of floor plan and walls seen; floor_coverage, wall_coverage: its two halves.
        double: share of plane area with two layers.
        noise: median distance to the plane of the flattest surfaces, metres.
        bend: median angle of large flat surfaces to the room's three axes, degrees.
        length_factor: what lengths were multiplied by before they were judged.
    """

    score: float
    coverage: float
    floor_coverage: float
    wall_coverage: float
    double: float
    noise: float
    bend: float
    length_factor: float

    def as_dict(self) -> dict[str, float]:
        """Rounded, for meta.json."""
        return {name: round(value, 5) for name, value in asdict(self).items()}


def verdict_lines(quality: Mapping[str, float]) -> list[str]:
    """The verdict on a scene and on each part, with what to film better where a part is not good."""
    lines = [f"{verdict(quality['score'])}: score {quality['score']:.2f}"]
    for name, part in PARTS.items():
        word = verdict(part.worth(quality[name]))
        line = f"{word}: {part.words.format(part.times * quality[name])}"
        lines.append(line if word == "good" else f"{line}; {part.cure}")
    return lines


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
        across: (N, 2) place on the plane, metres, none below 0.
        along: (N,) place along its normal, metres.
        edge: of the columns, metres.
    """
    cell = (across / edge).astype(np.int64)
    column = cell[:, 0] * (cell[:, 1].max() + 1) + cell[:, 1]
    span = float(np.ptp(along)) + 1e-6
    deep = ((along - along.min()) * ((1 << 20) / span)).astype(np.int64)
    order = np.argsort((column << 21) | deep, kind="stable")
    gap = np.diff(along[order])
    new = np.concatenate([[True], (np.diff(column[order]) != 0) | (gap > SPLIT)])
    return order, np.flatnonzero(new)


def _double(across: np.ndarray, along: np.ndarray, edge: float) -> np.ndarray:
    """Whether every filled group (G,) has two layers.

    Two layers: the widest gap that leaves at least 15 % of the group's points on either side parts them by more than
    `GAP` and by more than `APART` of their spreads, and both lie over the same ground. Opaque rooms have no two
    surfaces of one facing right behind each other: the front one hides the other. At an edge of something they lie side
    by side.
    """
    order, start = _column_groups(across, along, edge)
    size = np.diff(np.append(start, len(order)))
    full = size >= LEAST_IN_COLUMN
    order, size = order[np.repeat(full, size)], size[full]
    if not len(size):
        return np.zeros(0, bool)
    start = np.cumsum(size) - size
    group, value = np.repeat(np.arange(len(size)), size), along[order].astype(np.float64)
    rank, most = np.arange(len(order)) - start[group], size[group]
    least = np.maximum(2, 0.15 * most)
    gap = np.where((rank + 1 >= least) & (most - rank - 1 >= least), np.append(np.diff(value), 0.0), 0.0)
    widest = np.maximum.reduceat(gap, start)
    last = np.where(gap == widest[group], rank, 0)  # of the front layer
    half = 2 * group + (rank > np.maximum.reduceat(last, start)[group])
    count = np.maximum(np.bincount(half, minlength=2 * len(size)), 1)
    off = value - value[start][group]
    place = (across[order] / edge) % 1.0
    mean, square, u, v = (
        np.bincount(half, part, 2 * len(size)) / count for part in (off, off * off, place[:, 0], place[:, 1])
    )
    spread = np.sqrt(np.maximum(square - mean * mean, 0)).reshape(-1, 2).max(1)
    distance = np.abs(np.diff(mean.reshape(-1, 2), axis=1)[:, 0])
    aside = np.hypot(np.diff(u.reshape(-1, 2), axis=1)[:, 0], np.diff(v.reshape(-1, 2), axis=1)[:, 0])
    return (distance > GAP) & (distance > APART * spread) & (aside < ASIDE) & (widest > 0)


def double_share(coord: np.ndarray, normal: np.ndarray, edge: float = COLUMN, cube: float = BEND_CUBE) -> float:
    """Share of the main planes' area that is there twice.

    A point belongs to the plane that its wider surroundings lie along: the fitted normals of two layers that lie
    nearer to each other than 32 neighbours reach point anywhere. Its own normal only says which side it was seen from.
    """
    heading = wall_heading(normal)
    cos, sin = np.float32(np.cos(heading)), np.float32(np.sin(heading))
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], dtype=np.float32)
    place, facing = coord @ turn.T, normal @ turn.T
    _, wide, _, inverse = cube_planes(place, cube)
    along = np.where(np.abs(wide) > AXIS_REACH, 1, 0)[inverse]
    found = [np.zeros(0, bool)]
    for axis in range(3):
        sides = [i for i in range(3) if i != axis]
        for sign in (1.0, -1.0):
            rows = np.flatnonzero((along[:, axis] > 0) & (sign * facing[:, axis] > SEEN_FROM))
            if len(rows) >= LEAST_IN_COLUMN:
                across = place[rows][:, sides]
                found.append(_double(across - across.min(axis=0), place[rows, axis], edge))
    double = np.concatenate(found)
    return float(double.mean()) if len(double) else 0.0


def coverage(coord: np.ndarray, layout: Layout) -> tuple[float, float]:
    """Shares of the floor plan with something seen below 1 m, and of the walls' bands seen near the plan's rim.

    ``coord`` (N, 3) is in metres, floor at z = 0.
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


def cube_planes(coord: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Planes through the points of every cube of ``edge`` and the 26 around it, from sums of products.

    The sums take in the neighbours so that a surface along a cube's side is not cut into two thin slices.

    Returns:
        variance (M, 3) ascending, normal (M, 3), points (M,) of the cube itself, and the cube (N,) of each point.
    """
    first, inverse, counts = grid_cells(coord, edge)
    cell = np.floor((coord[first] - coord.min(axis=0)) / edge).astype(np.int64) + 1
    off = (coord - coord.mean(axis=0)).astype(np.float64)
    pairs = [(i, j) for i in range(3) for j in range(i + 1)]
    sums = [counts, *(np.bincount(inverse, off[:, i], len(counts)) for i in range(3))]
    sums += [np.bincount(inverse, off[:, i] * off[:, j], len(counts)) for i, j in pairs]
    own, wide = np.stack(sums, 1).astype(np.float64), np.zeros((len(counts), 10))
    reach = cell.max(axis=0) + 2
    key = (cell[:, 0] * reach[1] + cell[:, 1]) * reach[2] + cell[:, 2]
    for shift in np.ndindex(3, 3, 3):
        wanted = key + ((shift[0] - 1) * reach[1] + shift[1] - 1) * reach[2] + shift[2] - 1
        found = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        wide += np.where((key[found] == wanted)[:, None], own[found], 0.0)
    mean = wide[:, 1:4] / wide[:, :1]
    covariance = np.empty((len(counts), 3, 3))
    for number, (i, j) in enumerate(pairs):
        covariance[:, i, j] = covariance[:, j, i] = wide[:, 4 + number] / wide[:, 0] - mean[:, i] * mean[:, j]
    variance, axes = np.linalg.eigh(covariance)
    return np.maximum(variance, 0.0), axes[:, :, 0], counts, inverse


def _weighted_quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """0 where there are no values."""
    if not len(values):
        return 0.0
    order = np.argsort(values, kind="stable")
    running = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(running, share * running[-1])]])


def _is_surface(variance: np.ndarray, edge: float) -> np.ndarray:
    """Cubes whose points spread along two directions, as a surface's do; corners of one are left out."""
    return variance[:, 1] > (0.5 * edge) ** 2


def noise_level(coord: np.ndarray, edge: float = NOISE_CUBE) -> float:
    """Distance to the plane, metres, of the points in the flattest surroundings: the median of `FLATTEST` of them."""
    variance, _, counts, _ = cube_planes(coord, edge)
    good = _is_surface(variance, edge)
    return _weighted_quantile(np.sqrt(variance[good, 0]), counts[good], FLATTEST / 2)


def bend(coord: np.ndarray, heading: float, edge: float = BEND_CUBE) -> float:
    """Median angle in degrees between flat surfaces of 3 cubes and the nearest of the room's three axes.

    Only what is within 12 degrees of an axis counts: the rest is furniture. A straight room gives its noise, a bent one
    the angles it was bent by.
    """
    variance, normal, counts, _ = cube_planes(coord, edge)
    cos, sin = np.cos(heading), np.sin(heading)
    axes = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    cosine = np.abs(normal @ axes.T).max(axis=1)
    flat = np.sqrt(variance[:, 0])
    good = _is_surface(variance, edge) & (cosine > AXIS_REACH)
    good &= flat <= max(_weighted_quantile(flat[good], counts[good], 0.5), 1e-9)
    return _weighted_quantile(np.degrees(np.arccos(np.minimum(cosine[good], 1.0))), counts[good], 0.5)


def length_factor(layout: Layout) -> float:
    """What lengths are multiplied by before they are judged: a scale that does not depend on how it was chosen.

    A ceiling at 2.5 m where one was seen, else cameras 1.5 m above the floor, else a floor of the usual area.
    """
    if layout.ceiling is not None:
        return CEILING_HEIGHT / layout.height
    if layout.has_floor and layout.eye is not None and layout.eye > 0:
        return EYE_HEIGHT / layout.eye
    return float(np.sqrt(SCANNET_MEAN_FLOOR / layout.footprint)) if layout.footprint > 0 else 1.0


def measure(coord: np.ndarray, normal: np.ndarray, layout: Layout, spacing: float) -> Quality:
    """The quality of a finished scene.

    Args:
        coord: (N, 3) metres, z up, floor at z = 0.
        normal: (N, 3) toward who saw the point.
        layout: of the same cloud, floor at 0.
        spacing: median distance to the nearest neighbour, metres: in sparse clouds the cubes and columns grow with it.
    """
    factor = length_factor(layout)
    scaled = (coord * np.float32(factor)).astype(np.float32)
    scaled_layout = Layout(0.0, None, 0.0, layout.height * factor, 0.0, None, layout.has_floor)
    floor, wall = coverage(scaled, scaled_layout)
    floor = floor if layout.has_floor else 0.0  # a lone wall stands on a thin plan that is full of points
    edge = SPARSE * spacing * factor
    parts = {
        "coverage": 0.5 * (floor + wall),
        "double": double_share(scaled, normal, max(COLUMN, edge), max(BEND_CUBE, edge)),
        "noise": noise_level(scaled, max(NOISE_CUBE, edge)),
        "bend": bend(scaled, wall_heading(normal), max(BEND_CUBE, edge)),
    }
    worth = {name: part.worth(parts[name]) for name, part in PARTS.items()}
    score = (sum(part.weight * worth[name] for name, part in PARTS.items()) + min(worth.values())) / 2
    return Quality(score, floor_coverage=floor, wall_coverage=wall, length_factor=factor, **parts)


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
    if quality.score < limits.min_score and not reasons:
        reasons.append(f"score {quality.score:.2f} (limit {limits.min_score:.2f})")
    return "; ".join(reasons)

"""Which way is up in a room: from floors, walls and upright things, any direction, upside-down rooms found.

Of a room's planes, all but the slanted ones are parallel or perpendicular to the vertical; so are upright curved
things (lamps, pots, legs), whose normals are perpendicular to the vertical and to no other room axis. That gives the
axis. Furniture stands on the floor and not under the ceiling, and shows its top; that gives the sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from data_tools.clouds.io import Cloud, cell_means, grid_cells, plane_fits

SAMPLE_CELLS = 60  # grid cells along the cloud's middle-sized axis, for an even sample of the surface
MOST_NORMALS = 12_000
NARROW = np.deg2rad(6.0)  # a normal counts as parallel or perpendicular within this
CANDIDATES = 6
COARSE_STEP = 1e-3  # of the cloud's size: surfaces in coarser coordinates are stairs, whose planes say nothing
MIN_MARGIN = 0.06  # smallest lead of the best over the next direction to be believed
AXES = {"x": (1, 0, 0), "y": (0, 1, 0), "z": (0, 0, 1), "-x": (-1, 0, 0), "-y": (0, -1, 0), "-z": (0, 0, -1)}
# a small bonus for directions that files commonly call up: +z, and -y or +y of camera and graphics frames
AXIS_HINTS = {(0.0, 0.0, 1.0): 0.10, (0.0, -1.0, 0.0): 0.08, (0.0, 1.0, 0.0): 0.05}


@dataclass(frozen=True)
class UpGuess:
    """The answer of `find_up`.

    Attributes:
        up: (3,) unit vector in the cloud's frame; (0, 0, 1) when not ``found``.
        found: whether the cloud gave enough to tell.
        reason: in words, for the record.
        margin: lead of the best direction over the next.
        scores: the parts of the best direction's score.
        without_prior: (3,) the direction that the cloud alone calls up, where a prior was given and it can tell.
    """

    up: np.ndarray
    found: bool
    reason: str
    margin: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)
    without_prior: np.ndarray | None = None


@dataclass
class _Surface:
    """An even sample of a cloud: points (M, 3), plane normals (M, 3), flatness weights (M,), the file's normals.

    ``reach`` (radians) is how far the normals of one plane scatter here: small in a clean scan, so that things turned
    by a few degrees tell the vertical from the walls' directions; large in a noisy one.
    """

    point: np.ndarray
    normal: np.ndarray
    weight: np.ndarray
    facing: np.ndarray | None
    reach: float = NARROW


def _sample(coord: np.ndarray, normal: np.ndarray | None) -> _Surface:
    """One point a grid cell, so that dense patches do not outvote walls, with its fitted plane."""
    point = coord.astype(np.float64)
    low, high = np.quantile(point, [0.01, 0.99], axis=0)
    inside = ((point >= low) & (point <= high)).all(axis=1)
    inside = inside if inside.sum() > 100 else np.ones(len(point), dtype=bool)
    point = point[inside]
    size = float(np.sort(high - low)[1])
    cell = max(size, 1e-9) / SAMPLE_CELLS
    first, inverse, counts = grid_cells(point, cell)
    mean = cell_means(point, inverse, counts)
    enough = np.flatnonzero(counts >= min(2, np.median(counts)))
    if len(enough) > MOST_NORMALS:
        enough = enough[np.linspace(0, len(enough) - 1, MOST_NORMALS).astype(int)]
    fitted, flatness = plane_fits(mean[enough], cKDTree(mean), k=min(16, len(mean)))
    facing = None
    if normal is not None:
        given = normal[inside][first[enough]].astype(np.float64)
        facing = given if np.abs(given).sum() > 0 else None
    return _Surface(mean[enough], fitted, np.clip((flatness - 0.5) / 0.4, 0, 1), facing)


def _candidates(surface: _Surface, rng: np.random.Generator) -> list[np.ndarray]:
    """Directions that most planes agree with, apart by more than 25 degrees, each made exact by `refine`."""
    strong = np.flatnonzero(surface.weight > 0.3)
    if len(strong) < 50:
        return []
    normal, weight = surface.normal[strong], surface.weight[strong]
    pick = rng.permutation(len(strong))[:1500]
    trial = normal[pick]
    crossed = np.cross(trial[: len(trial) // 2], trial[len(trial) // 2 : 2 * (len(trial) // 2)])
    length = np.linalg.norm(crossed, axis=1)
    trial = np.concatenate([trial, crossed[length > 0.5] / length[length > 0.5, None], np.eye(3)])
    judge = rng.permutation(len(strong))[:4000]
    cosine = np.abs(trial @ normal[judge].T)
    fits = (cosine > np.cos(NARROW)) | (cosine < np.sin(NARROW))
    score = (fits * weight[judge]).sum(axis=1)
    found: list[np.ndarray] = []
    order = np.argsort(-score)
    while len(order) and len(found) < CANDIDATES:
        found.append(refine(trial[order[0]], normal, weight))
        near = np.abs(trial[order] @ np.stack([found[-1], trial[order[0]]]).T).max(axis=1)
        order = order[near < np.cos(np.deg2rad(25))]
    return found


def refine(up: np.ndarray, normal: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The direction nearest to ``up`` that is most parallel to some and most perpendicular to the other normals.

    Maximises sum w (n.u)^2 over the parallel minus the same over the perpendicular normals: the largest eigenvector.
    """
    for tolerance in (15.0, 10.0, 6.0, 4.0, 3.0):
        cosine = np.abs(normal @ up)
        reach = np.deg2rad(tolerance)
        parallel, across = cosine > np.cos(reach), cosine < np.sin(reach)
        signed = weight * (parallel.astype(np.float64) - across)
        matrix = (normal * signed[:, None]).T @ normal
        best = np.linalg.eigh(matrix)[1][:, -1]
        if abs(float(best @ up)) < np.cos(np.deg2rad(20)):
            return up
        up = best if best @ up > 0 else -best
    return up


def _scatter(line: np.ndarray, surface: _Surface) -> float:
    """Angle that most normals of the planes across ``line`` keep to, between 1.5 degrees and `NARROW`."""
    off = np.arccos(np.clip(np.abs(surface.normal @ line), 0, 1))
    near = off[(off < 2 * NARROW) & (surface.weight > 0.5)]
    return float(np.clip(2.5 * np.median(near), np.deg2rad(1.5), NARROW)) if len(near) > 20 else NARROW


def _axis_score(up: np.ndarray, surface: _Surface) -> dict[str, float]:
    """How well a line (either sign) does as the vertical: the parts are explained beside the numbers."""
    cosine = np.abs(surface.normal @ up)
    weight = surface.weight + 0.1  # curved things have flat neighbourhoods too, but not as flat
    total = weight.sum()
    parallel, across = cosine > np.cos(surface.reach), cosine < np.sin(surface.reach)
    height = surface.point @ up
    spread = float(np.ptp(np.quantile(height, [0.005, 0.995])))
    others = np.eye(3) - np.outer(up, up)
    sideways = surface.point @ np.linalg.svd(others)[0][:, :2]
    wide = np.ptp(np.quantile(sideways, [0.005, 0.995], axis=0), axis=0)
    # of the perpendicular normals, those far from the two strongest wall directions: turned and round upright things
    turned = _azimuth_spread(surface.normal[across], weight[across], up, surface.reach)
    return {
        "aligned": float(weight[parallel | across].sum() / total),
        "level": float(weight[parallel].sum() / total),
        "turned": turned * float(weight[across].sum() / total),
        "flat": float(np.log(max(float(np.sqrt(wide.prod())), 1e-9) / max(spread, 1e-9))),
    }


def _azimuth_spread(normal: np.ndarray, weight: np.ndarray, up: np.ndarray, reach: float) -> float:
    """Share of upright surfaces whose heading is not one of the two crossed main headings."""
    if len(normal) < 20:
        return 0.0
    basis = np.linalg.svd(np.eye(3) - np.outer(up, up))[0][:, :2]
    heading = np.degrees(np.arctan2(normal @ basis[:, 1], normal @ basis[:, 0])) % 90.0
    histogram = np.bincount((heading * 2).astype(int) % 180, weight, 180)
    half = max(3, round(np.degrees(reach) * 2))
    wrapped = np.concatenate([histogram[-half:], histogram, histogram[:half]])
    near_peak = np.convolve(wrapped, np.ones(2 * half + 1), "valid").max()
    return float(1.0 - near_peak / max(histogram.sum(), 1e-9))


def _room_frame(up: np.ndarray, surface: _Surface) -> np.ndarray:
    """Points (M, 3) as shares 0..1 of the room's box that stands along ``up`` and the main wall heading."""
    basis = np.linalg.svd(np.eye(3) - np.outer(up, up))[0][:, :2]
    across = np.abs(surface.normal @ up) < 0.2
    normal, weight = surface.normal[across], surface.weight[across]
    heading = np.arctan2(normal @ basis[:, 1], normal @ basis[:, 0])
    turn = np.angle((np.exp(4j * heading) * weight).sum()) / 4  # four walls, one heading: the angle modulo 90 degrees
    first = basis[:, 0] * np.cos(turn) + basis[:, 1] * np.sin(turn)
    place = surface.point @ np.stack([first, np.cross(up, first), up], axis=1)
    low, high = np.quantile(place, [0.01, 0.99], axis=0)
    return (place - low) / np.maximum(high - low, 1e-12)


def _sign_score(up: np.ndarray, surface: _Surface) -> dict[str, float]:
    """Evidence, in -1..1 each, that ``up`` and not its opposite is up."""
    share = _room_frame(up, surface)
    height = share[:, 2]
    # what stands free of walls, floor and ceiling is furniture, and that is low
    free = ((share > 0.12) & (share < 0.88)).all(axis=1)
    inner_low = float((1 - 2 * height[free]).mean()) if free.any() else 0.0
    level = np.abs(surface.normal @ up) > np.cos(2 * NARROW)
    between = (height > 0.06) & (height < 0.94)
    sides, tops = between & ~level, between & level
    mass_low = float(np.sign(0.5 - height[sides]).mean()) if sides.sum() > 20 else 0.0
    shown = 0.0
    if surface.facing is not None and tops.sum() > 20:
        shown = float(np.sign(surface.facing[tops] @ up).mean())
    return {
        "inner_low": inner_low * min(1.0, float(free.mean()) / 0.02),
        "mass_low": mass_low,
        "tops_shown": shown * min(1.0, float(tops.mean()) / 0.03),
    }


# Weights: set by hand near a conditional logistic fit on 288 synthetic rooms (four noise levels; whole, without
# ceiling, cut in half). The clips keep a fragment that is mostly one wall from passing for a floor.
AXIS_WEIGHTS = {"aligned": 0.8, "level": 0.65, "turned": 0.8, "flat": 0.14}
SIGN_WEIGHTS = {"inner_low": 0.5, "mass_low": 0.8, "tops_shown": 0.1}
PRIOR_WEIGHTS = {"camera_axis": 0.5, "camera_sign": 0.2}
LEAST_PRIOR = 0.3  # cameras whose up vectors agree less than this say nothing
CLIPS = {"level": (0.0, 0.4), "flat": (-1.0, 0.7), "mass_low": (-0.25, 0.25)}


def _weigh(scores: dict[str, float], weights: dict[str, float]) -> float:
    return sum(weights[name] * float(np.clip(value, *CLIPS.get(name, (-1.0, 1.0)))) for name, value in scores.items())


def _one_plane(across: np.ndarray, surface: _Surface, prior: np.ndarray | None) -> UpGuess:
    """A lone plane is a floor or a wall; only the cameras or the file's axes can say which, if they say one thing.

    Leaning over against z, the file is not z-up. If the plane stands along y then, it is a wall in a camera's frame:
    y points down where cameras look along +z (the wall faces -z), up where they look along -z.
    """
    keep = np.array([0.0, 0.0, 1.0])
    if prior is not None and np.linalg.norm(prior) > LEAST_PRIOR:
        way = prior / np.linalg.norm(prior)
        lean = float(way @ across)
        up = np.sign(lean) * across if abs(lean) > np.cos(np.deg2rad(45)) else way - lean * across
        what = "floor or ceiling" if abs(lean) > np.cos(np.deg2rad(45)) else "wall"
        return UpGuess(up / np.linalg.norm(up), True, f"one plane, a {what} by the cameras' up")
    over_z, over_y = abs(float(across[2])), abs(float(across[1]))
    if np.sin(2 * NARROW) < over_z < np.cos(3 * NARROW) and over_y < np.sin(2 * NARROW):
        faces_z = 0.0 if surface.facing is None else float(surface.facing[:, 2].mean())
        y = np.array([0.0, 1.0 if faces_z > 0.3 else -1.0, 0.0])
        up = y - (y @ across) * across
        words = f"a guess: one plane, taken as a wall in a camera's frame ({'+' if y[1] > 0 else '-'}y up)"
        return UpGuess(up / np.linalg.norm(up), True, words)
    return UpGuess(keep, False, "one plane only: floor or wall, it cannot be told")


def _rank(
    lines: list[np.ndarray], surface: _Surface, prior: np.ndarray | None
) -> list[tuple[float, np.ndarray, dict[str, float]]]:
    """Score, direction and its parts for both signs of every line, best first."""
    ranked: list[tuple[float, np.ndarray, dict[str, float]]] = []
    for line in lines:
        axis = _axis_score(line, surface)
        for sign in (1.0, -1.0):
            way = _sign_score(sign * line, surface)
            parts = {**axis, **way}
            score = _weigh(axis, AXIS_WEIGHTS) + _weigh(way, SIGN_WEIGHTS)
            if prior is None:
                near = [bonus for axis, bonus in AXIS_HINTS.items() if float(sign * line @ np.array(axis)) > 0.9]
                score += max(near, default=0.0)  # the file's axes say nothing where the cameras speak
            else:
                lean = float(sign * line @ prior)
                parts |= {"camera_axis": abs(lean), "camera_sign": lean}
                score += _weigh({"camera_axis": abs(lean), "camera_sign": lean}, PRIOR_WEIGHTS)
            ranked.append((float(score), sign * line, parts))
    ranked.sort(key=lambda row: -row[0])
    return ranked


def _own_choice(ranked: list[tuple[float, np.ndarray, dict[str, float]]]) -> np.ndarray | None:
    """The sign that the cloud alone prefers for the axis chosen, or None where it cannot tell."""
    way = ranked[0][1]
    ahead = [_weigh({k: row[2][k] for k in SIGN_WEIGHTS}, SIGN_WEIGHTS) for row in ranked if abs(row[1] @ way) > 0.99]
    if len(ahead) < 2 or abs(ahead[0] - ahead[1]) < MIN_MARGIN:
        return None
    return way if ahead[0] > ahead[1] else -way


def find_up(coord: np.ndarray, normal: np.ndarray | None = None, prior: np.ndarray | None = None) -> UpGuess:
    """Find the up direction of an indoor cloud.

    Args:
        coord: (N, 3) finite coordinates in any unit, any orientation.
        normal: (N, 3) normals on the side of the camera that saw them, if the file has such; they only help the sign.
        prior: (3,) where the cameras' up vectors point on average, of length 0..1: how well they agree. It weighs in
            on the axis and, less, on the sign, so that a phone held upside down loses against a furnished room.

    Returns:
        The guess; ``found`` is False, with the reason, when planes are too few or two directions do equally well.
    """
    keep = np.array([0.0, 0.0, 1.0])
    if len(coord) < 200 or not float(np.ptp(coord, axis=0).max()) > 0:
        return UpGuess(keep, False, f"{len(coord)} points are too few to tell")
    low, high = np.quantile(coord, [0.01, 0.99], axis=0)
    if np.sort(high - low)[1] <= 1e-3 * np.max(high - low):
        return UpGuess(keep, False, "most points lie on one line or at one place")
    surface = _sample(coord, normal)
    lines = _candidates(surface, np.random.default_rng(0))
    if not lines:
        return UpGuess(keep, False, "no flat surfaces")
    cosine = np.abs(surface.normal @ lines[0])
    if (surface.weight * (cosine > np.cos(2.5 * NARROW))).sum() > 0.93 * surface.weight.sum():
        return _one_plane(lines[0], surface, prior)
    if prior is not None and np.linalg.norm(prior) > LEAST_PRIOR:
        own = refine(prior / np.linalg.norm(prior), surface.normal, surface.weight)
        if max(abs(float(own @ line)) for line in lines) < np.cos(np.deg2rad(10)):
            lines.append(own)
    surface.reach = _scatter(lines[0], surface)
    ranked = _rank(lines, surface, prior)
    best, margin = ranked[0], ranked[0][0] - ranked[1][0]
    own_choice = None if prior is None else _own_choice(ranked)
    if margin < MIN_MARGIN:
        words = f"two directions do equally well (lead {margin:.2f} < {MIN_MARGIN})"
        return UpGuess(keep, False, words, margin, best[2], own_choice)
    words = "from floor, walls and furniture" + ("" if prior is None else ", with the cameras' up")
    return UpGuess(best[1], True, words, margin, best[2], own_choice)


def up_of(cloud: Cloud) -> UpGuess:
    """`find_up` of a cloud as it was read, whose coordinates may be too coarse to tell."""
    extent = float(np.ptp(np.quantile(cloud.coord, [0.01, 0.99], axis=0), axis=0).max())
    if cloud.step > COARSE_STEP * extent:
        return UpGuess(np.array([0.0, 0.0, 1.0]), False, "coordinates too coarse to tell")
    return find_up(cloud.coord, cloud.normal)


def rotation_to_z(up: np.ndarray | Sequence[float]) -> np.ndarray:
    """The smallest rotation (3, 3) that takes ``up`` to +z: ``coord @ R.T`` is level."""
    a = np.asarray(up, dtype=np.float64) / np.linalg.norm(up)
    cosine = float(a[2])
    if cosine < -1 + 1e-12:
        return np.diag([1.0, -1.0, -1.0])
    v = np.array([a[1], -a[0], 0.0])  # a x z
    skew = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + skew + skew @ skew / (1 + cosine)

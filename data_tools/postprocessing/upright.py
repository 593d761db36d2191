"""Which way is up, from the cloud and from the cameras, and what spoke for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_tools.clouds.gravity import AXES, LEAST_PRIOR, UpGuess, find_up, rotation_to_z
from data_tools.clouds.normals import largest_plane
from data_tools.postprocessing.cameras import Cameras
from data_tools.postprocessing.sampling import thin

SAMPLE = 300_000  # points that are looked at; an even spread of them is enough for floor and walls
PLANES = 2  # of the release: the largest, found one after the other
TRIES = 500  # triples of points a plane
CELL = 4.0  # spacings: edge of the cells that are represented by a point each
NEAR = 2.0  # spacings from a plane: half a cell


@dataclass(frozen=True)
class Upright:
    """The turn to z-up.

    Attributes:
        rotation: (3, 3), ``coord @ rotation.T`` is level.
        evidence: up in the file's frame, the rule, the margin, the parts of the score, for meta.json.
    """

    rotation: np.ndarray
    evidence: dict[str, object]
    notes: list[str]


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    cosine = float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _fallback(guess: UpGuess, prior: np.ndarray | None) -> tuple[np.ndarray, str]:
    """What to call up where the surfaces do not say: the cameras' mean, or the file's z."""
    if prior is not None and np.linalg.norm(prior) > LEAST_PRIOR:
        return prior / np.linalg.norm(prior), f"the cameras' up ({guess.reason})"
    return np.array([0.0, 0.0, 1.0]), f"axes kept ({guess.reason})"


def _say_conflict(up: np.ndarray, guess: UpGuess, prior: np.ndarray, notes: list[str]) -> bool:
    """Note where cameras and cloud point opposite ways, and who was believed."""
    own = guess.without_prior
    if own is None or np.linalg.norm(prior) <= LEAST_PRIOR or float(own @ prior) >= 0 or abs(float(up @ own)) < 0.7:
        return False
    if float(up @ prior) < 0:
        notes.append(
            f"the cameras were held upside down: floor and furniture say so (lead {guess.margin:.2f}, "
            f"cameras' up {_angle(up, prior):.0f} degrees off)"
        )
    else:
        notes.append(f"the cloud alone looks upside down, the cameras are believed (lead {guess.margin:.2f})")
    return True


def _up_of_planes(coord: np.ndarray, spacing: float, prior: np.ndarray | None, rng: np.random.Generator) -> Upright:
    """Up from the floor: of the largest planes the one most across the cameras' up; without cameras the largest."""
    left = coord[thin(coord, CELL * spacing)].astype(np.float64)
    whole, found = left, []
    for _ in range(PLANES):
        plane = largest_plane(left, NEAR * spacing, TRIES, rng)
        if plane is not None:
            found.append((plane[0], plane[1], int(plane[2].sum())))
            left = left[~plane[2]]
    if not found:
        return Upright(np.eye(3), {"up": [0.0, 0.0, 1.0], "rule": "planes"}, ["up: axes kept (no plane)"])
    is_known = prior is not None and np.linalg.norm(prior) > LEAST_PRIOR
    normal, offset, count = max(found, key=lambda plane: abs(float(plane[0] @ prior))) if is_known else found[0]
    sign = float(normal @ prior) if is_known else float(np.median(whole @ normal) - offset)
    up = -normal if sign < 0 else normal
    evidence = {"up": [round(float(v), 6) for v in up], "rule": "planes", "share": round(count / len(whole), 4)}
    return Upright(rotation_to_z(up), evidence, [])


def find_upright(
    coord: np.ndarray,
    normal: np.ndarray | None,
    cameras: Cameras | None,
    up: str,
    rng: np.random.Generator,
    spacing: float = 0.0,
) -> Upright:
    """The rotation that makes a cloud z-up.

    Args:
        coord: (N, 3), any frame and unit.
        normal: (N, 3) toward the cameras, or None.
        up: "auto", "planes", or the axis that the caller knows to be up.
        spacing: of the points, for "planes".
    """
    prior = None if cameras is None else cameras.up()
    if up == "planes":
        return _up_of_planes(coord, spacing, prior, rng)
    if up != "auto":
        return Upright(rotation_to_z(AXES[up]), {"up": [float(v) for v in AXES[up]], "rule": "given"}, [])
    rows = np.arange(len(coord))
    if len(coord) > SAMPLE:
        rows = np.sort(rng.permutation(len(coord))[:SAMPLE])
    guess = find_up(coord[rows], None if normal is None else normal[rows], prior=prior)
    notes: list[str] = []
    direction, rule = (guess.up, guess.reason) if guess.found else _fallback(guess, prior)
    conflict = prior is not None and guess.found and _say_conflict(direction, guess, prior, notes)
    if not guess.found:
        notes.append(f"up: {rule}")
    evidence: dict[str, object] = {
        "up": [round(float(v), 6) for v in direction],
        "rule": rule,
        "found": guess.found,
        "margin": round(guess.margin, 4),
        "scores": {name: round(value, 4) for name, value in sorted(guess.scores.items())},
        "conflict": conflict,
    }
    if prior is not None:
        evidence["cameras_up"] = [round(float(v), 4) for v in prior]
        evidence["cameras_off_degrees"] = round(_angle(direction, prior), 2)
    return Upright(rotation_to_z(direction), evidence, notes)

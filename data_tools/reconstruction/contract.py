"""Whether a backend's poses and points mean what `Prediction` says: looked at in its first scenes.

Points of one view are projected into others. Where the depth there agrees, the conventions hold. Where it does not, but
would under another convention (poses the wrong way round, other axes, depth and poses in different units), the backend
is refused: it would go on making clouds that are quietly wrong. Where nothing decides (a camera that stood still, bare
walls, a poor prediction), the next scene is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_tools.reconstruction.base import Prediction, Reconstructor
from data_tools.reconstruction.geometry import invert_poses, reproject
from data_tools.stages.record import StageError

VIEWS = 12  # that are projected, evenly spread
GAPS = (1, 2, 4, 8, 16, 32)  # views between the two of a pair
POINTS = 600  # of a view
AGREES = 0.05  # relative difference of depth
OWN_PIXEL = 2.0  # pixels between a point's projection into its own view and where it stands
DECISIVE = 1.5  # times as many points must agree under another convention
HELD = 1.1  # and as many times more under this one than under any other
LEAST = 0.3  # share of the points that agree where a convention is right
UNITS = (0.1, 0.25, 0.4, 0.6, 1.6, 2.5, 4.0, 10.0)  # of the poses' shifts
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Verdict:
    """What a scene says.

    Attributes:
        state: "held", "refused", "undecided".
        reason: in words; empty where it held.
    """

    state: str
    reason: str = ""


def keep_contract(backend: Reconstructor, prediction: Prediction, notes: list[str], always: bool = False) -> None:
    """Look at a backend's prediction unless an earlier one has settled it.

    Args:
        backend: keeps that it held.
        prediction: of it.
        notes: gets a line where nothing is decided.
        always: look at every prediction, so that a scene does not depend on those before it.

    Raises:
        StageError: the predictions mean something else than they should; one line.
    """
    if vars(backend).get("contract_held") and not always:
        return
    verdict = check(prediction)
    if verdict.state == "refused":
        raise StageError(
            f"{backend.name}: {verdict.reason}; check its version and weights (docs/reconstruct.md)",
            permanent=False,
        )
    if verdict.state == "held":
        vars(backend)["contract_held"] = True
    else:
        notes.append(f"conventions of {backend.name} not confirmed here: {verdict.reason}")


def check(prediction: Prediction) -> Verdict:
    """Look at a prediction of at least two views."""
    rows = np.unique(np.linspace(0, len(prediction) - 1, VIEWS).round().astype(int))
    own = _own_share(prediction, rows, prediction.camera_to_world)
    if own < LEAST:
        for words, poses in _conventions(prediction.camera_to_world):
            if _own_share(prediction, rows, poses) > max(0.8, DECISIVE * own):
                return Verdict("refused", f"{words} ({own:.0%} of the points lie at their own pixels)")
        return Verdict("undecided", f"{own:.0%} of the points project to their own pixels")
    score = _agreeing(prediction, rows, prediction.camera_to_world)
    others = [(words, poses) for words, poses in _conventions(prediction.camera_to_world) if words != LOCAL]
    others += [(_unit_words(unit), _stretched(prediction.camera_to_world, unit)) for unit in UNITS]
    found = [(_agreeing(prediction, rows, poses), words) for words, poses in others]
    best, words = max(found)
    if best > max(LEAST, DECISIVE * score):
        return Verdict(
            "refused", f"{words} ({best:.0%} of the points agree between views that way, {score:.0%} as it is)"
        )
    if score < LEAST:
        return Verdict("undecided", f"{score:.0%} of the points agree between views")
    if score < HELD * best:
        return Verdict("undecided", "the camera moved too little, or the walls are too flat, to tell conventions apart")
    return Verdict("held")


LOCAL = "its points are in camera axes, not in one world"


def _conventions(poses: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """What else poses (V, 4, 4) may have meant, in words, and as camera-to-world with OpenCV axes."""
    turned = poses.copy()
    turned[:, :3, :3] = poses[:, :3, :3].transpose(0, 2, 1)
    return [
        ("its poses are world-to-camera, not camera-to-world", invert_poses(poses)),
        ("its cameras look along -z with y up (OpenGL), not along z with y down (OpenCV)", poses @ FLIP),
        ("its rotations are world-to-camera, its shifts camera-to-world", turned),
        (LOCAL, np.tile(np.eye(4), (len(poses), 1, 1))),
    ]


def _unit_words(unit: float) -> str:
    return f"its poses are in another unit than its depth (about {unit:g} times too {'small' if unit > 1 else 'large'})"


def _stretched(poses: np.ndarray, unit: float) -> np.ndarray:
    out = poses.copy()
    out[:, :3, 3] *= unit
    return out


def _own_share(prediction: Prediction, rows: np.ndarray, poses: np.ndarray) -> float:
    """Share of the points of some views that lie before their own camera and project to where they stand."""
    shape, good, total = prediction.points.shape[1:3], 0, 0
    for row in rows:
        place = _sample(prediction.valid[row])
        points = prediction.points[row].reshape(-1, 3)[place]
        pixel, _ = reproject(points, poses[row], prediction.intrinsics[row], shape)
        off = np.hypot(pixel // shape[1] - place // shape[1], pixel % shape[1] - place % shape[1])
        good, total = good + int(((pixel >= 0) & (off < OWN_PIXEL)).sum()), total + len(place)
    return good / max(total, 1)


def _agreeing(prediction: Prediction, rows: np.ndarray, poses: np.ndarray) -> float:
    """Share of the points of some views that other views see at their depth, if the poses are ``poses``."""
    views, shares = len(prediction), []
    for row in rows:
        place = _sample(prediction.valid[row])
        local = _local(prediction, row, place)
        world = local @ poses[row][:3, :3].T + poses[row][:3, 3]
        for other in [row + gap for gap in GAPS if row + gap < views]:
            pixel, z = reproject(world, poses[other], prediction.intrinsics[other], prediction.points.shape[1:3])
            inside = np.flatnonzero(pixel >= 0)
            inside = inside[prediction.valid[other].reshape(-1)[pixel[inside]]]
            there = _local(prediction, other, pixel[inside])[:, 2]
            shares.append(float((np.abs(there - z[inside]) < AGREES * z[inside]).sum()) / max(len(place), 1))
    return float(np.mean(shares)) if shares else 0.0


def _local(prediction: Prediction, row: int, place: np.ndarray) -> np.ndarray:
    """Points (N, 3) of a view at flat pixels (N,), in its camera's axes."""
    pose = prediction.camera_to_world[row]
    return (prediction.points[row].reshape(-1, 3)[place].astype(np.float64) - pose[:3, 3]) @ pose[:3, :3]


def _sample(valid: np.ndarray) -> np.ndarray:
    """At most `POINTS` flat pixels of a grid (h, w), evenly among the valid."""
    place = np.flatnonzero(valid)
    return place[np.linspace(0, len(place) - 1, min(POINTS, len(place))).astype(int)] if len(place) else place

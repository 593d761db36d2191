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
OWN_LEAST, OWN_RIGHT = 0.5, 0.9  # share of the points that must lie at their own pixels, under another convention
OWN_PIXEL = 2.0  # pixels between a point's projection into its own view and where it stands
DECISIVE = 8  # times as many pairs of views must speak for a convention as against it
LEAST = 0.3  # share of the points that agree where a convention is right and two views overlap
TELLING = 0.15  # a pair of views speaks for a convention where so much more agrees under it than under another
LEAST_PAIRS = 4  # that must speak
UNITS = (0.1, 0.14, 0.2, 0.28, 0.4, 0.55, 1.8, 2.5, 3.6, 5.0, 7.0, 10.0)  # of the poses' shifts, against the depth
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
    if own < OWN_LEAST:
        for words, poses in _conventions(prediction.camera_to_world):
            if _own_share(prediction, rows, poses) > OWN_RIGHT:
                return Verdict("refused", f"{words} (as is, {own:.0%} of the points lie at their own pixels)")
        return Verdict("undecided", f"{own:.0%} of the points project to their own pixels")
    others = [(words, poses) for words, poses in _conventions(prediction.camera_to_world) if words != LOCAL]
    others += [(_unit_words(unit), _stretched(prediction.camera_to_world, unit)) for unit in UNITS]
    shares = np.array(
        [_agreeing(prediction, rows, poses) for poses in (prediction.camera_to_world, *(poses for _, poses in others))]
    )
    gain = np.where(shares.max(axis=0) > LEAST, shares[1:] - shares[0], 0.0)
    wins, losses = (gain > TELLING).sum(axis=1), (gain < -TELLING).sum(axis=1)
    best = int((wins - losses).argmax())
    if wins[best] >= max(LEAST_PAIRS, DECISIVE * losses[best]):
        told = f"more points agree that way in {wins[best]} pairs of views, fewer in {losses[best]}"
        return Verdict("refused", f"{others[best][0]} ({told})")
    clear = [True] * (len(others) - len(UNITS)) + [max(unit, 1 / unit) > 2 for unit in UNITS]  # nearer ones look alike
    if (losses >= np.maximum(LEAST_PAIRS, DECISIVE * wins))[clear].all():
        return Verdict("held")
    return Verdict(
        "undecided", "a still camera, flat walls or a poor prediction: it cannot be told from other conventions"
    )


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


def _agreeing(prediction: Prediction, rows: np.ndarray, poses: np.ndarray) -> list[float]:
    """Share of a view's points that another sees at their depth, of pairs of views, if the poses are ``poses``."""
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
    return shares


def _local(prediction: Prediction, row: int, place: np.ndarray) -> np.ndarray:
    """Points (N, 3) of a view at flat pixels (N,), in its camera's axes."""
    pose = prediction.camera_to_world[row]
    return (prediction.points[row].reshape(-1, 3)[place].astype(np.float64) - pose[:3, 3]) @ pose[:3, :3]


def _sample(valid: np.ndarray) -> np.ndarray:
    """At most `POINTS` flat pixels of a grid (h, w), evenly among the valid."""
    place = np.flatnonzero(valid)
    return place[np.linspace(0, len(place) - 1, min(POINTS, len(place))).astype(int)] if len(place) else place

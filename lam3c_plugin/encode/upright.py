"""Clouds that lie on their side: turned z-up to be encoded and drawn; what is written keeps the input's coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_tools.clouds.gravity import rotation_to_z, up_of
from data_tools.clouds.io import Cloud

CLEAR_TILT = 5.0  # degrees; a smaller one may be the estimate's own error, and a network sees past it
CLEAR_LEAD = 0.2  # of the direction over the next; below it, parts of rooms that are upright were turned too
ROOM = (1.2, 1.8, 1.8)  # metres, sorted: of smaller things, seen from outside, a room's rules tell the wrong way


@dataclass(frozen=True)
class Input:
    """A cloud that a command works on.

    Attributes:
        cloud: as it was read; its rows and coordinates are those of what is written.
        level: the same points z-up, for the encoder and for pictures; the same object where nothing is to be turned.
        turn: (3, 3), ``level.coord = cloud.coord @ turn.T``.
    """

    cloud: Cloud
    level: Cloud
    turn: np.ndarray


def upright(cloud: Cloud, keep: bool = False) -> Input:
    """The cloud with its z-up twin; a note on the cloud says what was turned, or that it cannot be told.

    Args:
        cloud: as it was read; ``notes`` grows.
        keep: take z as up, without looking.
    """
    plain = Input(cloud, cloud, np.eye(3))
    if keep:
        return plain
    extent = np.sort(np.ptp(np.quantile(cloud.coord, [0.01, 0.99], axis=0), axis=0))
    guess = up_of(cloud) if (extent >= ROOM).all() else None
    tilt = 0.0 if guess is None else float(np.degrees(np.arccos(np.clip(guess.up[2], -1, 1))))
    if guess is not None and guess.found and tilt < CLEAR_TILT:
        return plain
    if guess is None or not guess.found or guess.margin < CLEAR_LEAD:
        reason = "it is smaller than a room" if guess is None else guess.reason
        perhaps = f"perhaps {tilt:.0f} degrees from z, " if tilt else ""
        cloud.notes.append(f"which way is up is not clear ({perhaps}{reason}): z is taken as up")
        return plain
    cloud.notes.append(f"tilted: turned by {tilt:.0f} degrees to z-up ({guess.reason}); --no-level keeps it as it is")
    turn = rotation_to_z(guess.up)
    level = cloud.select(np.arange(len(cloud)))
    level.coord = (cloud.coord.astype(np.float64) @ turn.T).astype(np.float32)
    level.origin = np.zeros(3)
    if cloud.normal is not None:
        level.normal = (cloud.normal.astype(np.float64) @ turn.T).astype(np.float32)
    return Input(cloud, level, turn)

"""Clouds that lie on their side: turned z-up to be encoded and drawn; what is written keeps the input's coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_tools.clouds.gravity import rotation_to_z, up_of
from data_tools.clouds.io import Cloud

CLEAR_TILT = 5.0  # degrees; a smaller one may be the estimate's own error, and a network sees past it


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
    guess = up_of(cloud)
    if not guess.found:
        cloud.notes.append(f"which way is up is not clear ({guess.reason}): z is taken as up")
        return plain
    tilt = float(np.degrees(np.arccos(np.clip(guess.up[2], -1, 1))))
    if tilt < CLEAR_TILT:
        return plain
    cloud.notes.append(f"tilted: turned by {tilt:.0f} degrees to z-up ({guess.reason}); --no-level keeps it as it is")
    turn = rotation_to_z(guess.up)
    level = cloud.select(np.arange(len(cloud)))
    level.coord = (cloud.coord.astype(np.float64) @ turn.T).astype(np.float32)
    level.origin = np.zeros(3)
    if cloud.normal is not None:
        level.normal = (cloud.normal.astype(np.float64) @ turn.T).astype(np.float32)
    return Input(cloud, level, turn)

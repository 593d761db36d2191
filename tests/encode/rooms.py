"""A made-up room for the tests of this folder, and the encoder that looks at it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from data_tools.clouds.io import Cloud
from lam3c_plugin.encode import Encoder
from tests.rooms import synthetic_room

GRID = 0.05


def room(points: int = 6000, index: int = 0) -> Cloud:
    """Clean, with colours 0-255 and true normals; the arrays are not to be written to."""
    return synthetic_room(index, points=points, noise="clean")[0]


@lru_cache
def tiny() -> Encoder:
    """Random weights, scaled up so that attention, convolution and MLP all matter."""
    encoder = Encoder.random("tiny", seed=1, device="cpu")
    for name, value in encoder.backbone.named_parameters():
        if value.dim() > 1 and "stem" not in name:
            value.data *= 4
    return encoder


def inputs(cloud: Cloud) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return cloud.coord, cloud.color, cloud.normal

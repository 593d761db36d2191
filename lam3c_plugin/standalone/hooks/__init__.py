"""Hooks of the embedded engine, under the host's names; importing this package registers them."""

from .checkpoint import CheckpointLoader, CheckpointSaver
from .default import HookBase, ModelHook
from .log import InformationWriter, IterationTimer
from .schedule import WeightDecaySchedular

__all__ = [
    "CheckpointLoader",
    "CheckpointSaver",
    "HookBase",
    "InformationWriter",
    "IterationTimer",
    "ModelHook",
    "WeightDecaySchedular",
]

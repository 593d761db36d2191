"""Frames to points and cameras: one interface (``base``), one adapter a model, and what all of them share."""

from data_tools.reconstruction.base import (
    BACKENDS,
    Frames,
    Prediction,
    Reconstructor,
    ReconstructSettings,
    build_reconstructor,
)

__all__ = ["BACKENDS", "Frames", "Prediction", "ReconstructSettings", "Reconstructor", "build_reconstructor"]

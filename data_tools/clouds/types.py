"""The plain cloud and its error (NumPy only)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

UNSURE = -100.0  # a confidence that is no number: below every threshold, of logits too


class CloudError(ValueError):
    """A cloud that cannot be used; the message is one line that names the file and the cure."""


@dataclass
class Cloud:
    """A point cloud in plain arrays; row i of every array is point i.

    Attributes:
        coord: (N, 3) float32, in the file's unit (metres once packaged), relative to ``origin``.
        color: (N, 3) uint8 0..255, or None.
        normal: (N, 3) float32 of unit length (zero where unknown), or None.
        confidence: (N,) float32, or None.
        segment: (N,) int32 class of a point, -1 where unknown, or None.
        instance: (N,) int32 object of a point, -1 where unknown, or None.
        origin: (3,) float64; ``coord + origin`` are the file's coordinates (map coordinates do not fit float32).
        step: distance between neighbouring values of the file's number type where that is coarse for the cloud, else 0.
        notes: what the reader dropped, clipped, guessed or had to do, in words.
    """

    coord: np.ndarray
    color: np.ndarray | None = None
    normal: np.ndarray | None = None
    confidence: np.ndarray | None = None
    segment: np.ndarray | None = None
    instance: np.ndarray | None = None
    origin: np.ndarray = field(default_factory=lambda: np.zeros(3))
    step: float = 0.0
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Hold the shapes together, so that a wrong array fails here and not in a later stage."""
        if self.coord.ndim != 2 or self.coord.shape[1] != 3:
            raise CloudError(f"coord has shape {self.coord.shape}; (N, 3) is needed")
        for name, value in self.arrays().items():
            wanted = self.coord.shape if name in ("coord", "color", "normal") else self.coord.shape[:1]
            if value.shape != wanted:
                raise CloudError(f"{name} has shape {value.shape}, coord {self.coord.shape}; every point needs one row")

    def __len__(self) -> int:
        return len(self.coord)

    def arrays(self) -> dict[str, np.ndarray]:
        """The per-point arrays that are there, by name, coord first."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("origin", "step", "notes")}
        return {name: value for name, value in values.items() if value is not None}

    def select(self, index: np.ndarray) -> Cloud:
        """The points of a boolean mask or an index array, as a new cloud."""
        kept = {name: value[index] for name, value in self.arrays().items()}
        return Cloud(**kept, origin=self.origin.copy(), step=self.step, notes=list(self.notes))


def unit_rows(normal: np.ndarray) -> np.ndarray:
    """(N, 3) float32 rows of length one; zero rows and rows that are not finite become zero."""
    value = np.nan_to_num(np.asarray(normal, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    length = np.linalg.norm(value, axis=1, keepdims=True)
    return np.divide(value, length, out=np.zeros_like(value), where=length > 1e-12).astype(np.float32)

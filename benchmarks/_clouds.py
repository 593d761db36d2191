"""Made-up rooms: bare corners in the order in which grid pooling leaves them, and furnished ones as scenes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def surface_clouds(points: int, clouds: int, spacing: float, device: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Coordinates (points, 3) in metres and offset (clouds,); about one point every ``spacing`` on each surface."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [points * (b + 1) // clouds - points * b // clouds for b in range(clouds)]
    parts = []
    for size in sizes:
        side = (size / 3) ** 0.5 * spacing
        coord = torch.rand(size, 3, generator=generator) * side
        coord[torch.arange(size), torch.randint(0, 3, (size,), generator=generator)] = 0
        coord += torch.randn(size, 3, generator=generator) * spacing / 10
        cell = ((coord - coord.amin(0)) / spacing).long()
        parts.append(coord[((cell[:, 0] * 10_000 + cell[:, 1]) * 10_000 + cell[:, 2]).argsort(stable=True)])
    return torch.cat(parts).to(device), torch.tensor(sizes).cumsum(0).to(device)


def furnished_room(points: int, seed: int = 0, spacing: float = 0.0133) -> dict[str, np.ndarray]:
    """A scene of ``points`` points about ``spacing`` metres apart: floor, ceiling, walls and boxes, noise of 5 mm."""
    rng = np.random.default_rng(seed)
    side = np.sqrt(points * spacing**2 / 5.6)  # the areas below, in units of side squared
    size = np.array([1.2 * side, side, 0.5 * side])
    boxes = [(np.zeros(3), size)]
    for _ in range(12):
        extent = rng.uniform(0.08, 0.25, 3) * side
        corner = rng.uniform(0, 1, 3) * (size - extent) * [1, 1, 0]
        boxes.append((corner, extent))
    faces = [(corner, extent, axis) for corner, extent in boxes for axis in range(3)]
    area = np.array([np.prod(np.delete(extent, axis)) for _, extent, axis in faces])
    face = rng.choice(len(faces), points, p=area / area.sum())
    corner, extent = (np.array([item[part] for item in faces])[face] for part in (0, 1))
    axis = np.array([item[2] for item in faces])[face]
    share = rng.random((points, 3))
    share[np.arange(points), axis] = share[np.arange(points), axis] < 0.5  # one of the two opposite faces
    coord = corner + share * extent + rng.normal(0, 0.005, (points, 3))
    normal = np.zeros((points, 3), np.float32)
    normal[np.arange(points), axis] = 1
    color = rng.uniform(30, 220, (len(faces), 3))[face] + rng.normal(0, 12, (points, 3))
    return {
        "coord": coord.astype(np.float32),
        "color": np.clip(color, 0, 255).astype(np.float32),
        "normal": normal,
        "segment": np.full(points, -1, np.int32),
        "instance": np.full(points, -1, np.int32),
        "name": "room",
    }

"""Made-up rooms: points on a floor and two walls, in the order in which grid pooling leaves them."""

from __future__ import annotations

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

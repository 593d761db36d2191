"""PTv3's encoder one stage at a time: a stage that memory cannot hold is done in overlapping pieces of space.

A piece is a box of cells (its core) and a rim around it (the halo). Its blocks see core and halo, its result is kept
for the core only. Cells, curves and coordinates stay those of the whole cloud, pooling is exact, and the stages after
it go on with the whole cloud as soon as they fit: the coarse stages, whose attention spans rooms, are seldom cut.
What differs from one pass is what lies beyond the halo for the blocks of the stages that were cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lam3c_plugin.embedded.geometry import CloudGeometry
from lam3c_plugin.embedded.ptv3 import GridPooling, PointTransformerV3
from lam3c_plugin.embedded.ptv3.pooling import pooling_plan
from lam3c_plugin.embedded.ptv3.rows import Groups, group_max
from lam3c_plugin.embedded.structure import Point

MIN_HALO = 4  # cells: as far as the convolutions of three blocks see, and one


@dataclass
class Stage:
    """What a stage of the encoder gives.

    Attributes:
        feat: (M, C) features of its points.
        index: (M_before,) int64 row of each point of the stage before; None for the first.
        pieces: passes it took, 1 where it was not cut.
    """

    feat: Tensor
    index: Tensor | None
    pieces: int = 1


def run_stages(
    backbone: PointTransformerV3, feat: Tensor, cells: Tensor, limit: int | None = None, halo: int | None = None
) -> list[Stage]:
    """The encoder over one cloud with one point a cell.

    Args:
        backbone: in eval mode.
        feat: (M, C_in).
        cells: (M, 3), sorted by x, y, z, each once.
        limit: most cells a pass of any stage may take, halo included; None: no limit. A piece whose core is as
            narrow as its halo is not cut further, so very small limits are exceeded.
        halo: width of the rim in cells of the stage; by default an eighth of the edge of a square of ``limit`` cells.

    Returns:
        one `Stage` for each stage, finest first. Without a limit the features are those of
        ``backbone(...)`` up to rounding.
    """
    batch = torch.zeros(len(cells), dtype=torch.int64, device=cells.device)
    geometry = CloudGeometry.from_cells(cells, batch, [len(cells)], backbone.grid_origin)
    geometry.cells_sorted = True
    stages: list[Stage] = []
    x = torch.cat([backbone.embedding.stem(part) for part in feat.split(limit or len(feat))])
    for down, blocks in stages_of(backbone):
        index = None
        if down is not None:
            x, geometry, index = _pool(down, x, geometry, limit)
        x, pieces = _run_blocks(blocks, x, geometry, backbone.order, limit, halo)
        stages.append(Stage(x, index, pieces))
    return stages


def stages_of(backbone: PointTransformerV3) -> list[tuple[GridPooling | None, list[nn.Module]]]:
    """Pooling (None for the first) and blocks of each stage."""
    found = []
    for s in range(backbone.num_stages):
        modules = dict(backbone.enc._modules.get(f"enc{s}", nn.Module()).named_children())
        found.append((modules.pop("down", None), list(modules.values())))
    return found


def _pool(
    down: GridPooling, x: Tensor, geometry: CloudGeometry, limit: int | None
) -> tuple[Tensor, CloudGeometry, Tensor]:
    """``GridPooling.forward`` for the features alone, some pooled points at a time; it is exact in pieces, too."""
    groups, pooled, _ = pooling_plan(geometry, down.stride)
    step = limit or len(pooled)
    out = x.new_empty(len(pooled), down.proj.out_features)
    for first in range(0, len(pooled), step):
        starts = groups.starts[first : first + step + 1]
        rows = groups.order[starts[0] : starts[-1]]
        part = Groups(groups.group[rows] - first, torch.arange(len(rows), device=x.device), starts - starts[0])
        out[first : first + step] = down.act(down.norm(group_max(down.proj(x[rows]), part)))
    return out, pooled, groups.group


def _run_blocks(
    blocks: list[nn.Module],
    x: Tensor,
    geometry: CloudGeometry,
    curves: tuple[str, ...],
    limit: int | None,
    halo: int | None,
) -> tuple[Tensor, int]:
    if limit is None or len(x) <= limit or not blocks:
        return _apply(blocks, x, geometry, curves), 1
    out, pieces = torch.empty_like(x), 0
    for core, rows in cut(geometry.cells, limit, default_halo(limit) if halo is None else halo):
        part = CloudGeometry(
            geometry.cells[rows],
            geometry.batch[rows],
            [len(rows)],
            geometry.tops,  # as deep a curve as the whole cloud's, so that its order is kept
            geometry.origin,
            geometry.cells_sorted,
        )
        out[rows[core]] = _apply(blocks, x[rows], part, curves)[core]
        pieces += 1
    return out, pieces


def _apply(blocks: list[nn.Module], x: Tensor, geometry: CloudGeometry, curves: tuple[str, ...]) -> Tensor:
    # not Point.serialization: blocks read the curves' names and find the rest in the geometry
    point = Point(feat=x, geometry=geometry, batch=geometry.batch, curves=curves)
    for block in blocks:
        point = block(point)
    return point.feat


def default_halo(limit: int) -> int:
    """Width of the rim in cells: an eighth of the edge of a square of ``limit`` cells, at least `MIN_HALO`."""
    return max(MIN_HALO, round(limit**0.5 / 8))


def cut(cells: Tensor, limit: int, halo: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Boxes of at most ``limit`` cells with their rims, every cell in the core of exactly one.

    Args:
        cells: (M, 3) integers.
        limit: most cells of a box with its rim.
        halo: cells that the rim is wide.

    Yields:
        core (R,) bool among the rows, and rows (R,) int64 ascending. Boxes are halved across their longest edge, at
        the median cell, until they fit or are no longer than the halo.
    """
    everything = torch.arange(len(cells), device=cells.device)
    low, high = cells.amin(0).tolist(), cells.amax(0).tolist()
    waiting = [(everything, low, high)]  # rows within the rim, and the core's corners, both inclusive
    while waiting:
        rows, low, high = waiting.pop()
        near = cells[rows]
        bounds = torch.tensor([low, high], device=cells.device, dtype=near.dtype)
        rows = rows[((near >= bounds[0] - halo) & (near <= bounds[1] + halo)).all(1)]
        near = cells[rows]
        core = ((near >= bounds[0]) & (near <= bounds[1])).all(1)
        edges = [b - a for a, b in zip(low, high, strict=True)]
        axis = edges.index(max(edges))
        if not bool(core.any()):
            continue
        if len(rows) <= limit or edges[axis] <= max(1, halo):
            yield core, rows
            continue
        middle = min(max(int(near[core][:, axis].median()), low[axis]), high[axis] - 1)
        lower_high, upper_low = list(high), list(low)
        lower_high[axis], upper_low[axis] = middle, middle + 1
        waiting += [(rows, upper_low, high), (rows, low, lower_high)]

"""PTv3's encoder as a graph of dense tensor operations, for ``torch.export`` and ONNX.

Where points go (cells, curves, patches, neighbours, pooling) depends on the cloud through sorting and searching: no
export format expresses that well. So the network is split. `lookup_tables` works these index tables out in
PyTorch; `DenseEncoder` is everything with weights, and takes the tables as inputs. The latter is what is
exported, for clouds of any size. Its numbers equal the encoder's up to rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lam3c_plugin.embedded.geometry import CloudGeometry
from lam3c_plugin.embedded.ptv3 import Block, PointTransformerV3
from lam3c_plugin.embedded.ptv3.patches import patch_route
from lam3c_plugin.embedded.ptv3.pooling import pooling_plan
from lam3c_plugin.embedded.ptv3.sparse_conv import CENTRE, _directions, kernel_map
from lam3c_plugin.encode.stages import stages_of
from lam3c_plugin.errors import ConfigError


class Tables(NamedTuple):
    """Index tables of a cloud, an entry for each of S stages with N_s points in P_s patches of K places, 4 curves.

    Attributes:
        neighbours: (N_s, 27) int64 row at each kernel offset; N_s where there is none.
        rows: (4, P_s, K) int64 row at each place of each curve.
        slots: (4, N_s) int64 place, counted through the patches, of each row.
        valid: (P_s, K) bool, False at places that hold no point.
        children: (N_s, 8) int64 rows of the stage before that a point joins, the first repeated; for s = 1 .. S - 1.
        parents: (N_(s-1),) int64 row of stage s that each row joins; for s = 1 .. S - 1.
    """

    neighbours: list[Tensor]
    rows: list[Tensor]
    slots: list[Tensor]
    valid: list[Tensor]
    children: list[Tensor]
    parents: list[Tensor]


def lookup_tables(backbone: PointTransformerV3, cells: Tensor) -> Tables:
    """The tables of one cloud.

    Args:
        backbone: the encoder.
        cells: (N, 3) integer cells from 0, sorted by x, y, z, each once (``lam3c_plugin.encode.clouds.prepare``).
    """
    batch = torch.zeros(len(cells), dtype=torch.int64, device=cells.device)
    geometry = CloudGeometry.from_cells(cells, batch, [len(cells)], backbone.grid_origin)
    geometry.cells_sorted = True
    tables = Tables([], [], [], [], [], [])
    for down, blocks in stages_of(backbone):
        if down is not None:
            plan = pooling_plan(geometry, down.stride)
            group, geometry = plan.groups.group, plan.geometry
            tables.parents.append(group)
            tables.children.append(_children(group, len(geometry.cells), down.stride**3))
        tables.neighbours.append(_neighbours(geometry))
        size = blocks[0].attn.patch_size if blocks else 1
        routes = [_route(geometry, size, curve) for curve in backbone.order]
        tables.rows.append(torch.stack([rows for rows, _, _ in routes]))
        tables.slots.append(torch.stack([slot for _, slot, _ in routes]))
        tables.valid.append(routes[0][2])
    return tables


def _children(group: Tensor, count: int, most: int) -> Tensor:
    order = torch.sort(group, stable=True).indices
    sizes = torch.bincount(group, minlength=count)
    starts = sizes.cumsum(0) - sizes
    table = order[starts].unsqueeze(1).repeat(1, most)
    rank = torch.arange(len(group), device=group.device) - starts[group[order]]
    table[group[order], rank] = order
    return table


def _neighbours(geometry: CloudGeometry) -> Tensor:
    found = kernel_map(geometry)
    table = torch.full((found.num_cells, 27), found.num_cells, dtype=torch.int64, device=geometry.cells.device)
    table[:, CENTRE] = torch.arange(found.num_cells, device=table.device)
    for entry, written, read in _directions(found.taps):
        table[written.long(), entry] = read.long()
    return table


def _route(geometry: CloudGeometry, size: int, curve: str) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (P, K), slots (N,) and validity (P, K); a cloud shorter than a patch is one patch with empty places."""
    route = patch_route(geometry, size, curve)
    missing = -len(route.row) % size
    rows = F.pad(route.row, (0, missing))
    shown = [
        block.valid.flatten() if block.valid is not None else rows.new_ones(block.count * block.length).bool()
        for block in route.blocks
    ]
    valid = F.pad(torch.cat(shown), (0, missing))
    return rows.view(-1, size), route.slot, valid.view(-1, size)


class DenseBlock(nn.Module):
    """A block of PTv3 over tables; shares the weights of the block it is made of."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        conv, linear, norm = block.cpe.children()
        self.taps = nn.Parameter(conv.weight.detach().flatten(1, 3).permute(1, 2, 0).contiguous(), requires_grad=False)
        self.bias = conv.bias
        self.cpe = nn.Sequential(linear, norm)
        self.norm1, self.norm2, self.ls1, self.ls2, self.mlp = (
            nn.Sequential(*part.children()) for part in (block.norm1, block.norm2, block.ls1, block.ls2, block.mlp)
        )
        self.qkv, self.proj = block.attn.qkv, block.attn.proj
        self.heads, self.scale, self.pre_norm = block.attn.num_heads, block.attn.scale, block.pre_norm

    def forward(self, x: Tensor, neighbours: Tensor, rows: Tensor, slots: Tensor, valid: Tensor) -> Tensor:
        """(N, C) to (N, C); ``rows`` (P, K) and ``slots`` (N,) of this block's curve."""
        x = x + self.cpe(self.convolve(x, neighbours))
        if self.pre_norm:
            x = x + self.ls1(self.attend(self.norm1(x), rows, slots, valid))
            return x + self.ls2(self.mlp(self.norm2(x)))
        x = self.norm1(x + self.ls1(self.attend(x, rows, slots, valid)))
        return self.norm2(x + self.ls2(self.mlp(x)))

    def convolve(self, x: Tensor, neighbours: Tensor) -> Tensor:
        """The submanifold convolution: a row of zeros stands for cells that are empty."""
        padded = torch.cat([x, x.new_zeros(1, x.shape[1])])
        out = x @ self.taps[CENTRE]
        for entry in range(27):
            if entry != CENTRE:
                out = out + padded[neighbours[:, entry]] @ self.taps[entry]
        return out if self.bias is None else out + self.bias

    def attend(self, x: Tensor, rows: Tensor, slots: Tensor, valid: Tensor) -> Tensor:
        """Attention among the places of each patch."""
        patches, size = rows.shape
        packed = self.qkv(x)[rows.flatten()].view(patches, size, 3, self.heads, -1)
        q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=valid[:, None, None], scale=self.scale)
        return self.proj(out.transpose(1, 2).reshape(patches * size, -1)[slots])


class DenseEncoder(nn.Module):
    """Embedding, blocks and pooling of an encoder over `Tables`, and perhaps a linear head.

    ``forward(feat, *tables)``: (N, 9) cells' channels to (N, C) features of all levels, finest first, or (N, K) scores
    of a head.

    Raises:
        ConfigError: the encoder has layers that are not covered (attention in float32 under autocast only, ...).
    """

    def __init__(self, backbone: PointTransformerV3, head: nn.Linear | None = None) -> None:
        super().__init__()
        if not backbone.enc_mode:
            raise ConfigError("only encoders can be exported (enc_mode=True)")
        self.stem = nn.Sequential(*backbone.embedding.stem.children())
        stages = stages_of(backbone)
        self.downs = nn.ModuleList(
            nn.ModuleList([down.proj, nn.Sequential(*down.norm.children(), *down.act.children())])
            for down, _ in stages
            if down is not None
        )
        self.blocks = nn.ModuleList(nn.ModuleList(DenseBlock(block) for block in blocks) for _, blocks in stages)
        self.curves = [[block.attn.order_index for block in blocks] for _, blocks in stages]
        self.head = head
        self.eval().requires_grad_(False)

    def forward(
        self,
        feat: Tensor,
        neighbours: list[Tensor],
        rows: list[Tensor],
        slots: list[Tensor],
        valid: list[Tensor],
        children: list[Tensor],
        parents: list[Tensor],
    ) -> Tensor:
        x, levels = self.stem(feat), []
        for s, blocks in enumerate(self.blocks):
            if s > 0:
                project, finish = self.downs[s - 1]
                x = finish(project(x)[children[s - 1]].amax(1))
            for block, curve in zip(blocks, self.curves[s], strict=True):
                x = block(x, neighbours[s], rows[s][curve], slots[s][curve], valid[s])
            levels.append(x)
        joined = levels[-1]
        for s in range(len(levels) - 2, -1, -1):
            joined = torch.cat([levels[s], joined[parents[s]]], dim=1)
        return joined if self.head is None else self.head(joined)

"""A drop-in backbone for other people's models: points in, features of every point out, with gradients."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lam3c_plugin.checkpoints.run_config import DEFAULT_GRID, FEATURES
from lam3c_plugin.embedded.geometry import PointCloudError
from lam3c_plugin.embedded.structure import Point
from lam3c_plugin.encode.api import FULL, level_number
from lam3c_plugin.encode.clouds import as_columns, prepare, split_rows
from lam3c_plugin.encode.models import build_encoder, feature_columns, find_weights, random_backbone, stage_widths


class LAM3CBackbone(nn.Module):
    """PTv3 with LAM3C's weights as a plain module: ``(N, 3)`` coordinates to ``(N, out_channels)`` features.

    Training and eval mode, fine-tuning and freezing work as with any module. Points of one grid cell share its
    features; the nearest to the cell's centre is the one the network sees.

    Args:
        weights: a zoo name, file or folder; or "random:base" ("tiny", "large") to start from nothing.
        level: stages joined, see `Encoder.encode`; "full": all.
        grid_size: cell in metres; None: the one that the weights were trained on, 0.02 where nobody says.
        freeze: no gradients for the backbone, and always eval mode.
        drop_path: rate of the last block in training (the others' rise to it linearly).

    Attributes:
        out_channels: width of the result.

    Raises:
        CheckpointError: the weights cannot be used.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] = "lam3c-ptv3-base",
        *,
        level: int | str = FULL,
        grid_size: float | None = None,
        freeze: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        name = os.fspath(weights)
        inputs: Mapping[str, Any] = {}
        if name.startswith("random:"):
            self.backbone = random_backbone(name.removeprefix("random:"), drop_path=drop_path)
        else:
            found = find_weights(weights)
            inputs = found.inputs
            self.backbone = build_encoder(found.backbone_config or {}, found.backbone, drop_path)
        widths = stage_widths(self.backbone)
        self.level = level_number(level, len(widths))
        self.out_channels = sum(widths[len(widths) - 1 - self.level :])
        self.grid_size, self.freeze = grid_size or inputs.get("grid_size", DEFAULT_GRID), freeze
        self._columns = feature_columns(self.backbone, inputs.get("features") or FEATURES)
        if freeze:
            self.backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> LAM3CBackbone:
        """As any module's; a frozen backbone stays in eval mode."""
        super().train(mode)
        if self.freeze:
            self.backbone.eval()
        return self

    def forward(
        self,
        coord: Tensor | Mapping[str, Any],
        color: Tensor | None = None,
        normal: Tensor | None = None,
        *,
        batch: Tensor | None = None,
        offset: Tensor | None = None,
    ) -> Tensor:
        """Features of every point.

        Args:
            coord: (N, 3) metres; or a mapping with ``coord`` and any of the other arguments.
            color: (N, 3) 0-255 or 0-1, or None.
        normal: (N, 3), or None for zeros.
            batch: (N,) cloud of each point; offset: (B,) running sums; neither: one cloud.

        Returns:
            (N, out_channels).

        Raises:
            PointCloudError: a cloud that cannot be used.
        """
        if isinstance(coord, Mapping):
            if "coord" not in coord:
                raise PointCloudError(f"the batch has no coord (keys: {', '.join(map(str, coord)) or 'none'})")
            names = ("color", "normal", "batch", "offset")
            return self(coord["coord"], **{key: coord[key] for key in names if key in coord})
        device = self.backbone.embedding.stem.linear.weight.device
        columns = as_columns(coord, color, normal)
        clouds = split_rows(len(columns[0]), batch, offset, columns[0].device)
        parts = []
        for rows in clouds:
            chosen = [t if rows is None or t is None else t[rows] for t in columns]
            parts.append(prepare(*chosen, grid_size=self.grid_size, normals="zero", device=device))
        sizes = torch.tensor([len(part.cells) for part in parts], device=device)
        offset = sizes.cumsum(0)
        point = self.backbone(
            Point(
                feat=torch.cat([part.feat[:, self._columns] for part in parts]),
                grid_coord=torch.cat([part.cells for part in parts]),
                coord=torch.cat([part.feat[:, :3] for part in parts]),
                offset=offset,
            )
        )
        inverse = torch.cat([part.inverse + start for part, start in zip(parts, offset - sizes, strict=True)])
        feat = self._gather(point, inverse)
        if clouds[0] is None:
            return feat
        # back to the order of the input
        return torch.empty_like(feat).index_copy(0, torch.cat(clouds).to(device), feat)

    def _gather(self, point: Point, inverse: Tensor) -> Tensor:
        stages = [(point.feat, None)]
        while "pooling_parent" in point:
            stages[-1] = (stages[-1][0], point.pooling_inverse)
            point = point.pooling_parent
            stages.append((point.feat, None))
        features: list[Tensor] = []
        for number, (feat, index) in enumerate(reversed(stages)):
            inverse = inverse if index is None else index[inverse]
            if number >= len(stages) - 1 - self.level:
                features.append(feat[inverse])
        return torch.cat(features, dim=1)

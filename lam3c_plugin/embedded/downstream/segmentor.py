"""A backbone with a linear layer on top, for semantic segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lam3c_plugin.embedded.registry import MODELS, build_criteria, build_model
from lam3c_plugin.embedded.structure import Point
from lam3c_plugin.errors import ConfigError


@MODELS.register_module()
class DefaultSegmentorV2(nn.Module):
    """Class scores from the backbone's features; the host's model of that name, with its parameter names.

    A backbone that ends at its coarsest stage (``enc_mode``) is read at all levels: the features of every stage,
    gathered through the pooling to the finest points and concatenated (PTv3 Base: 48 + 96 + 192 + 384 + 512 = 1232).

    Args:
        num_classes: classes; 0 leaves the linear layer out.
        backbone_out_channels: channels of the (concatenated) features.
        backbone: config of the backbone.
        criteria: configs of the losses, summed; none: no loss.
        freeze_backbone: the backbone gets no gradients (linear probe); as on the host it stays in training mode.
    """

    def __init__(
        self,
        num_classes: int,
        backbone_out_channels: int,
        backbone: Mapping[str, Any] | None = None,
        criteria: Sequence[Mapping[str, Any]] | None = None,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__()
        self.seg_head = nn.Linear(backbone_out_channels, num_classes) if num_classes > 0 else nn.Identity()
        self.backbone = build_model(backbone)
        self.criteria = build_criteria(criteria)
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            self.backbone.requires_grad_(False)

    @staticmethod
    def all_levels(point: Point) -> Point:
        """The finest point, its features followed by those of every coarser stage; moves up the pooling chain."""
        while "pooling_parent" in point:
            parent, inverse = point.pop("pooling_parent"), point.pop("pooling_inverse")
            parent.feat = torch.cat([parent.feat, point.feat[inverse]], dim=-1)
            point = parent
        return point

    def forward(self, input_dict: Mapping[str, Any], return_point: bool = False) -> dict[str, Any]:
        """Scores and loss of a batch.

        Args:
            input_dict: what the backbone needs, and ``segment`` (N,) for the loss.
            return_point: also return the backbone's ``Point`` under ``point``.

        Returns:
            in training ``loss``; in evaluation ``seg_logits`` (N, num_classes), and ``loss`` where there are labels.

        Raises:
            ConfigError: ``backbone_out_channels`` is not what the backbone gives.
        """
        point = self.backbone(Point(input_dict))
        feat: Tensor = point
        if isinstance(point, Point):
            point = self.all_levels(point)
            feat = point.feat
        wanted = getattr(self.seg_head, "in_features", feat.shape[1])
        if feat.shape[1] != wanted:
            raise ConfigError(
                f"backbone_out_channels={wanted}, but the backbone gives {feat.shape[1]} channels: set it to that"
            )
        seg_logits = self.seg_head(feat)
        result: dict[str, Any] = {"point": point} if return_point else {}
        if self.training or "segment" in input_dict:
            if "segment" not in input_dict:
                raise ConfigError("the batch has no segment: Collect must keep it for training")
            result["loss"] = self.criteria(seg_logits, input_dict["segment"])
        if not self.training:
            result["seg_logits"] = seg_logits
        return result

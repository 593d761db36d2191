"""Losses of semantic segmentation: cross-entropy and Lovász-Softmax."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lam3c_plugin.embedded.registry import LOSSES
from lam3c_plugin.errors import ConfigError


@LOSSES.register_module()
class CrossEntropyLoss(nn.Module):
    """Cross-entropy of scores (N, C) against labels (N,), averaged over the labelled points.

    Args:
        weight: a factor a class, (C,); the average is weighted with it, as torch does.
        label_smoothing: share of the target spread over all classes.
        loss_weight: factor on the loss.
        ignore_index: label of points that do not count. A batch without a labelled point gives 0 with gradient 0.
        reduction: "mean", "sum" or "none".
    """

    def __init__(
        self,
        weight: Sequence[float] | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        loss_weight: float = 1.0,
        ignore_index: int = -1,
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ConfigError(f"CrossEntropyLoss: reduction={reduction!r} must be mean, sum or none")
        self.weight = None if weight is None else torch.tensor(list(weight), dtype=torch.float32)
        self.reduction, self.label_smoothing = reduction, label_smoothing
        self.loss_weight, self.ignore_index = loss_weight, ignore_index

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        target = target.long()
        if self.reduction == "mean" and not bool((target != self.ignore_index).any()):
            return pred.sum() * 0.0  # torch's mean over nothing is NaN
        loss = F.cross_entropy(
            pred,
            target,
            weight=None if self.weight is None else self.weight.to(pred),
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )
        return loss * self.loss_weight


@LOSSES.register_module()
class LovaszLoss(nn.Module):
    """The Lovász-Softmax loss over the classes that are present: a convex surrogate of 1 - IoU.

    Berman, Triki, Blaschko: The Lovász-Softmax loss, CVPR 2018 (arXiv 1705.08790).

    Args:
        mode: "multiclass" (the host's "binary" and "multilabel" are not in this engine).
        class_seen: count these classes only.
        ignore_index: label of points that do not count. A batch without a labelled point gives 0 with gradient 0.
        loss_weight: factor on the loss.
    """

    def __init__(
        self,
        mode: str = "multiclass",
        class_seen: Sequence[int] | None = None,
        ignore_index: int | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if mode != "multiclass":
            raise ConfigError(f"LovaszLoss: mode={mode!r}; the embedded engine has 'multiclass' only")
        self.class_seen, self.ignore_index, self.loss_weight = class_seen, ignore_index, loss_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        if self.ignore_index is not None:
            valid = target != self.ignore_index
            pred, target = pred[valid], target[valid]
        probability = (pred if pred.dtype == torch.float64 else pred.float()).softmax(dim=1)
        return lovasz_softmax(probability, target.long(), self.class_seen) * self.loss_weight


def lovasz_softmax(probability: Tensor, target: Tensor, classes: Sequence[int] | None = None) -> Tensor:
    """Mean over the present classes of the Lovász extension of the Jaccard loss at the classes' errors (eq. 11, 12).

    The errors of class c are ``1 - p_c`` on its points and ``p_c`` elsewhere. With the errors sorted downwards, entry
    i is weighted by what the i-th point adds to the Jaccard loss of the set of points before it (eq. 9).

    Args:
        probability: (N, C), rows sum to 1.
        target: (N,) class of every point.
        classes: only these classes; default all that are in ``target``.

    Returns:
        scalar; 0 when there is no point. Memory: O(N) a class beside the inputs.
    """
    present = target.unique().tolist()
    chosen = present if classes is None else [index for index in present if index in set(classes)]
    if not chosen:
        return probability.sum() * 0.0
    losses = []
    for index in chosen:
        member = target == index
        error = torch.where(member, 1 - probability[:, index], probability[:, index])
        error, order = error.sort(descending=True)
        with torch.no_grad():
            hits = member[order].to(error.dtype).cumsum(0)  # points of the class among the first i
            size = hits[-1]
            first = torch.arange(1, len(error) + 1, device=error.device, dtype=error.dtype)
            jaccard = 1 - (size - hits) / (size + first - hits)
            weight = torch.diff(jaccard, prepend=jaccard.new_zeros(1))
        losses.append((error * weight).sum())  # not a product of matrices: autocast would lower it
    return torch.stack(losses).mean()

"""Scores of a segmentation: intersection over union and accuracy, by class and on average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lam3c_plugin.embedded import comm
from lam3c_plugin.errors import DataError


@dataclass
class SegmentationScores:
    """Per class ``iou``, ``accuracy`` and ``points`` (C,), and their means; all in [0, 1] but ``points``.

    ``m_iou`` and ``m_acc`` are means over *all* classes, one without a point counts 0 (the host's rule: on a split that
    lacks a class they are lower than means over the present ones).
    """

    iou: np.ndarray
    accuracy: np.ndarray
    points: np.ndarray
    m_iou: float
    m_acc: float
    all_acc: float

    def table(self, names: Sequence[str]) -> str:
        """One line a class."""
        width = max(map(len, names), default=5)
        lines = [f"{'class':<{width}}     IoU  accuracy      points"]
        lines += [
            f"{name:<{width}}  {iou:.4f}    {accuracy:.4f}  {int(points):>10}"
            for name, iou, accuracy, points in zip(names, self.iou, self.accuracy, self.points, strict=True)
        ]
        return "\n".join(lines)

    def summary(self) -> str:
        """The means, as the host words them."""
        return f"mIoU/mAcc/allAcc {self.m_iou:.4f}/{self.m_acc:.4f}/{self.all_acc:.4f}"


class SegmentationCounts:
    """Counts of labelled points: hits, predictions and labels by class; add scenes, then take scores.

    Args:
        num_classes: classes.
        ignore_index: label of points that do not count, whatever is predicted there.
    """

    def __init__(self, num_classes: int, ignore_index: int = -1) -> None:
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.counts = torch.zeros(3, num_classes, dtype=torch.int64)  # hits, predicted, labelled

    def add(self, pred: Tensor, target: Tensor) -> None:
        """Add points: predicted classes and labels, both (N,).

        Raises:
            DataError: lengths differ, or a label is neither a class nor ``ignore_index``.
        """
        if pred.shape != target.shape:
            raise DataError(f"{len(pred)} predictions for {len(target)} labels")
        valid = target != self.ignore_index
        pred, target = pred[valid].long(), target[valid].long()
        if len(target) and not 0 <= int(target.min()) <= int(target.max()) < self.num_classes:
            raise DataError(
                f"labels go from {int(target.min())} to {int(target.max())}, there are {self.num_classes} classes: "
                "check data.num_classes and data.ignore_index"
            )
        rows = [target[pred == target], pred, target]
        self.counts += torch.stack([torch.bincount(row, minlength=self.num_classes) for row in rows]).cpu()

    def merge(self) -> SegmentationCounts:
        """The counts of all ranks together; every rank has to call it."""
        merged = SegmentationCounts(self.num_classes, self.ignore_index)
        merged.counts = torch.stack([other.to(torch.int64) for other in comm.all_gather(self.counts)]).sum(0)
        return merged

    def scores(self) -> SegmentationScores:
        """The scores of what was added."""
        hits, predicted, labelled = self.counts.double().numpy()
        union = predicted + labelled - hits
        iou = hits / np.maximum(union, 1e-10)
        accuracy = hits / np.maximum(labelled, 1e-10)
        return SegmentationScores(
            iou=iou,
            accuracy=accuracy,
            points=labelled,
            m_iou=float(iou.mean()),
            m_acc=float(accuracy.mean()),
            all_acc=float(hits.sum() / max(labelled.sum(), 1e-10)),
        )

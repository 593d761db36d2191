"""Semantic segmentation on the embedded engine: model, losses, evaluation; importing this package registers them."""

from ..datasets import labelled as _labelled  # noqa: F401 - registers the benchmarks' dataset classes
from .criteria import CrossEntropyLoss, LovaszLoss, lovasz_softmax, lovasz_softmax_reference
from .evaluator import PreciseEvaluator, SemSegEvaluator
from .metrics import SegmentationCounts, SegmentationScores
from .segmentor import DefaultSegmentorV2
from .tester import TESTERS, SemSegTester

__all__ = [
    "TESTERS",
    "CrossEntropyLoss",
    "DefaultSegmentorV2",
    "LovaszLoss",
    "PreciseEvaluator",
    "SegmentationCounts",
    "SegmentationScores",
    "SemSegEvaluator",
    "SemSegTester",
    "lovasz_softmax",
    "lovasz_softmax_reference",
]

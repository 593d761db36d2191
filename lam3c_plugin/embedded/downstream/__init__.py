"""Semantic segmentation on the embedded engine: model, losses, evaluation; importing this package registers them."""

from lam3c_plugin.embedded.datasets import labelled as _labelled  # registers the benchmarks' dataset classes
from lam3c_plugin.embedded.downstream.criteria import CrossEntropyLoss, LovaszLoss, lovasz_softmax
from lam3c_plugin.embedded.downstream.evaluator import PreciseEvaluator, SemSegEvaluator
from lam3c_plugin.embedded.downstream.metrics import SegmentationCounts, SegmentationScores
from lam3c_plugin.embedded.downstream.segmentor import DefaultSegmentorV2
from lam3c_plugin.embedded.downstream.tester import SemSegTester

"""What frozen features are worth: probes on unseen clean and noisy rooms, and agreement of two reconstructions.

Every row's features, raw inputs too, are standardised by the mean and spread of the probe's training points. One
linear and one kNN probe are trained on clean labelled rooms; both are scored on clean test rooms and on a noisy
reconstruction of the same test rooms. Figures are shares in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from data_tools.synthetic.rooms.palette import CLASSES
from experiments.learning import rooms
from experiments.learning.plan import GRID_SIZE, Settings
from experiments.learning.rooms import Labelled, Room
from lam3c_plugin.analysis.heads import Head, classify
from lam3c_plugin.analysis.probing import Neighbours, Sample, present_miou, sample_rows, score, train_linear
from lam3c_plugin.encode import Encoder

EVAL_SEED = 0  # points of validation and test rooms: the same for every row and seed
LEAST = 10  # points of a class, for it to count in the label transfer
Describe = Callable[[Labelled], np.ndarray]


def raw(cloud: Labelled) -> np.ndarray:
    """Raw inputs (M, 10) of a cloud's cells."""
    return cloud.raw


def encoded(encoder: Encoder) -> Describe:
    """Features of all stages side by side, per cell."""
    return lambda cloud: encoder.encode_cells(*cloud.columns, grid_size=GRID_SIZE, color_range=255).feat


@dataclass(frozen=True)
class Scale:
    """Mean and spread (C,) of the training points' features."""

    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, feat: np.ndarray) -> Scale:
        """Of features (N, C)."""
        wide = feat.astype(np.float64)
        return cls(wide.mean(0), np.maximum(wide.std(0), 1e-6))

    def __call__(self, feat: np.ndarray) -> np.ndarray:
        """Standardised features, float32, without outliers that half precision could not hold."""
        return np.clip((feat - self.mean) / self.spread, -100, 100).astype(np.float32)


@dataclass(frozen=True)
class Probing:
    """Rooms and numbers of all measurements of one job.

    Args:
        work: folder of the rooms.
        settings: sizes.
        noise: of the noisy test rooms.
        seed: draws the training points.
        device: that does the work.
        every: take one in so many rooms (the map's runs).
    """

    work: Path
    settings: Settings
    noise: str
    seed: int
    device: torch.device
    every: int = 1

    def _rooms(self, part: str, noise: str = "clean", draw: int = 0) -> list[Labelled]:
        count = max(2, getattr(self.settings, f"{part}_rooms") // self.every)
        return [rooms.read(Room(part, i, noise, draw), self.work, self.settings) for i in range(count)]

    def clean(self, describe: Describe) -> dict[str, float]:
        """The linear probe on clean test rooms alone: ``linear``."""
        found, scale, head, _ = self._probe(describe)
        samples = self._samples(describe, self._rooms("test"), self.settings.eval_points, EVAL_SEED)
        samples = [_scaled(scale, sample) for sample in samples]
        return {**found, "linear": miou([classify(sample.feat, head)[0] for sample in samples], samples)}

    def all(self, describe: Describe) -> dict[str, float]:
        """Every measure.

        Returns:
            ``linear``, ``knn``, ``linear_noisy``, ``knn_noisy``: mIoU over the classes that occur; ``retrieval`` and
            ``transfer``: see `agreement`; ``decay``: the linear probe's, chosen on clean validation rooms.
        """
        found, scale, head, bank = self._probe(describe)
        noisy = [self._rooms("test", self.noise, draw) for draw in (0, 1)]
        feats = [[describe(cloud) for cloud in clouds] for clouds in noisy]
        tests = {"": self._samples(describe, self._rooms("test"), self.settings.eval_points, EVAL_SEED)}
        tests["_noisy"] = [
            _sample(cloud, feat, self.settings.eval_points, EVAL_SEED)
            for cloud, feat in zip(noisy[0], feats[0], strict=True)
        ]
        for name, samples in tests.items():
            samples = [_scaled(scale, sample) for sample in samples]
            found[f"linear{name}"] = miou([classify(sample.feat, head)[0] for sample in samples], samples)
            found[f"knn{name}"] = miou([bank.predict(sample.feat) for sample in samples], samples)
        scaled = [[scale(feat) for feat in column] for column in feats]
        return {**found, **agreement(*noisy, *scaled, self.settings.pair_points, self.device)}

    def _probe(self, describe: Describe) -> tuple[dict[str, float], Scale, Head, Neighbours]:
        settings = self.settings
        train = self._samples(describe, self._rooms("train"), settings.probe_points, self.seed)
        feat, label = (np.concatenate([getattr(sample, key) for sample in train]) for key in ("feat", "label"))
        scale = Scale.of(feat)
        feat = scale(feat)
        val = [_scaled(scale, s) for s in self._samples(describe, self._rooms("val"), settings.eval_points, EVAL_SEED)]
        tried = []
        for decay in settings.decays:
            head = train_linear(feat, label, len(CLASSES), decay, settings.probe_steps, self.device)
            tried.append((miou([classify(sample.feat, head)[0] for sample in val], val), decay, head))
        best, decay, head = max(tried, key=lambda item: item[0])
        bank = Neighbours.of(feat, label, len(CLASSES), settings.bank, self.seed, settings.neighbours, self.device)
        return {"decay": decay, "linear_val": best}, scale, head, bank

    def _samples(self, describe: Describe, clouds: Sequence[Labelled], most: int, seed: int) -> list[Sample]:
        return [_sample(cloud, describe(cloud), most, seed) for cloud in clouds]


def _sample(cloud: Labelled, feat: np.ndarray, most: int, seed: int) -> Sample:
    """Features at a draw of a cloud's points: the same points for every row."""
    points = sample_rows(cloud.segment, most, seed, cloud.name)
    return Sample(cloud.name, feat[cloud.cell[points]], cloud.segment[points])


def _scaled(scale: Scale, sample: Sample) -> Sample:
    return Sample(sample.name, scale(sample.feat), sample.label)


def miou(predictions: Sequence[np.ndarray], samples: Sequence[Sample]) -> float:
    """Mean IoU over the classes that occur in the samples."""
    return present_miou(score(predictions, samples, len(CLASSES)))


def agreement(
    first: Sequence[Labelled],
    second: Sequence[Labelled],
    feats: Sequence[np.ndarray],
    others: Sequence[np.ndarray],
    most: int,
    device: torch.device,
) -> dict[str, float]:
    """How far a surface point's feature stays itself between two noisy reconstructions of its room.

    Of each room ``most`` labelled points of the true surface are drawn that both reconstructions hold. Each of the
    first looks for the most similar (cosine) of the second's.

    Args:
        first: rooms.
        second: the same rooms, reconstructed again.
        feats: standardised features (M, C) of each first room's cells.
        others: of each second room's.
        most: points a room.
        device: that compares.

    Returns:
        ``retrieval``: share of points that find themselves (a tie counts), mean over rooms; ``transfer``: share of
        points whose found one has their class, mean over the classes with at least ten points.
    """
    hits, right, total = [], np.zeros(len(CLASSES)), np.zeros(len(CLASSES))
    for a, b, feat, other in zip(first, second, feats, others, strict=True):
        rows, found = common_points(a, b, most)
        left = F.normalize(torch.from_numpy(feat[a.cell[rows]]).to(device), dim=1)
        cosine = left @ F.normalize(torch.from_numpy(other[b.cell[found]]).to(device), dim=1).t()
        best = cosine.max(1)
        hits.append(float((cosine.diagonal() >= best.values - 1e-6).float().mean()))
        label, taken = a.segment[rows], b.segment[found][best.indices.cpu().numpy()]
        total += np.bincount(label, minlength=len(CLASSES))
        right += np.bincount(label[label == taken], minlength=len(CLASSES))
    counted = total >= min(LEAST, total.max())
    return {"retrieval": float(np.mean(hits)), "transfer": float((right[counted] / total[counted]).mean())}


def common_points(a: Labelled, b: Labelled, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows in either reconstruction of the drawn points of the true surface; row i of both is the same point."""
    _, rows, found = np.intersect1d(a.surface, b.surface, assume_unique=True, return_indices=True)
    kept = sample_rows(a.segment[rows], most, EVAL_SEED, a.name)
    return rows[kept], found[kept]

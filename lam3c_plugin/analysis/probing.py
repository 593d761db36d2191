"""Linear and nearest-neighbour probes on frozen features, with all labels or few: deterministic for a seed.

These are quick probes on a fixed sample of points without augmentation, to compare checkpoints on one's own scenes.
Figures of papers come from longer protocols (the configs ``semseg-lam3c-v1m1-0*-lin``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from lam3c_plugin.analysis.heads import Head, classify
from lam3c_plugin.embedded.downstream.metrics import SegmentationCounts, SegmentationScores
from lam3c_plugin.errors import DataError


@dataclass
class Sample:
    """Labelled points of one scene: ``feat`` (N, C) float16, ``label`` (N,) int32, all at least 0."""

    name: str
    feat: np.ndarray
    label: np.ndarray


def ignore_labels(segment: np.ndarray, ignored: Sequence[int]) -> np.ndarray:
    """The labels as int32 with those that do not count (``ignored``, or below 0) as -1."""
    return np.where((segment < 0) | np.isin(segment, list(ignored)), -1, segment).astype(np.int32)


def sample_rows(label: np.ndarray, most: int, seed: int, name: str) -> np.ndarray:
    """Sorted rows of at most ``most`` labelled points (0: all), evenly drawn, the same for a seed and a name."""
    rows = np.flatnonzero(label >= 0)
    if most and len(rows) > most:
        digest = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
        rows = np.sort(np.random.default_rng([seed, digest]).choice(rows, most, replace=False))
    return rows


def train_linear(
    feat: np.ndarray,
    label: np.ndarray,
    classes: int,
    decay: float = 1e-3,
    steps: int = 100,
    device: torch.device | str = "cpu",
) -> Head:
    """Multinomial logistic regression by L-BFGS over all rows, from zero.

    Args:
        feat: (N, C); standardised by their own mean and spread, which the head then holds in its weights.
        label: (N,) in 0 .. ``classes`` - 1.
        classes: K.
        decay: weight of the squared norm of the weights.
        steps: iterations of L-BFGS at most.
        device: that does the work.
    """
    x = torch.from_numpy(feat.astype(np.float32)).to(device)
    mean, spread = x.mean(0), x.std(0, unbiased=False).clamp(min=1e-6)
    x.sub_(mean).div_(spread)
    y = torch.from_numpy(label.astype(np.int64)).to(device)
    weight = torch.zeros(classes, x.shape[1], requires_grad=True, device=device)
    bias = torch.zeros(classes, requires_grad=True, device=device)
    solver = torch.optim.LBFGS([weight, bias], max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), y) + decay * weight.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    with torch.no_grad():
        scaled = weight / spread
        return Head(scaled.cpu().numpy(), (bias - scaled @ mean).cpu().numpy(), "linear probe")


@dataclass
class Neighbours:
    """A bank of unit features (B, C) with labels (B,); votes weigh exp(cosine / temperature)."""

    bank: torch.Tensor
    label: torch.Tensor
    classes: int
    k: int = 20
    temperature: float = 0.07

    @classmethod
    def of(
        cls,
        feat: np.ndarray,
        label: np.ndarray,
        classes: int,
        most: int,
        seed: int,
        k: int = 20,
        device: torch.device | str = "cpu",
    ) -> Neighbours:
        """A bank of at most ``most`` rows, drawn evenly, on the device that is to do the work."""
        rows = np.arange(len(label))
        if len(rows) > most:
            rows = np.sort(np.random.default_rng([seed, 1]).choice(rows, most, replace=False))
        bank = F.normalize(torch.from_numpy(feat[rows].astype(np.float32)).to(device), dim=1)
        return cls(bank, torch.from_numpy(label[rows].astype(np.int64)).to(device), classes, min(k, len(rows)))

    def predict(self, feat: np.ndarray) -> np.ndarray:
        """(N,) classes by the weighted vote of the k most similar rows of the bank."""
        out = []
        for part in torch.from_numpy(feat).split(4096):
            part = part.to(self.bank.device).float()
            value, index = (F.normalize(part, dim=1) @ self.bank.t()).topk(self.k, dim=1)
            votes = torch.zeros(len(part), self.classes, device=part.device)
            votes.scatter_add_(1, self.label[index], ((value - 1) / self.temperature).exp())
            out.append(votes.argmax(1).cpu())
        return torch.cat(out).numpy().astype(np.int32)


def score(predictions: Sequence[np.ndarray], samples: Sequence[Sample], classes: int) -> SegmentationScores:
    """Scores of predictions, one array for each sample."""
    counts = SegmentationCounts(classes)
    for prediction, sample in zip(predictions, samples, strict=True):
        counts.add(torch.from_numpy(prediction.astype(np.int64)), torch.from_numpy(sample.label.astype(np.int64)))
    return counts.scores()


def present_miou(scores: SegmentationScores) -> float:
    """Mean IoU over the classes that have a labelled point in the validation samples."""
    return float(scores.iou[scores.points > 0].mean()) if (scores.points > 0).any() else 0.0


def few_rows(samples: Sequence[Sample], share: float, by: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of a share of the labels.

    Args:
        samples: of the training scenes.
        share: in (0, 1].
        by: "points" (that share of every scene's labelled points) or "scenes" (that share of the scenes, all points).
        seed: of the draw; at least one point of each scene, or one scene, is taken.
    """
    rng = np.random.default_rng([seed, 2])
    if by == "scenes":
        count = max(1, round(share * len(samples)))
        chosen = [samples[i] for i in sorted(rng.permutation(len(samples))[:count])]
        picked = [np.arange(len(sample.label)) for sample in chosen]
    else:
        chosen = [sample for sample in samples if len(sample.label)]
        sizes = [(len(sample.label), max(1, round(share * len(sample.label)))) for sample in chosen]
        picked = [np.sort(rng.permutation(size)[:count]) for size, count in sizes]
    feat = np.concatenate([sample.feat[rows] for sample, rows in zip(chosen, picked, strict=True)])
    return feat, np.concatenate([sample.label[rows] for sample, rows in zip(chosen, picked, strict=True)])


@dataclass
class Row:
    """One line of the result: a probe at a share of the labels, over seeds."""

    probe: str
    share: float
    seeds: list[int]
    labelled: list[int]
    m_iou: list[float]
    m_iou_present: list[float]
    accuracy: list[float]

    @property
    def mean(self) -> float:
        """Mean over seeds of the mIoU over present classes."""
        return float(np.mean(self.m_iou_present))

    @property
    def spread(self) -> float:
        """Standard deviation over seeds (with one less than their number below the line); 0 for one seed."""
        return float(np.std(self.m_iou_present, ddof=1)) if len(self.m_iou_present) > 1 else 0.0


@dataclass
class ProbeResult:
    """All rows; with all labels also the scores by class (by probe), the head and the bank."""

    rows: list[Row]
    scores: dict[str, SegmentationScores]
    head: Head
    bank: Neighbours


def run_probes(
    train: Sequence[Sample],
    val: Sequence[Sample],
    classes: int,
    shares: Sequence[float] = (0.01, 0.1, 1.0),
    by: str = "points",
    seeds: Sequence[int] = (0, 1, 2),
    bank: int = 20_000,
    k: int = 20,
) -> ProbeResult:
    """Both probes at every share of the labels; the last is run at 1.0 in any case.

    Raises:
        DataError: no labelled point on one side.
    """
    if not sum(len(s.label) for s in train) or not sum(len(s.label) for s in val):
        raise DataError("no labelled point in the training or in the validation scenes; check --labels and --ignore")
    rows: list[Row] = []
    scores: dict[str, SegmentationScores] = {}
    head = neighbours = None
    for share in sorted({*shares, 1.0}):
        drawn = list(seeds[:1]) if share == 1.0 else list(seeds)
        lines = {name: Row(name, share, drawn, [], [], [], []) for name in ("linear", "knn")}
        for seed in drawn:
            feat, label = few_rows(train, share, by, seed)
            head = train_linear(feat, label, classes)
            neighbours = Neighbours.of(feat, label, classes, bank, seed, k)
            predictions = {
                "linear": [classify(sample.feat, head)[0] for sample in val],
                "knn": [neighbours.predict(sample.feat) for sample in val],
            }
            for name, predicted in predictions.items():
                found = score(predicted, val, classes)
                line = lines[name]
                line.labelled.append(len(label))
                line.m_iou.append(found.m_iou)
                line.m_iou_present.append(present_miou(found))
                line.accuracy.append(found.all_acc)
                scores[name] = found
        rows += lines.values()
    return ProbeResult(rows, scores, head, neighbours)


def few_label_table(rows: Sequence[Row], by: str) -> str:
    """Lines of mIoU (percent, classes present in the validation scenes) by share of the labels."""
    lines = [f"labels of {by:<7}  probe   labelled points  mIoU (mean ± spread)  mIoU, all classes  accuracy"]
    for row in rows:
        m_iou = f"{100 * row.mean:.1f} ± {100 * row.spread:.1f}" if len(row.seeds) > 1 else f"{100 * row.mean:.1f}"
        lines.append(
            f"{100 * row.share:>15.4g}%  {row.probe:<6}  {round(np.mean(row.labelled)):>15,}  {m_iou:>20}  "
            f"{100 * np.mean(row.m_iou):>17.1f}  {100 * np.mean(row.accuracy):>8.1f}"
        )
    return "\n".join(lines)


def class_table(scores: dict[str, SegmentationScores], names: Sequence[str]) -> str:
    """IoU in percent of every class that occurs, with all labels, a column for each probe."""
    points = next(iter(scores.values())).points
    width = max(5, *(len(name) for name in names))
    lines = [f"{'class':<{width}}  {'points':>9}" + "".join(f"  {probe:>6}" for probe in scores)]
    for i, name in enumerate(names):
        if points[i]:
            shares = "".join(f"  {100 * found.iou[i]:>6.1f}" for found in scores.values())
            lines.append(f"{name:<{width}}  {int(points[i]):>9,}{shares}")
    return "\n".join(lines)

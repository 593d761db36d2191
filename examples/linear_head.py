"""Train a linear head on frozen LAM3C features, and read its classes at every point of a room it has not seen.

    python examples/linear_head.py                                       random weights, synthetic rooms, a minute
    python examples/linear_head.py --checkpoint lam3c-ptv3-base --points 120000
    python examples/linear_head.py --checkpoint exp/quickstart/run/model/model_last.pth

The rooms are `data_tools.synthetic`'s, with 24 classes. Put your own clouds and labels in place of `rooms()`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_tools.clouds.io import Cloud
from data_tools.synthetic.rooms.generate import SyntheticSettings, make_room
from lam3c_plugin import Encoder, load
from lam3c_plugin.embedded.downstream.metrics import SegmentationCounts
from lam3c_plugin.labels import SYNTHETIC_24


def rooms(first: int, count: int, points: int) -> Iterator[Cloud]:
    """Labelled rooms; the numbers from ``first`` on decide which."""
    for index in range(first, first + count):
        yield make_room(SyntheticSettings(seed=7, noise="clean", points=points), index)[0]


def features(encoder: Encoder, cloud: Cloud) -> tuple[Tensor, Tensor, Tensor]:
    """Features (M, C) and labels (M,) of a room's cells, and the cell of each point (N,)."""
    cells = encoder.encode_cells(cloud.coord, cloud.color, cloud.normal)
    return (
        torch.from_numpy(cells.feat),
        torch.from_numpy(cloud.segment[cells.rows]).long(),
        torch.from_numpy(cells.inverse),
    )


def train_head(feat: Tensor, label: Tensor, classes: int, steps: int) -> nn.Module:
    """A linear layer on standardised features: AdamW, cross-entropy, batches of 8,192 cells."""
    torch.manual_seed(0)
    mean, scale = feat.mean(0), feat.std(0).clamp(min=1e-6)
    head = nn.Linear(feat.shape[1], classes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    for step in range(steps):
        rows = torch.randint(len(feat), (min(8192, len(feat)),))
        loss = F.cross_entropy(head((feat[rows] - mean) / scale), label[rows], ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step:4d}  loss {loss.item():.3f}")
    with torch.no_grad():  # the standardisation becomes part of the layer
        head.weight /= scale
        head.bias -= head.weight @ mean
    return head


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="zoo name, file or folder; without: the tiny model with random weights")
    parser.add_argument("--rooms", type=int, default=6, help="to train on; half as many to test")
    parser.add_argument("--points", type=int, default=20_000, help="of each room")
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    encoder = load(args.checkpoint, random=None if args.checkpoint else "tiny")
    encoder.grid_size = encoder.info.grid_size or 0.04  # metres
    print(encoder)

    train = [features(encoder, cloud) for cloud in rooms(0, args.rooms, args.points)]
    feat, label = torch.cat([item[0] for item in train]), torch.cat([item[1] for item in train])
    head = train_head(feat, label, len(SYNTHETIC_24), args.steps)

    counts = SegmentationCounts(len(SYNTHETIC_24))
    for cloud in rooms(1000, max(1, args.rooms // 2), args.points):
        feat, _, inverse = features(encoder, cloud)
        with torch.no_grad():
            predicted = head(feat).argmax(1)[inverse]  # a class for every point of the input
        counts.add(predicted, torch.from_numpy(cloud.segment).long())
    scores = counts.scores()
    print(scores.table(SYNTHETIC_24))
    print(scores.summary())


if __name__ == "__main__":
    main()

"""Scores against hand-computed ones; evaluator and tester around them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lam3c_plugin.embedded.downstream import SegmentationCounts
from lam3c_plugin.embedded.registry import TESTERS
from lam3c_plugin.errors import CheckpointError, DataError
from lam3c_plugin.host import HOOKS, Config
from tests.ranks import run_ranks

NAMES = ["wall", "floor", "chair", "lamp"]


def test_scores_by_hand():
    """Labels 0 0 0 1 1 2 and one ignored point; class 3 is nowhere."""
    counts = SegmentationCounts(4, ignore_index=-1)
    counts.add(torch.tensor([0, 0, 1, 1, 0, 2, 3]), torch.tensor([0, 0, 0, 1, 1, 2, -1]))
    scores = counts.scores()
    assert scores.iou.tolist() == pytest.approx([2 / 4, 1 / 3, 1, 0])
    assert scores.accuracy.tolist() == pytest.approx([2 / 3, 1 / 2, 1, 0])
    assert scores.m_iou == pytest.approx((2 / 4 + 1 / 3 + 1) / 4)
    assert scores.m_acc == pytest.approx((2 / 3 + 1 / 2 + 1) / 4)
    assert scores.all_acc == pytest.approx(4 / 6)
    assert "lamp   0.0000    0.0000           0" in scores.table(NAMES)


def test_scenes_add_up():
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.randint(0, 4, (2, 300), generator=generator)
    target[:20] = -1
    whole, parts = SegmentationCounts(4), SegmentationCounts(4)
    whole.add(pred, target)
    for rows in (slice(0, 7), slice(7, 200), slice(200, 300)):
        parts.add(pred[rows], target[rows])
    assert torch.equal(whole.counts, parts.counts)
    union = [int(((pred == c) | (target == c))[20:].sum()) for c in range(4)]
    hits = [int(((pred == c) & (target == c)).sum()) for c in range(4)]
    assert whole.scores().iou.tolist() == pytest.approx([h / u for h, u in zip(hits, union, strict=True)])


def test_wrong_labels_are_named():
    with pytest.raises(DataError, match="labels go from 0 to 4, there are 4 classes"):
        SegmentationCounts(4).add(torch.tensor([0, 1]), torch.tensor([0, 4]))
    with pytest.raises(DataError, match="3 predictions for 2 labels"):
        SegmentationCounts(4).add(torch.tensor([0, 1, 1]), torch.tensor([0, 1]))
    empty = SegmentationCounts(4)
    empty.add(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    assert empty.scores().m_iou == 0


class Oracle(nn.Module):
    """Predicts class ``feat`` and, where it is asked to, what lies beside it."""

    def forward(self, batch):
        assert not self.training
        result = {"seg_logits": torch.nn.functional.one_hot(batch["feat"].long(), 4).float()}
        return result | ({"loss": batch["feat"].float().mean()} if "segment" in batch else {})


class Scenes(list):
    """A loader over ready batches, this rank's of three scenes."""

    batch_size = 1
    dataset = range(3)


def scenes():
    return Scenes(
        [
            {"feat": torch.tensor([0, 1, 2]), "segment": torch.tensor([0, 1, 1])},
            # two cells for four points
            {
                "feat": torch.tensor([1, 2]),
                "segment": torch.tensor([1, 2]),
                "inverse": torch.tensor([0, 0, 1, 1]),
                "origin_segment": torch.tensor([1, 2, 2, -1]),
            },
            {"feat": torch.tensor([0, 0]), "segment": torch.tensor([0, -1])},
        ]
    )


def evaluate(loader, **options):
    written, lines = {}, []
    data = SimpleNamespace(num_classes=4, ignore_index=-1, names=NAMES)
    trainer = SimpleNamespace(
        cfg=SimpleNamespace(evaluate=True, data=data),
        model=Oracle(),
        val_loader=loader,
        device=torch.device("cpu"),
        comm_info={},
        epoch=2,
        writer=SimpleNamespace(add_scalar=lambda key, value, step: written.__setitem__((key, step), value)),
        logger=SimpleNamespace(info=lines.append),
        best_metric_value=0.5,
    )
    hook = HOOKS.build(dict(type="SemSegEvaluator", **options))
    hook.trainer = trainer
    hook.after_epoch()
    hook.after_train()
    return trainer.comm_info, written, "\n".join(lines)


def test_evaluator_counts_original_points():
    """Labels 0 1 1 | 1 2 2 | 0 against 0 1 2 | 1 1 2 | 0: IoU 2/2, 2/4, 1/3, and a class without points."""
    info, written, said = evaluate(scenes(), write_cls_iou=True)
    assert info["current_metric_name"] == "mIoU"
    assert info["current_metric_value"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 4)
    assert written["val/mIoU", 3] == info["current_metric_value"]
    assert written["val/allAcc", 3] == pytest.approx(5 / 7)
    assert written["val/loss", 3] == pytest.approx((1 + 1.5 + 0) / 3)
    assert written["val/cls_1-floor IoU", 3] == pytest.approx(1 / 2)
    assert "mIoU/mAcc/allAcc" in said
    assert "Best mIoU: 0.5000" in said


def _rank(rank):
    """Two ranks, three scenes: the sampler gives each two, the last of rank 1 is the first once more."""
    every = scenes()
    return evaluate(Scenes([every[0], every[2]] if rank == 0 else [every[1], every[0]]))[0]["current_metric_value"]


def test_two_ranks_count_every_scene_once(tmp_path):
    alone = evaluate(scenes())[0]["current_metric_value"]
    assert run_ranks(_rank, folder=tmp_path) == [pytest.approx(alone)] * 2


class Fragments:
    """A test set of one scene in two overlapping fragments, and one read back through ``inverse``."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        parts = [([0, 1, 2], [0, 1, 1]), ([2, 3], [3, 2]), ([2], [3])]
        fragments = [
            {"feat": torch.tensor(feat), "index": torch.tensor(rows), "offset": torch.tensor([len(rows)])}
            for rows, feat in parts
        ]
        scene = {"name": f"scene{index}", "segment": np.array([0, 1, 3, 2]), "fragment_list": fragments}
        if index == 1:
            scene |= {"inverse": np.array([0, 0, 3]), "origin_segment": np.array([0, 1, -1])}
        return scene


def test_tester_adds_up_votes(tmp_path):
    cfg = Config(
        dict(
            data=dict(num_classes=4, ignore_index=-1, names=NAMES),
            save_path=str(tmp_path),
            weight=None,
            device="cpu",
        )
    )
    tester = TESTERS.get("SemSegTester").__new__(TESTERS.get("SemSegTester"))
    tester.__dict__.update(
        cfg=cfg,
        verbose=True,
        logger=SimpleNamespace(info=lambda line: None),
        device=torch.device("cpu"),
        model=Oracle().eval(),
        dataset=Fragments(),
    )
    scores = tester.test()
    # point 2 is seen as 1, 3 and 3
    assert np.load(tmp_path / "result/scene0_pred.npy").tolist() == [0, 1, 3, 2]
    assert np.load(tmp_path / "result/scene1_pred.npy").tolist() == [0, 0, 2]
    assert scores.all_acc == pytest.approx(5 / 6)
    written = json.loads((tmp_path / "result/scores.json").read_text())
    assert written["mIoU"] == pytest.approx(scores.m_iou)
    assert written["classes"]["wall"] == {"iou": pytest.approx(2 / 3), "accuracy": 1.0, "points": 2}


def test_tester_needs_weights():
    cfg = Config(dict(model=dict(type="FakeNet"), weight=None, device="cpu", data={}))
    from lam3c_plugin.host import MODELS

    MODELS.register_module(name="FakeNet", module=Oracle, force=True)
    with pytest.raises(CheckpointError, match="testing needs weight="):
        TESTERS.build(dict(type="SemSegTester", cfg=cfg))

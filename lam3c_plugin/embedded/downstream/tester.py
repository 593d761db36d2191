"""Testing: every scene in fragments and augmented copies, whose predictions are added up at each point."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lam3c_plugin.checkpoints.keys import load_weights, read_checkpoint, state_dict_of
from lam3c_plugin.embedded import comm
from lam3c_plugin.embedded.downstream.metrics import SegmentationCounts, SegmentationScores
from lam3c_plugin.embedded.engine.data import to_device
from lam3c_plugin.embedded.engine.defaults import choose_device
from lam3c_plugin.embedded.hooks.default import unwrap
from lam3c_plugin.embedded.logger import get_root_logger
from lam3c_plugin.embedded.registry import TESTERS, build_dataset, build_model
from lam3c_plugin.errors import CheckpointError


def _only(batch: list[Any]) -> Any:
    return batch[0]


@TESTERS.register_module()
class SemSegTester:
    """Tests a segmentation model on ``cfg.data.test`` and writes predictions and scores to ``<save_path>/result``.

    A scene comes as fragments (``test_cfg``): each cell's points are spread over fragments so that every point is seen,
    once for each augmented copy. Class probabilities are added up at the points; the largest sum wins.

    Args:
        cfg: config with data, model, save_path and, without ``model``, weight.
        model: the trained model; default: built from ``cfg.model`` with the weights of ``cfg.weight``, all of which
            have to fit.
        verbose: a log line a scene.

    Raises:
        CheckpointError: no weight given, unreadable, or of another model.
    """

    def __init__(self, cfg: Any, model: torch.nn.Module | None = None, verbose: bool = True) -> None:
        self.cfg, self.verbose = cfg, verbose
        self.logger = get_root_logger()
        self.device = choose_device(cfg)
        self.model = self._build_model() if model is None else model
        self.dataset = build_dataset(cfg.data.test)

    def _build_model(self) -> torch.nn.Module:
        model = build_model(self.cfg.model)
        path = self.cfg.weight
        if not path:
            raise CheckpointError("testing needs weight=<run folder>/model/model_best.pth")
        report = load_weights(model, state_dict_of(read_checkpoint(path), path), strict=True, source=path)
        self.logger.info(f"Testing {path}: {report.summary()}")
        return model.to(self.device)

    def test(self) -> SegmentationScores:
        """Test all scenes, shared out over the ranks; every rank gets the scores of all."""
        result = Path(self.cfg.save_path) / "result"
        result.mkdir(parents=True, exist_ok=True)
        counts = SegmentationCounts(self.cfg.data.num_classes, self.cfg.data.ignore_index)
        self.model.eval()
        # strides without padding: no scene is tested twice
        mine = list(range(comm.get_rank(), len(self.dataset), comm.get_world_size()))
        workers = min(1, self.cfg.get("num_worker_per_gpu", 0))
        loader = DataLoader(
            self.dataset, batch_size=1, sampler=mine, num_workers=workers, collate_fn=_only, generator=torch.Generator()
        )
        for number, scene in enumerate(loader):
            start = time.perf_counter()
            pred, target = self.predict(scene)
            np.save(result / f"{scene['name']}_pred.npy", pred.numpy())
            counts.add(pred, target)
            if self.verbose:
                alone = SegmentationCounts(counts.num_classes, counts.ignore_index)
                alone.add(pred, target)
                self.logger.info(
                    f"Test [{number + 1}/{len(mine)}] {scene['name']}: {len(target)} points, "
                    f"{len(scene['fragment_list'])} fragments, accuracy {alone.scores().all_acc:.4f}, "
                    f"{time.perf_counter() - start:.1f} s; so far {counts.scores().summary()}"
                )
        scores = counts.merge().scores()
        self._report(scores, result)
        return scores

    @torch.no_grad()
    def predict(self, scene: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Classes (N,) and labels (N,) of a scene's original points, on the CPU."""
        from lam3c_plugin.embedded.datasets import collate_fn

        model = unwrap(self.model)
        segment = torch.as_tensor(np.asarray(scene["segment"])).flatten()
        votes = torch.zeros(len(segment), self.cfg.data.num_classes, device=self.device)
        for fragment in scene["fragment_list"]:
            batch = to_device(collate_fn([fragment]), self.device)
            votes.index_add_(0, batch["index"], model(batch)["seg_logits"].float().softmax(-1))
        pred = votes.argmax(1).cpu()
        if "origin_segment" in scene:
            pred = pred[torch.as_tensor(np.asarray(scene["inverse"]))]
            segment = torch.as_tensor(np.asarray(scene["origin_segment"])).flatten()
        return pred, segment.long()

    def _report(self, scores: SegmentationScores, result: Path) -> None:
        if not comm.is_main_process():
            return
        names = list(self.cfg.data.names)
        self.logger.info(f"Test result: {scores.summary()}\n{scores.table(names)}")
        content = {
            "mIoU": scores.m_iou,
            "mAcc": scores.m_acc,
            "allAcc": scores.all_acc,
            "scenes": len(self.dataset),
            "weight": None if self.cfg.weight is None else str(self.cfg.weight),
            "classes": {
                name: {"iou": float(iou), "accuracy": float(accuracy), "points": int(points)}
                for name, iou, accuracy, points in zip(names, scores.iou, scores.accuracy, scores.points, strict=True)
            },
        }
        (result / "scores.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

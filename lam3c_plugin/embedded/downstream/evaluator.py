"""Hooks that evaluate a segmentation model after every epoch, and thoroughly at the end."""

from __future__ import annotations

from pathlib import Path

import torch

from lam3c_plugin.checkpoints.keys import load_weights, read_checkpoint, state_dict_of
from lam3c_plugin.embedded import comm
from lam3c_plugin.embedded.downstream.metrics import SegmentationCounts, SegmentationScores
from lam3c_plugin.embedded.engine.data import to_device
from lam3c_plugin.embedded.hooks.default import HookBase, unwrap
from lam3c_plugin.embedded.registry import HOOKS, TESTERS
from lam3c_plugin.errors import ConfigError


@HOOKS.register_module()
class SemSegEvaluator(HookBase):
    """Evaluates on ``trainer.val_loader`` after every epoch (``evaluate=True``) and leaves mIoU for the checkpoints.

    Where a batch has ``inverse`` and ``origin_segment``, every original point counts, with the prediction of its cell.

    Args:
        write_cls_iou: also write each class' IoU to TensorBoard.
    """

    def __init__(self, write_cls_iou: bool = False) -> None:
        self.write_cls_iou = write_cls_iou

    def after_epoch(self) -> None:
        if self.trainer.cfg.evaluate:
            self.eval()

    def eval(self) -> SegmentationScores:
        """Run the model over the validation scenes; the scores are those of all ranks."""
        trainer = self.trainer
        data = trainer.cfg.data
        counts = SegmentationCounts(data.num_classes, data.ignore_index)
        losses: list[float] = []
        trainer.model.eval()
        for number, batch in enumerate(trainer.val_loader):
            batch = to_device(batch, trainer.device)
            with torch.no_grad():
                output = unwrap(trainer.model)(batch)
            if self._is_repeat(number):
                continue
            pred, target = output["seg_logits"].argmax(1), batch["segment"]
            if "inverse" in batch:
                if "origin_segment" not in batch:
                    raise ConfigError("data.val: Collect keeps inverse but not origin_segment; it needs both")
                pred, target = pred[batch["inverse"]], batch["origin_segment"]
            counts.add(pred, target)
            if "loss" in output:
                losses.append(float(output["loss"]))
        scores = counts.merge().scores()
        losses = [loss for part in comm.all_gather(losses) for loss in part]
        self._report(scores, sum(losses) / max(len(losses), 1))
        trainer.comm_info["current_metric_value"] = scores.m_iou
        trainer.comm_info["current_metric_name"] = "mIoU"
        return scores

    def _is_repeat(self, number: int) -> bool:
        """Ranks get equally many scenes: the last ones of some are repeated, and count once."""
        loader = self.trainer.val_loader
        if loader.batch_size != 1:
            return False  # then the repeated scenes cannot be told apart, and count twice as on the host
        return number * comm.get_world_size() + comm.get_rank() >= len(loader.dataset)

    def _report(self, scores: SegmentationScores, loss: float) -> None:
        trainer = self.trainer
        names = list(trainer.cfg.data.names)
        trainer.logger.info(f"Val result: {scores.summary()}, loss {loss:.4f}\n{scores.table(names)}")
        if trainer.writer is None:
            return
        epoch = trainer.epoch + 1
        values = {"loss": loss, "mIoU": scores.m_iou, "mAcc": scores.m_acc, "allAcc": scores.all_acc}
        if self.write_cls_iou:
            values |= {f"cls_{index}-{name} IoU": scores.iou[index] for index, name in enumerate(names)}
        for key, value in values.items():
            trainer.writer.add_scalar(f"val/{key}", value, epoch)

    def after_train(self) -> None:
        self.trainer.logger.info(f"Best mIoU: {self.trainer.best_metric_value:.4f}")


@HOOKS.register_module()
class PreciseEvaluator(HookBase):
    """Runs the tester of ``cfg.test`` after training, on ``model_best.pth``.

    Args:
        test_last: test the model as training left it.
    """

    def __init__(self, test_last: bool = False) -> None:
        self.test_last = test_last

    def after_train(self) -> None:
        trainer = self.trainer
        best = Path(trainer.cfg.save_path) / "model" / "model_best.pth"
        comm.synchronize()
        if self.test_last or not best.is_file():
            reason = "" if self.test_last else f" ({best} is not there: evaluate=True makes it)"
            trainer.logger.info(f"Testing the last model{reason}")
        else:
            trainer.logger.info(f"Testing {best}")
            load_weights(unwrap(trainer.model), state_dict_of(read_checkpoint(best), best), strict=True, source=best)
        TESTERS.build(dict(trainer.cfg.test, cfg=trainer.cfg, model=trainer.model)).test()

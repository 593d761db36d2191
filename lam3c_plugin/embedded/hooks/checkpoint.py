"""Hooks that load and save checkpoints."""

from __future__ import annotations

from typing import Any

from lam3c_plugin.checkpoints.keys import LoadReport, warm_start
from lam3c_plugin.embedded.hooks.default import HookBase, unwrap
from lam3c_plugin.embedded.registry import HOOKS
from lam3c_plugin.errors import CheckpointError


@HOOKS.register_module()
class CheckpointLoader(HookBase):
    """Loads ``cfg.weight`` before training: the whole run with ``cfg.resume``, else weights to start from.

    Args:
        keywords: part of the key names to replace by ``replacement`` (as on the host, where all keys begin with
            ``module.``). Without them the layouts are told apart and fitted (``checkpoint.map_state``).
        replacement: see above; None replaces nothing.
        strict: every weight has to fit.
    """

    def __init__(self, keywords: str = "", replacement: str | None = None, strict: bool = False) -> None:
        self.keywords, self.replacement, self.strict = keywords, replacement, strict
        self.report: LoadReport | None = None

    def before_train(self) -> None:
        from lam3c_plugin.embedded.engine import state  # late: the engine imports the hooks

        path = self.trainer.cfg.weight
        if self.trainer.cfg.resume:
            if not path:
                raise CheckpointError("resume=True needs weight=<run folder>/model/model_last.pth")
            state.resume(self.trainer, path)
        elif path:
            self.report = warm_start(
                unwrap(self.trainer.model),
                path,
                keywords=self.keywords,
                replacement=self.replacement,
                strict=self.strict,
            )
            self.trainer.logger.info(f"Started from {path}: {self.report.summary()}")
        else:
            self.trainer.logger.info("No weights to start from (weight is not set)")


@HOOKS.register_module()
class CheckpointSaver(HookBase):
    """Saves ``model/model_last.pth`` after every epoch; put it last among the hooks.

    Args:
        save_freq: every so many epochs the file is kept as ``epoch_<n>.pth`` as well.
        save_freq_steps: also save every so many optimiser steps, within epochs.
    """

    def __init__(self, save_freq: int | None = None, save_freq_steps: int | None = None) -> None:
        self.save_freq, self.save_freq_steps = save_freq, save_freq_steps

    def after_step(self) -> None:
        trainer = self.trainer
        if self.save_freq_steps and trainer.accumulated == 0 and trainer.step % self.save_freq_steps == 0:
            trainer.save_requested = True  # the trainer saves once all hooks of this step have run

    def after_epoch(self) -> None:
        from lam3c_plugin.embedded.engine import state

        trainer = self.trainer
        copies = ["model_best.pth"] if self._is_best(trainer) else []
        if self.save_freq and (trainer.epoch + 1) % self.save_freq == 0:
            copies.append(f"epoch_{trainer.epoch + 1}.pth")
        trainer.save_requested = False
        state.save(trainer, tuple(copies))

    @staticmethod
    def _is_best(trainer: Any) -> bool:
        value = trainer.comm_info.get("current_metric_value") if trainer.cfg.evaluate else None
        if value is None or value <= trainer.best_metric_value:
            return False
        trainer.best_metric_value = value
        name = trainer.comm_info.get("current_metric_name", "metric")
        trainer.logger.info(f"Best validation {name} so far: {value:.4f}")
        return True

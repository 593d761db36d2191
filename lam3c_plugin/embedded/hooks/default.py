"""The hook points of a training run, and the hook that passes them on to the model."""

from __future__ import annotations

import weakref
from typing import Any

from torch.nn.parallel import DistributedDataParallel

from lam3c_plugin.embedded.registry import HOOKS


class HookBase:
    """Six points of a run at which a hook may act; ``trainer`` is set (weakly) before the first."""

    trainer: Any = None

    def before_train(self) -> None:
        """Once, before the first epoch."""

    def before_epoch(self) -> None:
        """At the start of every epoch."""

    def before_step(self) -> None:
        """Before every micro-batch; ``trainer.comm_info["input_dict"]`` is the batch, still on the CPU.

        After a step that was left out, the next one comes with the same `trainer.step`.
        """

    def after_step(self) -> None:
        """After every micro-batch; ``trainer.comm_info["model_output_dict"]`` is what the model gave, detached.

        Also after a step that was left out (an overflow of float16): then neither `trainer.step` nor any schedule has
        moved.
        """

    def after_epoch(self) -> None:
        """At the end of every epoch."""

    def after_train(self) -> None:
        """Once, after the last epoch."""


def unwrap(model: Any) -> Any:
    """The model inside a DistributedDataParallel wrapper, or the model itself."""
    return model.module if isinstance(model, DistributedDataParallel) else model


@HOOKS.register_module()
class ModelHook(HookBase):
    """Calls the hook methods of a model that has them (a ``PointModel``); without them it does nothing."""

    def __init__(self) -> None:
        self.model: Any = HookBase()

    def before_train(self) -> None:
        model = unwrap(self.trainer.model)
        self.model = weakref.proxy(model) if isinstance(model, HookBase) else HookBase()
        self.model.trainer = self.trainer
        self.model.before_train()

    def before_epoch(self) -> None:
        self.model.before_epoch()

    def before_step(self) -> None:
        self.model.before_step()

    def after_step(self) -> None:
        self.model.after_step()

    def after_epoch(self) -> None:
        self.model.after_epoch()

    def after_train(self) -> None:
        self.model.after_train()

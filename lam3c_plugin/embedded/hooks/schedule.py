"""Hooks that change an optimiser setting over the run."""

from __future__ import annotations

from lam3c_plugin.embedded.hooks.default import HookBase
from lam3c_plugin.embedded.registry import HOOKS
from lam3c_plugin.embedded.scheduler import CosineScheduler


@HOOKS.register_module()
class WeightDecaySchedular(HookBase):
    """Weight decay along a cosine from ``base_value`` to ``final_value``, per optimiser step (name as on the host)."""

    def __init__(self, base_value: float = 0.04, final_value: float = 0.2) -> None:
        self.base_value, self.final_value = base_value, final_value
        self.scheduler: CosineScheduler | None = None

    def before_train(self) -> None:
        self.scheduler = CosineScheduler(
            self.base_value, self.final_value, total_iters=int(self.trainer.cfg.scheduler.total_steps)
        )

    def before_step(self) -> None:
        if self.trainer.accumulated == 0:
            self._apply()

    def after_train(self) -> None:
        self._apply()

    def _apply(self) -> None:
        # from the steps done, and not counted here: a resumed run is at the right place without further ado
        value = self.scheduler.get(self.trainer.step)
        for group in self.trainer.optimizer.param_groups:
            group["weight_decay"] = value
        if self.trainer.writer is not None:
            self.trainer.writer.add_scalar("params/wd", value, self.trainer.step)

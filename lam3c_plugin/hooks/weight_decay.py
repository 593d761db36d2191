"""Weight decay along a cosine, per optimiser step."""

from __future__ import annotations

from lam3c_plugin.hooks.common import steps_done, total_steps
from lam3c_plugin.host import HOOKS, HookBase
from lam3c_plugin.ops.schedules import WarmupCosine


@HOOKS.register_module()
class WeightDecayCosine(HookBase):
    """Weight decay from ``base_value`` to ``final_value`` over the run (release of arXiv 2512.23042: 0.04 -> 0.1).

    Unlike the host's ``WeightDecaySchedular`` it follows the optimiser step, not the micro-batch: with gradient
    accumulation it ends at ``final_value`` too, and a resumed run continues where it stopped. Parameter groups whose
    weight decay is 0 at the start keep it, unless all of them are 0. Logged as ``params/wd``.
    """

    def __init__(self, base_value: float = 0.04, final_value: float = 0.1) -> None:
        self.schedule = WarmupCosine(base_value, base_value, final_value)
        self._exempt: set[int] = set()
        self._logged = -1

    def before_train(self) -> None:
        decays = [group["weight_decay"] for group in self.trainer.optimizer.param_groups]
        self._exempt = {number for number, value in enumerate(decays) if value == 0} if any(decays) else set()

    def before_step(self) -> None:
        step = steps_done(self.trainer)
        value = self.schedule.at(step, total_steps(self.trainer))
        for number, group in enumerate(self.trainer.optimizer.param_groups):
            if number not in self._exempt:
                group["weight_decay"] = value
        if self.trainer.writer is not None and step != self._logged:
            self.trainer.writer.add_scalar("params/wd", value, step + 1)
            self._logged = step

"""Learning-rate schedules under the host's names; they advance per optimiser step."""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import Optimizer, lr_scheduler

from lam3c_plugin.embedded.registry import SCHEDULERS
from lam3c_plugin.errors import ConfigError
from lam3c_plugin.ops.schedules import half_cosine


@SCHEDULERS.register_module()
class MultiStepLR(lr_scheduler.MultiStepLR):
    """Times ``gamma`` at every milestone; milestones are fractions of the run."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[float],
        total_steps: int,
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        super().__init__(optimizer, [int(rate * total_steps) for rate in milestones], gamma, last_epoch)


@SCHEDULERS.register_module()
class MultiStepWithWarmupLR(lr_scheduler.LambdaLR):
    """As `MultiStepLR` after a linear warm-up from ``warmup_scale`` over ``warmup_rate`` of the run."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[float],
        total_steps: int,
        gamma: float = 0.1,
        warmup_rate: float = 0.05,
        warmup_scale: float = 1e-6,
        last_epoch: int = -1,
    ) -> None:
        steps = sorted(rate * total_steps for rate in milestones)
        warmup = warmup_rate * total_steps

        def factor(step: int) -> float:
            risen = min(step / warmup, 1.0) if warmup > 0 else 1.0
            return (warmup_scale + (1 - warmup_scale) * risen) * gamma ** bisect_right(steps, step)

        super().__init__(optimizer, factor, last_epoch)


@SCHEDULERS.register_module()
class PolyLR(lr_scheduler.LambdaLR):
    """``(1 - step / (total_steps + 1)) ** power``."""

    def __init__(self, optimizer: Optimizer, total_steps: int, power: float = 0.9, last_epoch: int = -1) -> None:
        super().__init__(optimizer, lambda step: (1 - step / (total_steps + 1)) ** power, last_epoch)


@SCHEDULERS.register_module()
class CosineAnnealingLR(lr_scheduler.CosineAnnealingLR):
    """Half a cosine from the optimiser's rate down to ``eta_min``."""

    def __init__(self, optimizer: Optimizer, total_steps: int, eta_min: float = 0, last_epoch: int = -1) -> None:
        super().__init__(optimizer, T_max=total_steps, eta_min=eta_min, last_epoch=last_epoch)


@SCHEDULERS.register_module()
class OneCycleLR(lr_scheduler.OneCycleLR):
    """torch's one-cycle schedule; ``max_lr`` is a number, or one a parameter group."""

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int,
        pct_start: float = 0.3,
        **kwargs: Any,
    ) -> None:
        groups = len(optimizer.param_groups)
        if isinstance(max_lr, Sequence) and len(max_lr) != groups:
            raise ConfigError(
                f"scheduler.max_lr has {len(max_lr)} rates for {groups} parameter groups: "
                "give one for the rest and one for each of param_dicts, or a single number"
            )
        if math.isclose(pct_start * total_steps, 1.0, abs_tol=1e-6):
            # torch divides by the warm-up's length less one, which is zero here
            pct_start += 1e-4 / total_steps
        super().__init__(
            optimizer,
            list(max_lr) if isinstance(max_lr, Sequence) else max_lr,
            total_steps=total_steps,
            pct_start=pct_start,
            **kwargs,
        )

    def get_lr(self) -> list[float]:
        """The rates of the current step; the last step's ever after (torch's curve would rise again)."""
        if self.last_epoch >= self.total_steps:
            return [group["lr"] for group in self.optimizer.param_groups]
        return super().get_lr()


@SCHEDULERS.register_module()
class CosineScheduler:
    """A number over the steps of a run: linear warm-up, half a cosine from ``base_value``, then a frozen stretch."""

    def __init__(
        self,
        base_value: float,
        final_value: float,
        total_iters: int,
        start_value: float = 0,
        warmup_iters: int = 0,
        freeze_value: float | None = None,
        freeze_iters: int = 0,
    ) -> None:
        self.base_value, self.final_value, self.start_value = base_value, final_value, start_value
        self.total_iters, self.warmup_iters, self.freeze_iters = total_iters, warmup_iters, freeze_iters
        self.freeze_value = final_value if freeze_value is None else freeze_value
        self.iter = 0

    def get(self, it: int) -> float:
        """The value at step ``it``, counted from 0; the final value from ``total_iters`` on."""
        if it >= self.total_iters:
            return self.final_value
        if it < self.warmup_iters:
            rise = it / max(self.warmup_iters - 1, 1)
            return self.start_value + (self.base_value - self.start_value) * rise
        if it >= self.total_iters - self.freeze_iters:
            return self.freeze_value
        length = self.total_iters - self.warmup_iters - self.freeze_iters
        return half_cosine(self.base_value, self.final_value, (it - self.warmup_iters) / length)

    __getitem__ = get

    def step(self) -> float:
        """The value of the current step; moves on to the next."""
        self.iter += 1
        return self.get(self.iter - 1)

    def reset(self) -> None:
        """Back to step 0."""
        self.iter = 0


def build_scheduler(cfg: Mapping[str, Any], optimizer: Optimizer) -> Any:
    """Build the schedule of ``cfg`` (``total_steps`` included) for an optimiser."""
    if int(cfg["total_steps"]) < 1:
        raise ConfigError(
            "the run has not one optimiser step: fewer batches than gradient_accumulation_steps; "
            "lower it, or raise epoch (or max_steps)"
        )
    return SCHEDULERS.build(copy.deepcopy(dict(cfg)), default_args={"optimizer": optimizer})

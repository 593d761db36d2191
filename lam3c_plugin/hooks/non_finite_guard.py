"""Keeps one broken batch from ruining a run: skips its step, keeps it for inspection, stops when it does not pass."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_tools.stages.files import replacing
from lam3c_plugin.errors import Lam3cError
from lam3c_plugin.hooks.common import bare_model, steps_done
from lam3c_plugin.host import HOOKS, HookBase, comm
from lam3c_plugin.ops.rng import get_rng_state

MEGABYTE = 2**20


class NonFiniteError(Lam3cError):
    """Losses or gradients were not finite for too many steps in a row, or the weights themselves are not."""


def scene_names(input_dict: Any) -> list[str]:
    """Names of a batch's scenes, as the ``name`` key of the batch has them."""
    names = input_dict.get("name", []) if hasattr(input_dict, "get") else []
    return [names] if isinstance(names, str) else [str(name) for name in names]


def all_finite(tensors: list[Tensor]) -> bool:
    """Whether every entry of every tensor is finite; one GPU synchronisation for all of them together."""
    if not tensors:
        return True
    # L1: the sum of magnitudes of finite float32 gradients does not overflow in practice, sums of squares can
    wide = [tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float() for tensor in tensors]
    return math.isfinite(torch.stack([norm.double() for norm in torch._foreach_norm(wide, 1)]).sum().item())


@HOOKS.register_module()
class NonFiniteGuard(HookBase):
    """Drops optimiser steps with NaN or infinite gradients, on both engines and without a change to their trainers.

    A step whose gradients are not finite is made a no-op by a pre-hook of the optimiser, which removes the gradients.
    After DDP's average they are equal on all ranks, and so is the decision. The first bad batch of a row of bad steps
    is written to ``<save_path>/nonfinite/step_XXXXXX.pt`` (other ranks: ``step_XXXXXX_rankR.pt``) with its scene names
    and the generators' states before the step; ``torch.load`` reads it and
    `lam3c_plugin.ops.rng.set_rng_state` replays it.

    With an enabled ``GradScaler`` the scaler has looked already: it leaves such a step out itself, and the pre-hook is
    not called. That is normal while the scaler looks for its scale, so it counts only when a loss was not finite or
    the scale has fallen below 1.

    Cost: one read of the loss a micro-batch, which ``InformationWriter`` waits for as well, and without an enabled
    ``GradScaler`` one wait for the gradients before the optimiser's step. No other synchronisation.

    Args:
        max_in_a_row: so many bad steps in a row stop the run.
        dump: whether to write the offending batches.
        max_dumps: most files a rank writes into the folder, over all resumes.
        max_dump_mb: most megabytes of tensors in a file; the largest are left out, by name.

    Raises:
        NonFiniteError: ``max_in_a_row`` bad steps in a row, or a bad step with weights that are not finite.
    """

    def __init__(
        self, max_in_a_row: int = 10, dump: bool = True, max_dumps: int = 5, max_dump_mb: float = 1024.0
    ) -> None:
        if max_in_a_row < 1:
            raise ValueError(f"max_in_a_row must be at least 1, got {max_in_a_row}")
        self.max_in_a_row, self.dump = max_in_a_row, dump
        self.max_dumps, self.max_dump_mb = max_dumps, max_dump_mb
        self.in_a_row = 0
        self.dropped_steps = 0
        self._handle: Any = None
        self._step = 0
        self._micro_batches = 0
        self._dumped_row = False
        self._rng: dict[str, Any] = {}
        self._forget_step()

    def _forget_step(self) -> None:
        self._stepped = False
        self._bad_parameters: list[str] | None = None
        self._bad_losses: dict[str, float] = {}
        self._names: list[str] = []

    # ---- hook points ---------------------------------------------------------------------------------------------

    def before_train(self) -> None:
        self._handle = self.trainer.optimizer.register_step_pre_hook(self._before_optimizer_step)

    def before_step(self) -> None:
        self._step = steps_done(self.trainer) + 1
        self._rng = get_rng_state()

    def after_step(self) -> None:
        self._micro_batches += 1
        self._names += scene_names(self.trainer.comm_info.get("input_dict"))
        self._look_at_losses()
        due = self._micro_batches >= int(getattr(self.trainer.cfg, "gradient_accumulation_steps", None) or 1)
        if not (self._stepped or due):
            return
        reason = self._reason()
        if reason:
            self._bad_step(reason)
        else:
            self.in_a_row, self._dumped_row = 0, False
        self._micro_batches = 0
        self._forget_step()

    def after_train(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    # ---- looking -------------------------------------------------------------------------------------------------

    def _scaler_enabled(self) -> bool:
        scaler = getattr(self.trainer, "scaler", None)
        return scaler is not None and scaler.is_enabled()

    def _before_optimizer_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Remove gradients that are not finite; without gradients the optimiser touches neither weights nor state."""
        self._stepped = True
        if self._scaler_enabled():
            return  # it would not have called the optimiser otherwise
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if all_finite([p.grad for p in parameters]):
            return
        bad = {id(p) for p in parameters if not bool(torch.isfinite(p.grad).all())}
        named = [name for name, p in bare_model(self.trainer).named_parameters() if id(p) in bad]
        # clipping spreads one bad gradient over all of them
        self._bad_parameters = ["all parameters"] if len(bad) == len(parameters) else named
        for parameter in parameters:
            parameter.grad = None
        self.dropped_steps += 1

    def _look_at_losses(self) -> None:
        output = self.trainer.comm_info.get("model_output_dict") or {}
        loss = output.get("loss")
        if loss is None or math.isfinite(loss.item()):
            return
        scalars = {k: v.item() for k, v in output.items() if isinstance(v, Tensor) and v.numel() == 1}
        self._bad_losses = {name: value for name, value in scalars.items() if not math.isfinite(value)}
        self._dump_batch(f"losses that are not finite: {', '.join(self._bad_losses)}")

    def _reason(self) -> str:
        """What was wrong with the step just done, in words; empty if nothing was."""
        losses = ", ".join(f"{name} = {value}" for name, value in self._bad_losses.items())
        if self._bad_parameters is not None:
            where = f"the gradients of {', '.join(self._bad_parameters[:3])}"
            where += ", ... are not finite" if len(self._bad_parameters) > 3 else " are not finite"
            return f"{losses}; {where}; the step was dropped" if losses else f"{where}; the step was dropped"
        if self._scaler_enabled() and not self._stepped:
            scale = self.trainer.scaler.get_scale()
            if losses or scale < 1.0:
                return f"{losses or 'gradients overflow'} at loss scale {scale:g}; the GradScaler left the step out"
            return ""
        return f"{losses}, with finite gradients" if losses else ""

    # ---- acting --------------------------------------------------------------------------------------------------

    def _bad_step(self, reason: str) -> None:
        self.in_a_row += 1
        self._dump_batch(reason)
        names = ", ".join(self._names[:8]) + (f" and {len(self._names) - 8} more" if len(self._names) > 8 else "")
        message = f"step {self._step}: {reason}; scenes: {names or 'without names'}"
        # the host's loggers let other ranks through at level error only, and each rank has its own scenes
        (self.trainer.logger.warning if comm.is_main_process() else self.trainer.logger.error)(message)
        broken = [n for n, p in bare_model(self.trainer).named_parameters() if not bool(torch.isfinite(p).all())]
        folder = os.path.join(str(self.trainer.cfg.save_path), "nonfinite")
        if broken:
            raise NonFiniteError(
                f"{message}. {len(broken)} weights are not finite ({broken[0]}, ...): resume from the last checkpoint "
                f"with a lower learning rate; batches are in {folder}"
            )
        if self.in_a_row >= self.max_in_a_row:
            raise NonFiniteError(
                f"{message}. That is {self.in_a_row} bad steps in a row (max_in_a_row): lower the learning rate, use "
                f"amp_dtype='bfloat16', or look at the batches in {folder}"
            )

    def _dump_batch(self, reason: str) -> None:
        """Write the current batch, once in a row of bad steps."""
        if not self.dump or self._dumped_row:
            return
        self._dumped_row = True
        folder = Path(str(self.trainer.cfg.save_path), "nonfinite")
        rank = comm.get_rank()
        suffix = f"_rank{rank}" if rank else ""
        mine = [p for p in folder.glob("step_*.pt") if p.stem.partition("_rank")[2] == (str(rank) if rank else "")]
        if len(mine) >= self.max_dumps:
            self.trainer.logger.info(f"{folder} holds {len(mine)} batches already (max_dumps); this one is not written")
            return
        path = folder / f"step_{self._step:06d}{suffix}.pt"
        try:
            with replacing(path) as temporary:
                torch.save(self._contents(reason), temporary)
        except (OSError, RuntimeError) as error:  # a full disk must not be what stops the run
            self.trainer.logger.warning(f"the batch of step {self._step} could not be written to {path}: {error}")
            return
        self.trainer.logger.info(f"the batch of step {self._step} is in {path}")

    def _contents(self, reason: str) -> dict[str, Any]:
        trainer = self.trainer
        batch = dict(trainer.comm_info.get("input_dict") or {})
        tensors = {key: value for key, value in batch.items() if isinstance(value, Tensor)}
        keep, left_out = sorted(tensors, key=lambda key: tensors[key].nbytes), []
        while keep and sum(tensors[key].nbytes for key in keep) > self.max_dump_mb * MEGABYTE:
            left_out.append(keep.pop())
        kept = {key: tensors[key].detach().cpu().clone() for key in keep}  # a view would bring its whole storage
        others = {k: v if isinstance(v, (str, int, float)) else str(v) for k, v in batch.items() if k not in tensors}
        return {
            "step": self._step,
            "epoch": int(trainer.epoch),
            "iter": int(trainer.comm_info.get("iter", 0)),
            "rank": comm.get_rank(),
            "reason": reason,
            "losses": dict(self._bad_losses),
            "parameters": list(self._bad_parameters or []),
            "names": scene_names(batch),
            "input_dict": {**others, **kept},
            "left_out": left_out,
            "rng": self._rng,
        }

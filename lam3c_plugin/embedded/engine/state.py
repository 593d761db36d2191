"""What a training checkpoint holds, and how a run goes on from one, to the bit."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from logging import Logger
from pathlib import Path
from typing import Any

from torch import Tensor

from lam3c_plugin.checkpoints.keys import (
    copy_atomic,
    load_weights,
    read_checkpoint,
    save_atomic,
    state_dict_of,
    strip_module,
)
from lam3c_plugin.checkpoints.run_config import inputs_of
from lam3c_plugin.embedded import comm
from lam3c_plugin.embedded.engine.defaults import checkpoint_path
from lam3c_plugin.embedded.hooks.default import unwrap
from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.ops.rng import get_rng_state, set_rng_state

# Everything beside the host's own keys lies under this one, so that the host can read our checkpoints.
EXTRAS = "lam3c"


def capture(trainer: Any) -> dict[str, Any]:
    """The run's state after the current micro-batch; every rank has to call it.

    The host's keys (``epoch``: finished epochs) and, beside them, the place in the epoch, the random states of all
    ranks, and the gradients of an accumulation that an epoch's end has left unfinished.
    """
    done = trainer.batches_done
    finished = done >= len(trainer.train_loader)
    model = unwrap(trainer.model)
    pending = trainer.accumulated
    return {
        "epoch": trainer.epoch + 1 if finished else trainer.epoch,
        "state_dict": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": trainer.scheduler.state_dict(),
        "scaler": _scaler_state(trainer),
        "best_metric_value": float(trainer.best_metric_value),
        "inputs": inputs_of(trainer.cfg),
        EXTRAS: {
            "version": 1,
            "iter_in_epoch": 0 if finished else done,
            "step": trainer.step,
            "seed": int(trainer.cfg.seed),
            "total_steps": int(trainer.cfg.scheduler.total_steps),
            "iter_per_epoch": len(trainer.train_loader),
            "accumulated": pending,
            "gradients": {n: p.grad for n, p in model.named_parameters() if p.grad is not None} if pending else {},
            "rng": comm.all_gather(get_rng_state()),
        },
    }


def _scaler_state(trainer: Any) -> dict[str, Any] | None:
    """The scaler's state; for bfloat16, which needs none, what the host's scaler would start from."""
    if trainer.scaler is None:
        return None
    return trainer.scaler.state_dict() or {
        "scale": 65536.0,
        "growth_factor": 2.0,
        "backoff_factor": 0.5,
        "growth_interval": 2000,
        "_growth_tracker": 0,
    }


class Saving:
    """Writes checkpoints in a thread while the run goes on, one at a time and each whole or not at all."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None

    def start(self, content: dict[str, Any], path: Path, copies: tuple[str, ...]) -> None:
        """Copy ``content`` to the host, then write it in the thread and give it further names; see `save`."""
        self.finish()

        def write(content: dict[str, Any] = _on_host(content)) -> None:  # noqa: B008 - copied now, not in the thread
            save_atomic(content, path)
            for name in copies:
                copy_atomic(path, path.with_name(name))

        self._pending = self._thread.submit(write)

    def finish(self) -> None:
        """Wait for what is being written.

        Raises:
            CheckpointError: it could not be; the file before it is intact.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def give_up(self, logger: Logger) -> None:
        """Wait as well, at the end of a run that failed: an error here must not hide the one that ended it."""
        try:
            self.finish()
        except CheckpointError as error:
            logger.error(str(error))


def _on_host(value: Any) -> Any:
    """A copy of nested dictionaries and lists, every tensor in host memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        result = copy.copy(value)  # a module's state keeps its _metadata
        result.update({key: _on_host(item) for key, item in value.items()})
        return result
    return type(value)(map(_on_host, value)) if isinstance(value, (list, tuple)) else value


def save(trainer: Any, copies: tuple[str, ...] = ()) -> str:
    """Begin to write ``model/model_last.pth`` (all ranks call it, rank 0 writes), with further names in its folder.

    ``trainer.saving.finish()`` waits for it.

    Raises:
        CheckpointError: the one before could not be written; the last that could is intact.
    """
    content = capture(trainer)
    path = checkpoint_path(trainer.cfg.save_path)
    if comm.is_main_process():
        trainer.logger.info(f"Saving checkpoint to {path}")
        trainer.saving.start(content, path, copies)
    return str(path)


def resume(trainer: Any, path: str) -> None:
    """Load a training checkpoint into a trainer: weights, optimiser, schedule, place and random states.

    One that the host wrote resumes at the epoch it names.

    Raises:
        CheckpointError: unreadable, of another architecture, without the optimiser's state, or planned for another
            number of steps (``stretch_schedule=True`` goes on all the same).
    """
    checkpoint = read_checkpoint(path, mmap=True)  # the ranks of a machine share its pages
    load_weights(unwrap(trainer.model), state_dict_of(checkpoint, path), strict=True, source=path)
    lacking = [key for key in ("epoch", "optimizer", "scheduler") if key not in checkpoint]
    if lacking:
        raise CheckpointError(
            f"{path} holds weights but no {' and no '.join(lacking)}: start from it with weight=... and without resume"
        )
    extras = checkpoint.get(EXTRAS) or {}
    planned, total = extras.get("total_steps"), int(trainer.cfg.scheduler.total_steps)
    stretch = planned not in (None, total)
    if stretch and not trainer.cfg.stretch_schedule:
        raise CheckpointError(
            f"{path}: its schedules were planned for {planned} steps and would have {total} now: give epoch, max_steps,"
            " batch size and data as before, or stretch_schedule=True to go on along schedules of the new length"
        )
    try:
        trainer.optimizer.load_state_dict(checkpoint["optimizer"])
        if stretch:
            _replay(trainer.scheduler, int(checkpoint["scheduler"]["last_epoch"]))
        else:
            trainer.scheduler.load_state_dict(checkpoint["scheduler"])
        if trainer.scaler is not None and trainer.scaler.is_enabled() and checkpoint.get("scaler"):
            trainer.scaler.load_state_dict(checkpoint["scaler"])
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{path} was written with another optimizer or scheduler: {error}") from error
    trainer.start_epoch = int(checkpoint["epoch"])
    trainer.best_metric_value = checkpoint.get("best_metric_value", trainer.best_metric_value)
    _resume_place(trainer, extras, path)
    trainer.logger.info(
        f"Resuming at epoch {trainer.start_epoch + 1}, batch {trainer.start_iter + 1}, after {trainer.step} steps"
    )


def _replay(scheduler: Any, steps: int) -> None:
    """Take a fresh schedule, which spans the new total, ``steps`` steps on: some follow from the step before."""
    for group, rate in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, strict=True):
        group["lr"] = rate
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "scheduler.step() before optimizer.step()": these steps were taken earlier
        for _ in range(steps):
            scheduler.step()


def _resume_place(trainer: Any, extras: Mapping[str, Any], path: str) -> None:
    """The place in the epoch, pending gradients and random states, where the checkpoint has them and they fit."""
    if not extras:
        trainer.logger.info(f"{path} has no place in the epoch and no random states: going on at its epoch")
        return
    batches, before = len(trainer.train_loader), int(extras["iter_per_epoch"])
    if before != batches:
        trainer.logger.warning(f"an epoch had {before} batches and has {batches} now: the run goes on, but not exactly")
    done = trainer.start_epoch * before + int(extras["iter_in_epoch"])
    trainer.start_epoch, trainer.start_iter = divmod(done, batches)
    if extras["seed"] != trainer.cfg.seed:
        trainer.logger.warning(f"the run was started with seed {extras['seed']} and goes on with {trainer.cfg.seed}")
    trainer.accumulated = int(extras["accumulated"])
    gradients = strip_module(extras["gradients"])
    for name, parameter in unwrap(trainer.model).named_parameters():
        if name in gradients:
            parameter.grad = gradients[name].to(parameter.device, copy=True)
    states = extras["rng"]
    if len(states) == comm.get_world_size():
        trainer.restore_rng = lambda: set_rng_state(states[comm.get_rank()])
    else:
        trainer.logger.warning(
            f"{len(states)} ranks wrote {path}, {comm.get_world_size()} go on: not exactly the same run"
        )


def warn_if_idle(trainer: Any) -> None:
    """Say so when the checkpoint to resume had already finished its run."""
    if trainer.start_epoch >= trainer.max_epoch or trainer.step >= int(trainer.cfg.scheduler.total_steps):
        trainer.logger.warning(
            f"nothing to do: the run of {trainer.max_epoch} epochs was finished; raise epoch (or max_steps) to go on"
        )

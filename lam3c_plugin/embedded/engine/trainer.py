"""The training loop: hook points and attributes as the host's trainer has them, on CPU or GPU, one rank or many."""

from __future__ import annotations

import inspect
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from lam3c_plugin.embedded import comm
from lam3c_plugin.embedded.config import Config
from lam3c_plugin.embedded.engine import state
from lam3c_plugin.embedded.engine.data import batches, build_loader, shut_down
from lam3c_plugin.embedded.engine.defaults import choose_device, setup_rank
from lam3c_plugin.embedded.engine.signals import STOP_POLL, StopSignals, name_of
from lam3c_plugin.embedded.events import EventStorage, EventWriter
from lam3c_plugin.embedded.hooks.default import HookBase
from lam3c_plugin.embedded.logger import get_root_logger
from lam3c_plugin.embedded.optimizer import build_optimizer
from lam3c_plugin.embedded.registry import TRAINERS, build_dataset, build_hooks, build_model
from lam3c_plugin.embedded.scheduler import build_scheduler
from lam3c_plugin.errors import ConfigError, Interrupted
from lam3c_plugin.ops.device import AMP_DTYPES, remember

# no broadcast of buffers before every forward pass; the name changed with torch 2.15
_BUFFER_SYNC = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)
RESUME_VARIABLE = "LAM3C_RESUME_COMMAND"


@TRAINERS.register_module("DefaultTrainer")
class Trainer:
    """Trains ``cfg.model`` on ``cfg.data.train``; see ``engine/defaults.py`` for the settings.

    Attributes hooks and models may use: ``cfg, model, train_loader, val_loader, optimizer, scheduler, scaler, writer``
    (None off rank 0), ``storage, logger, epoch, start_epoch, max_epoch, comm_info, best_metric_value, device, step``.
    """

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.hooks: list[HookBase] = []
        self.epoch = self.start_epoch = self.start_iter = 0
        self.accumulated = 0  # micro-batches since the last optimiser step
        self.batches_done = 0  # micro-batches of this epoch
        self.best_metric_value = -float("inf")
        self.comm_info: dict[str, Any] = {}
        self.storage = EventStorage()
        self.data_iterator: Iterator[Any] = iter(())
        self.restore_rng: Callable[[], None] | None = None
        self.save_requested = False
        self.saving = state.Saving()
        self.stop = StopSignals(announce=comm.is_main_process())
        self.device = choose_device(cfg)
        self.amp_dtype = self._amp_dtype()
        self.logger = get_root_logger(os.path.join(cfg.save_path, "train.log"), file_mode="a" if cfg.resume else "w")
        self.logger.info(f"Run folder: {cfg.save_path}; device: {self.device}; ranks: {comm.get_world_size()}")
        self.logger.info(f"Config:\n{cfg.pretty_text}")
        if cfg.enable_wandb:
            self.logger.warning("enable_wandb: the embedded engine logs to TensorBoard only")
        self.model = self.build_model()
        self.writer = self.build_writer()
        self.train_loader = self.build_train_loader()
        self.val_loader = self.build_val_loader()
        self.comm_info["iter_per_epoch"] = len(self.train_loader)
        self.optimizer = self.build_optimizer()
        self.max_epoch = self._max_epoch()
        self.scheduler = self.build_scheduler()
        self.scaler = self.build_scaler()
        self.register_hooks(cfg.hooks)

    # ------------------------------------------------------------------------------------------------ building
    def _amp_dtype(self) -> torch.dtype:
        if self.cfg.amp_dtype not in AMP_DTYPES:
            raise ConfigError(f"amp_dtype={self.cfg.amp_dtype!r} must be one of {', '.join(AMP_DTYPES)}")
        return AMP_DTYPES[self.cfg.amp_dtype]

    def build_model(self) -> nn.Module:
        """The model on its device, wrapped in DDP on several ranks."""
        model = build_model(self.cfg.model)
        if self.cfg.sync_bn and comm.get_world_size() > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.logger.info(f"{type(model).__name__}: {parameters:,} parameters to train")
        model = model.to(self.device)
        if comm.get_world_size() == 1:
            return model
        return DistributedDataParallel(
            model,
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            **{_BUFFER_SYNC: False},
            find_unused_parameters=self.cfg.find_unused_parameters,
        )

    def build_writer(self) -> Any:
        """TensorBoard's writer on rank 0, else None."""
        return EventWriter(self.cfg.save_path) if comm.is_main_process() else None

    def build_train_loader(self) -> DataLoader:
        """See `lam3c_plugin.embedded.engine.data.build_loader`."""
        from lam3c_plugin.embedded.datasets import point_collate_fn

        return build_loader(
            build_dataset(self.cfg.data.train),
            batch_size=self.cfg.batch_size,
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
            seed=int(self.cfg.seed),
            num_workers=self.cfg.num_worker_per_gpu,
            collate_fn=partial(point_collate_fn, mix_prob=self.cfg.mix_prob),
            pin_memory=self.device.type == "cuda",
        )

    def build_val_loader(self) -> DataLoader | None:
        """Validation scenes in their order, shared out over the ranks; None unless ``evaluate``."""
        if not self.cfg.evaluate:
            return None
        from lam3c_plugin.embedded.datasets import collate_fn

        dataset = build_dataset(self.cfg.data.val)
        return DataLoader(
            dataset,
            batch_size=self.cfg.batch_size_val_per_gpu,
            num_workers=self.cfg.num_worker_per_gpu,
            sampler=DistributedSampler(dataset, shuffle=False) if comm.get_world_size() > 1 else None,
            collate_fn=collate_fn,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),
        )

    def build_optimizer(self) -> torch.optim.Optimizer:
        """See `lam3c_plugin.embedded.optimizer.build_optimizer`."""
        return build_optimizer(self.cfg.optimizer, self.model, self.cfg.param_dicts)

    def _max_epoch(self) -> int:
        if self.cfg.max_steps is None:
            return int(self.cfg.eval_epoch)
        if self.cfg.max_steps < 1:
            raise ConfigError(f"max_steps={self.cfg.max_steps} must be at least 1 (or None: epoch decides)")
        return -(-self.cfg.max_steps * self.cfg.gradient_accumulation_steps // len(self.train_loader))

    def build_scheduler(self) -> Any:
        """The learning-rate schedule over all optimiser steps; sets ``cfg.scheduler.total_steps``."""
        micro_batches = len(self.train_loader) * self.max_epoch
        total = self.cfg.max_steps or micro_batches // self.cfg.gradient_accumulation_steps
        self.cfg.scheduler.total_steps = total
        return build_scheduler(self.cfg.scheduler, self.optimizer)

    def build_scaler(self) -> torch.amp.GradScaler | None:
        """Loss scaling under AMP; active for float16 only, since bfloat16 has float32's range."""
        if not self.cfg.enable_amp:
            return None
        return torch.amp.GradScaler(self.device.type, enabled=self.amp_dtype == torch.float16)

    def register_hooks(self, hooks: Sequence[Mapping[str, Any]]) -> None:
        """Build hooks and give each a weak reference to this trainer."""
        if self.cfg.weight and not any(str(item.get("type")).endswith("Loader") for item in hooks):
            raise ConfigError(
                f"weight={self.cfg.weight!r} is set, but hooks has no WeightLoader, EncoderLoader or CheckpointLoader"
            )
        for hook in build_hooks(hooks):
            hook.trainer = weakref.proxy(self)
            self.hooks.append(hook)

    # ------------------------------------------------------------------------------------------------- running
    @property
    def step(self) -> int:
        """Optimiser steps done since the run began."""
        return int(self.scheduler.last_epoch)

    def train(self) -> None:
        """Run from where the run stands to its end.

        Raises:
            Interrupted: stopped by a signal or ``stop_after_steps``; the state was saved.
        """
        try:
            with self.storage, self.stop:
                self.before_train()
                state.warn_if_idle(self)
                self.logger.info(f"Training: {self.max_epoch} epochs of {len(self.train_loader)} batches")
                for epoch in range(self.start_epoch, self.max_epoch):
                    if self._finished():
                        break
                    self.epoch = epoch
                    self._run_epoch()
                    self._stop_if_asked()
                self.after_train()
        except BaseException:
            self.saving.give_up(self.logger)
            raise
        finally:
            shut_down(self.train_loader)
            if self.writer is not None:
                self.writer.close()

    def _run_epoch(self) -> None:
        start, self.start_iter = self.start_iter, 0
        self.batches_done = start
        self.train_loader.batch_sampler.set_epoch(self.epoch, start)
        self.model.train()
        self.data_iterator = enumerate(batches(self.train_loader), start=start)
        if start == 0:  # saved at an epoch's end, before the next epoch's hooks drew numbers
            self._restore_rng()
        self.before_epoch()
        self._restore_rng()
        for number, batch in self.data_iterator:
            self.comm_info["iter"], self.comm_info["input_dict"] = number, batch
            self.before_step()
            self.run_step()
            if self.writer is not None:
                self.writer.open()
            self.batches_done += 1
            self.after_step()
            if self._finished():
                break
            if self.accumulated == 0 and self.batches_done < len(self.train_loader):
                self._stop_if_asked(poll=self.step % STOP_POLL == 0)
                if self.save_requested:
                    self.save()
        self.after_epoch()

    def _restore_rng(self) -> None:
        if self.restore_rng is not None:
            self.restore_rng()
            self.restore_rng = None

    def _finished(self) -> bool:
        """True once ``max_steps`` are done; without it the epochs decide."""
        return bool(self.cfg.max_steps) and self.accumulated == 0 and self.step >= self.cfg.max_steps

    def run_step(self) -> None:
        """Forward and backward of a micro-batch; every ``gradient_accumulation_steps`` of them an optimiser step."""
        batch = self.comm_info["input_dict"]
        for key, value in batch.items():
            if isinstance(value, torch.Tensor):
                batch[key] = value.to(self.device, non_blocking=True)
                if key.endswith("offset") and value.device.type == "cpu":
                    remember(batch[key], value.tolist())  # so that nobody has to wait for the GPU to tell
        if self.accumulated == 0:
            self.optimizer.zero_grad()
        last = self.accumulated + 1 >= self.cfg.gradient_accumulation_steps
        alone = isinstance(self.model, DistributedDataParallel) and not last
        with self.model.no_sync() if alone else nullcontext():  # ranks add up their gradients once a step
            with torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=bool(self.cfg.enable_amp)):
                output = self.model(batch)
                loss = output["loss"] / self.cfg.gradient_accumulation_steps
            (self.scaler.scale(loss) if self.scaler is not None else loss).backward()
        self.accumulated += 1
        if last:
            self._optimizer_step()
            self.accumulated = 0
        if self.cfg.empty_cache and self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.comm_info["model_output_dict"] = {
            key: value.detach() if isinstance(value, torch.Tensor) else value for key, value in output.items()
        }

    def _optimizer_step(self) -> None:
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        if self.cfg.clip_grad is not None:
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.clip_grad)
            self.comm_info["grad_norm"] = norm
        if self.scaler is None:
            self.optimizer.step()
            self.scheduler.step()
            return
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if scale <= self.scaler.get_scale():  # a step left out for overflow does not count
            self.scheduler.step()

    def _stop_if_asked(self, poll: bool = True) -> None:
        """Save and leave if a signal came to any rank, or at ``stop_after_steps``.

        Args:
            poll: several ranks ask each other now, which makes the host wait for a GPU.
        """
        signal_number = self.stop.received
        if comm.get_world_size() > 1 and not poll:
            signal_number = 0
        elif comm.get_world_size() > 1:
            flag = torch.tensor(signal_number, device=self.device)
            dist.all_reduce(flag, dist.ReduceOp.MAX)
            signal_number = int(flag.item())
        limit = self.cfg.get("stop_after_steps")
        paused = limit is not None and self.step == limit < int(self.cfg.scheduler.total_steps)
        if not (signal_number or paused):
            return
        path = self.save()
        self.saving.finish()
        reason = name_of(signal_number) if signal_number else f"stop_after_steps={limit}"
        command = os.environ.get(RESUME_VARIABLE) or (
            f"python -m lam3c_plugin.embedded.train --resume {self.cfg.save_path}"
            + (f" --num-gpus {comm.get_local_size()}" if comm.get_world_size() > 1 else "")
        )
        self.logger.info(f"Stopped by {reason} after {self.step} steps; saved {path}")
        raise Interrupted(
            f"{reason} after {self.step} steps; saved {path}; resume with: {command}",
            128 + signal_number if signal_number else 0,
        )

    def save(self) -> str:
        """Begin to write the checkpoint; all ranks have to call it."""
        self.save_requested = False
        return state.save(self)

    # --------------------------------------------------------------------------------------------- hook points
    def before_train(self) -> None:
        for hook in self.hooks:
            hook.before_train()

    def before_epoch(self) -> None:
        for hook in self.hooks:
            hook.before_epoch()

    def before_step(self) -> None:
        for hook in self.hooks:
            hook.before_step()

    def after_step(self) -> None:
        for hook in self.hooks:
            hook.after_step()

    def after_epoch(self) -> None:
        for hook in self.hooks:
            hook.after_epoch()
        self.storage.reset_histories()
        if self.cfg.empty_cache_per_epoch and self.device.type == "cuda":
            torch.cuda.empty_cache()

    def after_train(self) -> None:
        self.saving.finish()  # hooks may read it
        comm.synchronize()
        for hook in self.hooks:
            hook.after_train()


def run_rank(cfg: Config) -> None:
    """Train on this rank: what the launcher runs on every one."""
    trainer = TRAINERS.require(cfg.train.type)(cfg=setup_rank(cfg))
    trainer.train()

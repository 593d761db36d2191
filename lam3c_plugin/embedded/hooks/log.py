"""Hooks that tell how the run is doing: times, losses, learning rate; in the log and in TensorBoard."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, NamedTuple

import torch

from lam3c_plugin.embedded.hooks.default import HookBase
from lam3c_plugin.embedded.registry import HOOKS


@HOOKS.register_module()
class IterationTimer(HookBase):
    """Seconds for data and for the whole micro-batch, and the time that remains.

    Args:
        warmup_iter: the first so many micro-batches do not count.
    """

    def __init__(self, warmup_iter: int = 1) -> None:
        self.warmup_iter = warmup_iter
        self._since = time.perf_counter()
        self._seen = 0

    def before_epoch(self) -> None:
        self._since = time.perf_counter()

    def before_step(self) -> None:
        self.trainer.storage.put_scalar("data_time", time.perf_counter() - self._since)

    def after_step(self) -> None:
        trainer, now = self.trainer, time.perf_counter()
        trainer.storage.put_scalar("batch_time", now - self._since)
        self._since = now
        data, batch = trainer.storage.history("data_time"), trainer.storage.history("batch_time")
        accumulation = trainer.cfg.gradient_accumulation_steps
        total = int(trainer.cfg.scheduler.total_steps) * accumulation
        remaining = max(0, total - trainer.step * accumulation - trainer.accumulated) * batch.avg
        if "iter_info" in trainer.comm_info:  # InformationWriter prints and empties it
            trainer.comm_info["iter_info"] += (
                f"Data {data.val:.3f} ({data.avg:.3f}) Batch {batch.val:.3f} ({batch.avg:.3f}) "
                f"Remain {timedelta(seconds=int(remaining))} "
            )
        self._seen += 1
        if self._seen <= self.warmup_iter:
            data.reset()
            batch.reset()


@HOOKS.register_module()
class InformationWriter(HookBase):
    """Writes what the model returned (every number in its dictionary) and the learning rate, once per optimiser step.

    A value is the mean over the micro-batches since the last one written.

    Args:
        interval: log and write every N optimiser steps. In between the values stay on the device: only the
            micro-batch that logs waits for a GPU.
    """

    def __init__(self, interval: int = 1) -> None:
        self.interval = interval
        self.model_output_keys: list[str] = []
        self._unread: list[_Output] = []

    def before_train(self) -> None:
        self.trainer.comm_info["iter_info"] = ""

    def before_step(self) -> None:
        trainer = self.trainer
        trainer.comm_info["iter_info"] += (
            f"Train: [{trainer.epoch + 1}/{trainer.max_epoch}]"
            f"[{trainer.comm_info['iter'] + 1}/{len(trainer.train_loader)}] "
        )

    def after_step(self) -> None:
        trainer = self.trainer
        self._unread.append(_Output.of(trainer.comm_info.get("model_output_dict", {})))
        info, trainer.comm_info["iter_info"] = trainer.comm_info["iter_info"], ""
        if trainer.accumulated or trainer.step % self.interval:
            return
        values = self._read()
        lr = trainer.optimizer.param_groups[0]["lr"]
        info += "".join(f"{key}: {value:.4f} " for key, value in values.items())
        trainer.logger.info(f"{info}Lr: {lr:.3g}")
        if trainer.writer is None:
            return
        trainer.writer.add_scalar("params/lr", lr, trainer.step)
        if "grad_norm" in trainer.comm_info:
            trainer.writer.add_scalar("params/grad_norm", trainer.comm_info["grad_norm"], trainer.step)
        for key, value in values.items():
            trainer.writer.add_scalar(f"train_batch/{key}", value, trainer.step)

    def _read(self) -> dict[str, float]:
        """Take all unread outputs into the averages, fetched in one transfer; returns their means."""
        unread, self._unread = self._unread, []
        seen: dict[str, list[float]] = {}
        on_device = [output.on_device for output in unread if output.names]
        fetched = torch.cat(on_device).tolist() if on_device else []
        for output in unread:
            numbers, fetched = fetched[: len(output.names)], fetched[len(output.names) :]
            values = {**output.on_host, **dict(zip(output.names, numbers, strict=True))}
            for key in output.order:
                self.trainer.storage.put_scalar(key, values[key])
                seen.setdefault(key, []).append(values[key])
            self.model_output_keys = output.order
        return {key: sum(values) / len(values) for key, values in seen.items()}

    def after_epoch(self) -> None:
        trainer = self.trainer
        self._read()
        averages = {key: trainer.storage.history(key).avg for key in self.model_output_keys}
        trainer.logger.info("Train result: " + " ".join(f"{key}: {value:.4f}" for key, value in averages.items()))
        if trainer.writer is not None:
            for key, value in averages.items():
                trainer.writer.add_scalar(f"train/{key}", value, trainer.epoch + 1)
            trainer.writer.flush()


class _Output(NamedTuple):
    """The numbers among a model's outputs, those on the device not fetched yet."""

    order: list[str]
    names: list[str]  # of `on_device`
    on_device: torch.Tensor  # (len(names),) float64
    on_host: dict[str, float]

    @classmethod
    def of(cls, output: dict[str, Any]) -> _Output:
        """Of what a model returned; the device is not waited for."""
        tensors = {
            k: v.detach().reshape(()) for k, v in output.items() if isinstance(v, torch.Tensor) and v.numel() == 1
        }
        on_device = torch.stack([v.double() for v in tensors.values()]) if tensors else torch.zeros(0)
        on_host = {key: float(v) for key, v in output.items() if isinstance(v, (int, float))}
        return cls([key for key in output if key in tensors or key in on_host], list(tensors), on_device, on_host)

"""A small probe of the backbone in the middle of pre-training, with labels or without, within a share of the time."""

from __future__ import annotations

from typing import Any

import torch

from lam3c_plugin.errors import DataError, Lam3cError
from lam3c_plugin.hooks.common import bare_model, steps_done
from lam3c_plugin.hooks.frozen_features import backbone_of, frozen_features
from lam3c_plugin.hooks.online_probe.scenes import LabelledScenes, UnlabelledScenes
from lam3c_plugin.hooks.online_probe.settings import ProbeSettings, TimeBudget
from lam3c_plugin.hooks.scenes import configured_grid_size
from lam3c_plugin.host import HOOKS, HookBase, comm
from lam3c_plugin.ops.rng import seeded

PREFIX = "probe"
MARGIN = 1.25  # times the last probe's seconds, to stay below the share though the next one may take longer


@HOOKS.register_module()
class OnlineProbe(HookBase):
    """Probes the teacher's (or student's) frozen backbone on a few fixed scenes while it is being trained.

    With labels (``data_root``): a linear layer and the nearest neighbours on the features of all stages, learnt on some
    points of ``train``, scored on ``val``: ``probe/linear_miou``, ``/linear_accuracy``, ``/knn_miou``,
    ``/knn_accuracy``, 0 to 1. Without: ``probe/effective_rank`` (RankMe), ``/view_agreement`` and ``/knn_consistency``
    between a scene and the same scene turned, scaled and relit (see ``measures.py``). What
    `lam3c_plugin.hooks.collapse_monitor.hook.CollapseMonitor` measures is the student on its changing, masked
    batches; this is one part of the model on the same points each time. Values go to TensorBoard, ``trainer.storage``,
    the log and `history`, with ``probe/seconds`` and ``probe/share``, what probes took of the run so far.

    It stays below ``max_share`` of the time: reading the scenes counts, the first probe's seconds are judged by one
    scene's, and one that does not fit in yet comes later, which the log says. The run gives the same numbers with it as
    without: eval mode for the backbone only and put back, no gradients, generators of its own. Rank 0 alone works, in
    no collective call; other ranks meet it again at the next gradients. What fails in training is a warning.

    The scenes are read before the first step and kept, at most ``max_points`` times 48 bytes each (without labels 104,
    for two views).

    Args:
        settings: those of `lam3c_plugin.hooks.online_probe.settings.ProbeSettings`; the config's ``probe`` goes
            before them, so that ``probe.data_root=DIR`` can be set from the command line.

    Raises:
        ConfigError: a setting is unknown or makes no sense.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = ProbeSettings().changed(settings)
        self.budget = TimeBudget(self.settings.max_share)
        self.history: list[dict[str, float]] = []
        self.scenes: LabelledScenes | UnlabelledScenes | None = None
        self._seen_step = self._probed_step = -1
        self._due: int | None = None  # the step at which a probe was due that has not been made yet
        self._told = False
        self._steps = 0  # of this process, not of the run it goes on with

    # ---- hook points ---------------------------------------------------------------------------------------------

    def before_train(self) -> None:
        """Read the scenes.

        Raises:
            ConfigError: the config's ``probe`` is wrong, or the model has no backbone.
            DataError: ``data_root`` cannot be used.
        """
        trainer = self.trainer
        self.settings = self.settings.changed(getattr(trainer.cfg, PREFIX, None) or {})
        self.budget = TimeBudget(self.settings.max_share)
        self._seen_step = steps_done(trainer)
        if not self.settings.is_on or not comm.is_main_process():
            return
        try:
            with self.budget.spending() as seconds, seeded(self.settings.seed, gpu=True):
                backbone_of(bare_model(trainer), self.settings.part)
                self.scenes = self._read()
        except Exception as error:
            if isinstance(error, Lam3cError) and self.settings.data_root is not None:
                raise
            if self.settings.data_root is not None:
                raise DataError(f"OnlineProbe: data_root={self.settings.data_root}: {_one_line(error)}") from error
            # nobody asked for these: a run is not refused because of them
            trainer.logger.warning(f"OnlineProbe is off: {_one_line(error)}")
            return
        trainer.logger.info(f"OnlineProbe: {self.scenes}, read in {seconds[0]:.1f} s; {self.settings.part}")

    def after_step(self) -> None:
        if self.scenes is None:
            return
        step = steps_done(self.trainer)
        if step != self._seen_step:  # and not a further micro-batch
            self._seen_step = step
            self._steps += 1
            if self.settings.interval and step % self.settings.interval == 0:
                self._due = self._due or step
        self._probe_if_due()

    def after_epoch(self) -> None:
        if self.scenes is None:
            return
        every, step = self.settings.every_epochs, steps_done(self.trainer)
        if every and (int(self.trainer.epoch) + 1) % every == 0 and step != self._probed_step:
            self._due = self._due or step
        self._probe_if_due()

    def after_train(self) -> None:
        if self.scenes is None:
            return
        budget, count = self.budget, len(self.history)
        if not count:
            say = "the run was too short for a probe within its share of the time; one of some minutes has them"
        else:
            late = "; the last one due found no time" if self._due is not None else ""
            say = (
                f"{count} probe{'s' * (count != 1)} in {budget.spent:.1f} s, {budget.share:.2%} of the run's "
                f"{budget.elapsed:.0f} s{late}"
            )
        self.trainer.logger.info(f"OnlineProbe: {say}")

    # ---- probing -------------------------------------------------------------------------------------------------

    def _read(self) -> LabelledScenes | UnlabelledScenes:
        settings, cfg = self.settings, self.trainer.cfg
        grid_size = settings.grid_size or configured_grid_size(cfg)
        if settings.data_root is not None:
            return LabelledScenes(settings, grid_size)
        train = cfg.data.train
        while "datasets" in train:
            train = train["datasets"][0]
        root = train.get("data_root")
        root = root[0] if isinstance(root, (list, tuple)) and root else root
        return UnlabelledScenes(settings, grid_size, root, self.trainer.train_loader.dataset)

    def _probe_if_due(self) -> None:
        if self._due is None:
            return
        if self.budget.cost is None:
            if self._steps * self.settings.max_share < 1:
                return  # a scene takes less than a training step: now it would still be too large a part
            self._estimate()
        wait = self.budget.wait()
        if wait > 0:
            if not self._told:
                self._tell_delay(wait)
            return
        self._due, self._told = None, False
        self._probed_step = steps_done(self.trainer)
        self.probe()

    def probe(self) -> dict[str, float] | None:
        """Probe now, whatever the budget; the values by name, or ``None`` after a failure (which the log has)."""
        step, values = steps_done(self.trainer), None
        self._synchronize()
        with self.budget.spending() as seconds:
            try:
                with seeded(self.settings.seed, gpu=True):
                    values = self.scenes.measure(self._features, self._device())
            except Exception as error:  # whatever it was, a probe is not worth a training run
                self.trainer.logger.warning(f"no probe at step {step}: {_one_line(error)}")
        self.budget.cost = MARGIN * seconds[0]
        if values is not None:
            self._publish(step, {**values, "seconds": seconds[0], "share": self.budget.share})
        return values

    def _estimate(self) -> None:
        """What a probe may take, by one scene's time."""
        self._synchronize()
        with self.budget.spending() as seconds:
            try:
                with seeded(self.settings.seed, gpu=True):
                    self._features(self.scenes.first()).sum().item()
            except Exception as error:
                self.trainer.logger.warning(f"OnlineProbe: one scene's time is not known: {_one_line(error)}")
        self.budget.cost = MARGIN * seconds[0] * self.scenes.passes

    def _features(self, scene: Any) -> torch.Tensor:
        return frozen_features(self.trainer, scene, self.settings.part)

    def _device(self) -> torch.device:
        return next(bare_model(self.trainer).parameters()).device

    def _synchronize(self) -> None:
        """Wait for the step's own work on the GPU, which is not the probe's time."""
        if self._device().type == "cuda":
            torch.cuda.synchronize(self._device())

    # ---- telling -------------------------------------------------------------------------------------------------

    def _tell_delay(self, wait: float) -> None:
        self._told = True
        budget = self.budget
        self.trainer.logger.info(
            f"OnlineProbe: the probe due at step {self._due} waits about {wait:.0f} s: it may take "
            f"{budget.cost:.1f} s, and {budget.spent:.1f} of the run's {budget.elapsed:.0f} s went to probes "
            f"(max_share={budget.max_share:g})"
        )

    def _publish(self, step: int, values: dict[str, float]) -> None:
        trainer = self.trainer
        self.history.append({"step": step, **values})
        for name, value in values.items():
            trainer.storage.put_scalar(f"{PREFIX}/{name}", value)
            if trainer.writer is not None:
                trainer.writer.add_scalar(f"{PREFIX}/{name}", value, step)
        shown = " ".join(f"{name}: {value:.4g}" for name, value in values.items() if name not in ("seconds", "share"))
        trainer.logger.info(
            f"Probe: [step {step}] {shown} ({values['seconds']:.1f} s; {values['share']:.1%} of the run so far)"
        )


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, Lam3cError) else f"{type(error).__name__}: {text}"

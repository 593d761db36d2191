"""What several hooks need: the bare model and the optimiser step."""

from __future__ import annotations

from typing import Any


def bare_model(trainer: Any) -> Any:
    """The trainer's model without its DistributedDataParallel wrapper."""
    return getattr(trainer.model, "module", trainer.model)


def steps_done(trainer: Any) -> int:
    """Optimiser steps done since the run began; gradient accumulation does not advance it, a resume continues it."""
    return int(trainer.scheduler.last_epoch)


def total_steps(trainer: Any) -> int:
    """Optimiser steps of the whole run."""
    return int(trainer.cfg.scheduler.total_steps)

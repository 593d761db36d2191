"""The trainer and what it is made of; importing it registers ``DefaultTrainer`` and the engine's hooks."""

from .. import hooks
from .defaults import DEFAULTS, load_config
from .launch import launch
from .trainer import Trainer, run_rank

__all__ = ["DEFAULTS", "Trainer", "hooks", "launch", "load_config", "run_rank"]

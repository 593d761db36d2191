"""The trainer and what it is made of; importing it registers ``DefaultTrainer`` and the engine's hooks."""

from lam3c_plugin.embedded import hooks
from lam3c_plugin.embedded.engine.defaults import DEFAULTS, load_config
from lam3c_plugin.embedded.engine.launch import launch
from lam3c_plugin.embedded.engine.trainer import Trainer, run_rank

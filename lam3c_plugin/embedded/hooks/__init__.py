"""Hooks of the embedded engine, under the host's names; importing this package registers them."""

from lam3c_plugin.embedded.hooks.checkpoint import CheckpointLoader, CheckpointSaver
from lam3c_plugin.embedded.hooks.default import HookBase, ModelHook
from lam3c_plugin.embedded.hooks.log import InformationWriter, IterationTimer
from lam3c_plugin.embedded.hooks.schedule import WeightDecaySchedular

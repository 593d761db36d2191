"""Hooks of a LAM3C run, registered in ``HOOKS``: the same objects on both engines."""

from lam3c_plugin.hooks.collapse_monitor.hook import CollapseMonitor
from lam3c_plugin.hooks.feature_pictures import FeaturePictures
from lam3c_plugin.hooks.non_finite_guard import NonFiniteError, NonFiniteGuard
from lam3c_plugin.hooks.online_probe.hook import OnlineProbe
from lam3c_plugin.hooks.weight_decay import WeightDecayCosine
from lam3c_plugin.hooks.weight_loader import EncoderLoader, WeightLoader

"""The one door to the host engine.

Everything in this package that needs an engine (registries, ``Point``, hooks, configs, communication) takes it from
here, under the names Pointcept uses. Which engine answers is decided once, at import:

* ``LAM3C_ENGINE=pointcept``: Pointcept, or an error that says why it cannot be imported;
* ``LAM3C_ENGINE=embedded``: `lam3c_plugin.embedded`, pure PyTorch;
* ``LAM3C_ENGINE=auto`` (default): Pointcept when a package of that name can be found, else the embedded engine.
  A Pointcept that is found but broken is an error, not a silent change of engine.
"""

from __future__ import annotations

import copyreg
import importlib
import importlib.util
import os
from typing import Any

from lam3c_plugin.errors import Lam3cError

ENGINE_CHOICES = ("auto", "pointcept", "embedded")


class HostError(Lam3cError):
    """The engine asked for cannot be used."""


def _choose_engine() -> str:
    wanted = os.environ.get("LAM3C_ENGINE", "auto").strip().lower() or "auto"
    if wanted not in ENGINE_CHOICES:
        raise HostError(f"LAM3C_ENGINE={wanted!r} is not one of {', '.join(ENGINE_CHOICES)}")
    if wanted != "auto":
        return wanted
    return "pointcept" if importlib.util.find_spec("pointcept") is not None else "embedded"


# name -> its module in `pointcept` and in `lam3c_plugin.embedded`, in the order in which the host imports its parts
_SYMBOLS = {
    "TRAINERS": ("engines.train", "registry"),
    "HOOKS": ("engines.hooks.builder", "registry"),
    "build_hooks": ("engines.hooks.builder", "registry"),
    "HookBase": ("engines.hooks", "hooks"),
    "MODELS": ("models.builder", "registry"),
    "MODULES": ("models.builder", "registry"),
    "build_model": ("models.builder", "registry"),
    "LOSSES": ("models.losses.builder", "registry"),
    "build_criteria": ("models.losses.builder", "registry"),
    "DATASETS": ("datasets.builder", "registry"),
    "build_dataset": ("datasets.builder", "registry"),
    "TRANSFORMS": ("datasets.transform", "registry"),
    "Compose": ("datasets.transform", "transforms"),
    "DefaultDataset": ("datasets.defaults", "datasets"),
    "ConcatDataset": ("datasets.defaults", "datasets"),
    "collate_fn": ("datasets.utils", "datasets"),
    "point_collate_fn": ("datasets.utils", "datasets"),
    "Point": ("models.utils.structure", "structure"),
    "PointModule": ("models.modules", "structure"),
    "PointModel": ("models.modules", "structure"),
    "PointSequential": ("models.modules", "structure"),
    "Config": ("utils.config", "config"),
    "ConfigDict": ("utils.config", "config"),
    "get_root_logger": ("utils.logger", "logger"),
    "comm": ("utils", ""),
}
# imported for what they register: PT-v3m2; DefaultTrainer and the hooks; segmentation and the benchmarks' datasets
_EMBEDDED_PARTS = ("ptv3", "engine", "downstream")


def _import_from(module_name: str, name: str) -> Any:
    """``from module import name``: an attribute of the module, or a module below it."""
    module = importlib.import_module(module_name)
    return getattr(module, name) if hasattr(module, name) else importlib.import_module(f"{module_name}.{name}")


def _take(package: str, column: int) -> dict[str, Any]:
    return {
        name: _import_from(".".join(filter(None, (package, places[column]))), name) for name, places in _SYMBOLS.items()
    }


class _BatchSize(int):
    """A batch size over all GPUs that says what is wrong where Pointcept's assertion says nothing."""

    def __mod__(self, world_size: int) -> int:
        rest = int(self) % world_size
        if rest:
            below, above = int(self) - rest, int(self) - rest + world_size
            raise HostError(
                f"a batch size of {int(self)} (over all GPUs) does not divide by {world_size} GPUs: "
                f"set it to {f'{below} or ' if below else ''}{above}, or change the number of GPUs"
            )
        return rest


def _rebuild_config(cls: type, state: tuple[Any, ...]) -> Any:
    config = cls.__new__(cls)
    config.__setstate__(state)
    for key in ("batch_size", "batch_size_val", "batch_size_test"):
        if isinstance(config._cfg_dict.get(key), int):
            config[key] = _BatchSize(config[key])
    return config


def _reduce_config(config: Any) -> tuple[Any, ...]:
    return _rebuild_config, (type(config), config.__getstate__())


def _survive_spawning(config_class: type) -> None:
    """Make a pickled ``Config`` name this module, so that whoever unpickles it has the plugin registered.

    Pointcept starts the ranks of a multi-GPU run with ``torch.multiprocessing.spawn``: they unpickle the config and
    never see its ``custom_imports``. Unpickling now imports `lam3c_plugin` first, on every machine, for fresh
    and for resumed runs, and no file of the user's checkout changes.
    """
    if hasattr(config_class, "__getstate__") and hasattr(config_class, "__setstate__"):
        copyreg.pickle(config_class, _reduce_config)


def _load_pointcept() -> dict[str, Any]:
    try:
        taken = _take("pointcept", 0)
    except ImportError as error:
        where = getattr(importlib.util.find_spec("pointcept"), "origin", None) or "nowhere on the Python path"
        raise HostError(
            f"Pointcept ({where}) cannot be imported: {error}. Install what it needs, "
            "or set LAM3C_ENGINE=embedded to run without it; `lam3c doctor` lists what is missing"
        ) from error
    if "PT-v3m2" not in taken["MODELS"].module_dict:
        where = importlib.import_module("pointcept").__path__[0]
        raise HostError(f"the Pointcept at {where} has no PT-v3m2: LAM3C needs v1.6.0 or newer")
    _survive_spawning(taken["Config"])
    return taken


def _load_embedded() -> dict[str, Any]:
    taken = _take("lam3c_plugin.embedded", 1)
    for part in _EMBEDDED_PARTS:
        importlib.import_module(f"lam3c_plugin.embedded.{part}")
    return taken


ENGINE: str = _choose_engine()
globals().update(_load_pointcept() if ENGINE == "pointcept" else _load_embedded())

__all__ = ["ENGINE", *_SYMBOLS]

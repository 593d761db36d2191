"""The one door to the host engine.

Everything in this package that needs an engine (registries, ``Point``, hooks, configs, communication) takes it from
here, under the names Pointcept uses. Which engine answers is decided once, at import:

* ``LAM3C_ENGINE=pointcept``: Pointcept, or an error that says why it cannot be imported;
* ``LAM3C_ENGINE=embedded``: :mod:`lam3c_plugin.embedded`, pure PyTorch;
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

__all__ = [
    "DATASETS",
    "ENGINE",
    "HOOKS",
    "LOSSES",
    "MODELS",
    "MODULES",
    "TRAINERS",
    "TRANSFORMS",
    "Compose",
    "ConcatDataset",
    "Config",
    "ConfigDict",
    "DefaultDataset",
    "HookBase",
    "Point",
    "PointModel",
    "PointModule",
    "PointSequential",
    "build_criteria",
    "build_dataset",
    "build_hooks",
    "build_model",
    "collate_fn",
    "comm",
    "get_root_logger",
    "point_collate_fn",
]

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


# name here -> (module, name there); the order is the order in which the host itself imports its parts
_POINTCEPT = {
    "TRAINERS": ("pointcept.engines.train", "TRAINERS"),
    "HOOKS": ("pointcept.engines.hooks.builder", "HOOKS"),
    "build_hooks": ("pointcept.engines.hooks.builder", "build_hooks"),
    "HookBase": ("pointcept.engines.hooks", "HookBase"),
    "MODELS": ("pointcept.models.builder", "MODELS"),
    "MODULES": ("pointcept.models.builder", "MODULES"),
    "build_model": ("pointcept.models.builder", "build_model"),
    "LOSSES": ("pointcept.models.losses.builder", "LOSSES"),
    "build_criteria": ("pointcept.models.losses.builder", "build_criteria"),
    "DATASETS": ("pointcept.datasets.builder", "DATASETS"),
    "build_dataset": ("pointcept.datasets.builder", "build_dataset"),
    "TRANSFORMS": ("pointcept.datasets.transform", "TRANSFORMS"),
    "Compose": ("pointcept.datasets.transform", "Compose"),
    "DefaultDataset": ("pointcept.datasets.defaults", "DefaultDataset"),
    "ConcatDataset": ("pointcept.datasets.defaults", "ConcatDataset"),
    "collate_fn": ("pointcept.datasets.utils", "collate_fn"),
    "point_collate_fn": ("pointcept.datasets.utils", "point_collate_fn"),
    "Point": ("pointcept.models.utils.structure", "Point"),
    "PointModule": ("pointcept.models.modules", "PointModule"),
    "PointModel": ("pointcept.models.modules", "PointModel"),
    "PointSequential": ("pointcept.models.modules", "PointSequential"),
    "Config": ("pointcept.utils.config", "Config"),
    "ConfigDict": ("pointcept.utils.config", "ConfigDict"),
    "get_root_logger": ("pointcept.utils.logger", "get_root_logger"),
    "comm": ("pointcept.utils.comm", None),
}
_EMBEDDED = {
    "MODELS": ("registry", "MODELS"),
    "MODULES": ("registry", "MODULES"),
    "LOSSES": ("registry", "LOSSES"),
    "DATASETS": ("registry", "DATASETS"),
    "TRANSFORMS": ("registry", "TRANSFORMS"),
    "HOOKS": ("registry", "HOOKS"),
    "TRAINERS": ("registry", "TRAINERS"),
    "build_model": ("registry", "build_model"),
    "build_criteria": ("registry", "build_criteria"),
    "build_dataset": ("registry", "build_dataset"),
    "build_hooks": ("registry", "build_hooks"),
    "HookBase": ("hooks", "HookBase"),
    "Point": ("structure", "Point"),
    "PointModule": ("structure", "PointModule"),
    "PointModel": ("structure", "PointModel"),
    "PointSequential": ("structure", "PointSequential"),
    "Compose": ("transforms", "Compose"),
    "DefaultDataset": ("datasets", "DefaultDataset"),
    "ConcatDataset": ("datasets", "ConcatDataset"),
    "collate_fn": ("datasets", "collate_fn"),
    "point_collate_fn": ("datasets", "point_collate_fn"),
    "Config": ("config", "Config"),
    "ConfigDict": ("config", "ConfigDict"),
    "get_root_logger": ("logger", "get_root_logger"),
    "comm": ("comm", None),
    "_ptv3": ("ptv3", None),  # imported for its registration of PT-v3m2
    "_trainer": ("engine", None),  # likewise DefaultTrainer and the hooks
    "_downstream": ("downstream", None),  # likewise segmentation: model, losses, evaluation, benchmarks
}


def _take(table: dict[str, tuple[str, str | None]], prefix: str = "") -> dict[str, Any]:
    taken: dict[str, Any] = {}
    for name, (module_name, attribute) in table.items():
        module = importlib.import_module(prefix + module_name)
        taken[name] = module if attribute is None else getattr(module, attribute)
    return taken


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
    """Makes a pickled ``Config`` name this module, so that whoever unpickles it has the plugin registered.

    Pointcept starts the ranks of a multi-GPU run with ``torch.multiprocessing.spawn``: they unpickle the config and
    never see its ``custom_imports``. Unpickling now imports :mod:`lam3c_plugin` first, on every machine, for fresh
    and for resumed runs, and no file of the user's checkout changes.
    """
    if hasattr(config_class, "__getstate__") and hasattr(config_class, "__setstate__"):
        copyreg.pickle(config_class, _reduce_config)


def _load_pointcept() -> dict[str, Any]:
    try:
        taken = _take(_POINTCEPT)
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


ENGINE: str = _choose_engine()
_parts = _load_pointcept() if ENGINE == "pointcept" else _take(_EMBEDDED, prefix="lam3c_plugin.embedded.")

DATASETS = _parts["DATASETS"]
HOOKS = _parts["HOOKS"]
LOSSES = _parts["LOSSES"]
MODELS = _parts["MODELS"]
MODULES = _parts["MODULES"]
TRAINERS = _parts["TRAINERS"]
TRANSFORMS = _parts["TRANSFORMS"]
Compose = _parts["Compose"]
ConcatDataset = _parts["ConcatDataset"]
Config = _parts["Config"]
ConfigDict = _parts["ConfigDict"]
DefaultDataset = _parts["DefaultDataset"]
HookBase = _parts["HookBase"]
Point = _parts["Point"]
PointModel = _parts["PointModel"]
PointModule = _parts["PointModule"]
PointSequential = _parts["PointSequential"]
build_criteria = _parts["build_criteria"]
build_dataset = _parts["build_dataset"]
build_hooks = _parts["build_hooks"]
build_model = _parts["build_model"]
collate_fn = _parts["collate_fn"]
comm = _parts["comm"]
get_root_logger = _parts["get_root_logger"]
point_collate_fn = _parts["point_collate_fn"]

"""Registries: a name in a config file becomes an object. Same names and call forms as the host's.

This module imports nothing else of the engine but the errors, so that every part may import it first.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from lam3c_plugin.errors import ArgumentError, ConfigError, Lam3cError, RegistryError, did_you_mean

T = TypeVar("T")


def build_from_cfg(cfg: Mapping[str, Any], registry: Registry, default_args: Mapping[str, Any] | None = None) -> Any:
    """Build the object that ``cfg["type"]`` names with the other entries of ``cfg`` as keyword arguments.

    Args:
        cfg: a mapping with ``type`` (a registered name, or a class) and constructor arguments.
        registry: where the name is looked up.
        default_args: arguments used where ``cfg`` has none.

    Raises:
        RegistryError: the type is not registered; names near it are suggested.
        ConfigError: ``type`` is missing, or an argument is unknown to, or missing for, the constructor.
        ArgumentError: (also a ConfigError and ValueError) the constructor refuses a value or its type. Its other
            errors pass through untouched.
    """
    if not isinstance(cfg, Mapping):
        raise ConfigError(f"{registry.name}: expected dict(type=..., ...), got {type(cfg).__name__}: {cfg!r:.80}")
    args = {**(default_args or {}), **cfg}
    if "type" not in args:
        raise ConfigError(f"{registry.name}: a config has no 'type'; its keys are {sorted(map(str, args)) or 'none'}")
    kind = args.pop("type")
    builder = registry.require(kind) if isinstance(kind, str) else kind
    if not callable(builder):
        raise ConfigError(f"{registry.name}: 'type' must be a registered name or a class, got {kind!r}")
    label = str(kind) if isinstance(kind, str) else getattr(builder, "__name__", repr(builder))
    _check_arguments(builder, args, label)
    try:
        return builder(**args)
    except TypeError as error:
        # a constructor that forwards **kwargs meets the unknown key deeper down
        match = re.search(r"(\S+)\(\) got an unexpected keyword argument '(\w+)'", str(error))
        if match and match.group(2) in args:
            hint = did_you_mean(match.group(2), _argument_names(builder))
            raise ConfigError(f"{kind} has no argument {match.group(2)!r}{hint}") from error
        raise ArgumentError(f"{label}: {error}") from error
    except Lam3cError:
        raise
    except ValueError as error:
        raise ArgumentError(f"{label}: {error}") from error


def _check_arguments(builder: Callable[..., Any], args: Mapping[str, Any], label: str) -> None:
    """Raise a one-line `ConfigError` where ``args`` does not fit the signature of ``builder``."""
    try:
        parameters = inspect.signature(builder).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature checks its arguments itself
        return
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in by_name]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for key in args:
            if key not in names:
                raise ConfigError(f"{label} has no argument {key!r}{did_you_mean(str(key), names)}")
    missing = [p.name for p in by_name if p.default is p.empty and p.name not in args]
    if missing:
        raise ConfigError(f"{label} needs the argument{'s' if len(missing) > 1 else ''} {', '.join(missing)}")


def _argument_names(builder: Any) -> list[str]:
    """Names of the arguments a class and its bases take."""
    names: list[str] = []
    for cls in inspect.getmro(builder) if inspect.isclass(builder) else (builder,):
        try:
            parameters = inspect.signature(cls).parameters.values()
        except (TypeError, ValueError):
            continue
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return names


class Registry:
    """Names to classes.

    Example:
        >>> PETS = Registry("pets")
        >>> @PETS.register_module(["Dog", "Hound"])
        ... class Dog:
        ...     pass
        >>> PETS.build(dict(type="Hound"))  # doctest: +SKIP
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.module_dict: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.module_dict)

    def __contains__(self, key: object) -> bool:
        return key in self.module_dict

    def __repr__(self) -> str:
        return f"Registry(name={self.name!r}, items={sorted(self.module_dict)})"

    def get(self, key: str) -> Any | None:
        """The class registered as ``key``, or None (as the host's)."""
        return self.module_dict.get(key)

    def require(self, key: str) -> Any:
        """The class registered as ``key``; `RegistryError` with names near it otherwise."""
        if key not in self.module_dict:
            raise RegistryError(f"{key!r} is not in the {self.name} registry{did_you_mean(key, self.module_dict)}")
        return self.module_dict[key]

    def build(self, cfg: Mapping[str, Any], default_args: Mapping[str, Any] | None = None) -> Any:
        """See `build_from_cfg`."""
        return build_from_cfg(cfg, self, default_args)

    def register_module(
        self, name: str | Sequence[str] | None = None, force: bool = False, module: T | None = None
    ) -> Any:
        """Register a class under its own name, one name or several; a decorator, or a call with ``module=``.

        Registering the same class twice is allowed (a module imported under two paths); another class under a
        taken name needs ``force=True``.
        """
        if inspect.isclass(name):  # @X.register_module without brackets
            self._add(name, None, force)
            return name
        if module is not None:
            self._add(module, name, force)
            return module

        def decorate(cls: T) -> T:
            self._add(cls, name, force)
            return cls

        return decorate

    def _add(self, cls: Any, name: str | Sequence[str] | None, force: bool) -> None:
        names = [cls.__name__] if name is None else [name] if isinstance(name, str) else list(name)
        for item in names:
            known = self.module_dict.get(item)
            same = known is not None and (known.__module__, known.__qualname__) == (cls.__module__, cls.__qualname__)
            if known is not None and not force and not same:
                raise RegistryError(
                    f"{item!r} is already in the {self.name} registry ({known.__module__}.{known.__qualname__}); "
                    "choose another name or pass force=True"
                )
            self.module_dict[item] = cls


MODELS = Registry("models")
MODULES = Registry("modules")
LOSSES = Registry("losses")
DATASETS = Registry("datasets")
TRANSFORMS = Registry("transforms")
HOOKS = Registry("hooks")
TRAINERS = Registry("trainers")
TESTERS = Registry("testers")
OPTIMIZERS = Registry("optimizers")
SCHEDULERS = Registry("schedulers")


def build_model(cfg: Mapping[str, Any]) -> Any:
    """Build a model; the config is copied first, since constructors may change what they get."""
    return MODELS.build(copy.deepcopy(cfg))


def build_dataset(cfg: Mapping[str, Any]) -> Any:
    """Build a dataset."""
    return DATASETS.build(cfg)


def build_hooks(cfg: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Build the hooks in their order."""
    return [HOOKS.build(item) for item in cfg]


class Criteria:
    """Sum of several losses ``loss(prediction, target)``; with none, the prediction is returned as it is."""

    def __init__(self, cfg: Sequence[Mapping[str, Any]] | None = None) -> None:
        self.cfg = cfg if cfg is not None else []
        self.criteria = [LOSSES.build(item) for item in self.cfg]

    def __call__(self, pred: Any, target: Any) -> Any:
        if not self.criteria:
            return pred
        return sum(criterion(pred, target) for criterion in self.criteria)


def build_criteria(cfg: Sequence[Mapping[str, Any]] | None) -> Criteria:
    """Build the losses of a model that takes ``criteria=[dict(type=...), ...]``."""
    return Criteria(cfg)

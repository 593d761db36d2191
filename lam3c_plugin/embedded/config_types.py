"""A config's parts against their classes, before anything is built: values of the wrong type, values out of range.

Types are those of the constructors' hints, so that a new class needs nothing here. What a hint does not say (another
class, a type of its own) is left to the constructor.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Union

import torch

from lam3c_plugin.embedded import registry
from lam3c_plugin.errors import ConfigError, Lam3cError

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "None"}
_SHARES = ("drop_path", "attn_drop", "proj_drop", "dropout_ratio", "dropout_application_ratio", "mask_ratio", "p")
_NOT_NEGATIVE = ("lr", "max_lr", "weight_decay", "grid_size", "eps")


def check_parts(cfg: Mapping[str, Any]) -> None:
    """Compare every ``dict(type=...)`` of a config with the signature of the class that it names.

    Raises:
        ConfigError: a value is of another type than its argument, or out of its range; the option is named.
    """
    for where, part in _parts(cfg.items(), ""):
        hints = _hints_of(part["type"])
        for key, value in part.items():
            option = f"{where}.{key}"
            if key in hints and not _fits(value, hints[key]):
                raise ConfigError(f"{option}={value!r:.60} must be {_words(hints[key])}")
            _check_range(option, key, value)


def check_model(cfg: Any) -> None:
    """Build the model without memory for its weights, so that what its constructors refuse is said at the start.

    Raises:
        ConfigError: a constructor refuses an argument.
    """
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            registry.build_model(cfg.model)
    except Lam3cError:
        raise
    except Exception:  # a model that needs numbers to be built says what is wrong when it is built in earnest
        return


def _parts(items: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(option, dict) of everything with a ``type``, at any depth."""
    for key, value in items:
        option = f"{where}.{key}" if where else str(key)
        if isinstance(value, Mapping):
            if isinstance(value.get("type"), str):
                yield option, value
            yield from _parts(value.items(), option)
        elif isinstance(value, list | tuple):
            yield from _parts(enumerate(value), option)


def _hints_of(name: str) -> dict[str, Any]:
    """The type hints of the constructor that is registered under a name; empty where there is none, or none to read."""
    known = [item for item in vars(registry).values() if isinstance(item, registry.Registry) and name in item]
    if not known:
        return {}
    builder = known[0].require(name)
    try:
        return typing.get_type_hints(builder.__init__ if inspect.isclass(builder) else builder)
    except (NameError, TypeError, AttributeError):  # hints that stand for type checkers alone
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a config's value may be meant by a hint."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        told = [item for item in inside if _is_told(item)]
        return any(_fits(value, item) for item in (told if set(told) - {type(None)} else inside))
    if origin is Literal:
        return value in inside
    if hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if _is_kind(origin or hint, Mapping):
        return isinstance(value, Mapping)
    if _is_kind(origin or hint, Sequence):
        return isinstance(value, list | tuple) and all(_fits(item, inside[0]) for item in value if inside)
    return True


def _is_told(hint: Any) -> bool:
    """Whether `_fits` can tell what fits a hint."""
    kind = typing.get_origin(hint) or hint
    return kind in (*_NAMES, Literal) or _is_kind(kind, Mapping) or _is_kind(kind, Sequence)


def _is_kind(kind: Any, wanted: type) -> bool:
    return inspect.isclass(kind) and issubclass(kind, wanted) and not issubclass(kind, str | bytes)


def _words(hint: Any) -> str:
    """A hint for people."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(item) for item in inside if _is_told(item))
    if origin is Literal:
        return f"one of {', '.join(map(str, inside))}"
    if hint in _NAMES:
        return _NAMES[hint]
    if _is_kind(origin or hint, Mapping):
        return "a group of settings, dict(...)"
    many = {bool: " of true and false", int: " of whole numbers", float: " of numbers", str: " of texts"}
    return f"a list{many.get(inside[0], '') if inside else ''}"


def _check_range(option: str, key: str, value: Any) -> None:
    numbers = [item for item in (value if isinstance(value, list | tuple) else [value])]
    if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in numbers):
        return
    if key in _SHARES and not all(0 <= item <= 1 for item in numbers):
        raise ConfigError(f"{option}={value!r:.60} must be from 0 to 1")
    if key in _NOT_NEGATIVE and not all(item >= 0 for item in numbers):
        raise ConfigError(f"{option}={value!r:.60} must be a number, 0 or above")

"""Config files: Python files that build on each other, as Pointcept's.

A config is a Python file whose top-level names are the settings. ``_base_`` (a path or a list of paths, relative to
the file's folder) names files it builds on; dictionaries are merged key by key, and ``_delete_=True`` in one replaces
the base's instead. ``{{ _base_.model.type }}``, without quotes, is a value of the bases, and ``{{ fileDirname }}``,
``{{ fileBasename }}``, ``{{ fileBasenameNoExtension }}``, ``{{ fileExtname }}`` in a string are of the file itself.
``custom_imports = dict(imports=[...], allow_failed_imports=False)`` imports modules that register
classes. `Config.dump` writes a flat file that loads again.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import keyword
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import addict

from data_tools.stages.files import write_text
from lam3c_plugin.embedded.config_files import RESERVED, check, merge, read_settings, read_text, resolve
from lam3c_plugin.embedded.logger import get_root_logger
from lam3c_plugin.errors import ConfigError, did_you_mean, near_names


class ConfigDict(addict.Dict):
    """A dict with attribute access; a missing key is an error (and not an empty dict, as addict has it)."""

    def __missing__(self, name: str) -> Any:
        raise KeyError(name)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            hint = "" if name.startswith("__") else did_you_mean(name, self)
            raise AttributeError(f"the config has no key {name!r}{hint}") from None


class Config:
    """Settings of a run with attribute and item access; see the module's text for the file format."""

    def __init__(self, cfg_dict: Mapping[str, Any] | None = None, filename: str | None = None, text: str = "") -> None:
        object.__setattr__(self, "_cfg_dict", ConfigDict(cfg_dict or {}))
        object.__setattr__(self, "_filename", filename)
        object.__setattr__(self, "_text", text)

    @classmethod
    def fromfile(cls, filename: str | os.PathLike[str], import_custom_modules: bool = True) -> Config:
        """Load a config file with its bases.

        Raises:
            ConfigError: see `read_settings`; or a failed custom import.
        """
        path = resolve(Path(filename))
        cfg = cls(read_settings(path), filename=str(path), text=read_text(path))
        if import_custom_modules:
            cfg.import_custom_modules()
        return cfg

    def import_custom_modules(self) -> None:
        """Do what ``custom_imports`` asks for; spawned ranks call it again, since they start with bare registries."""
        wanted = self._cfg_dict.get("custom_imports") or {}
        imports = wanted.get("imports") or [] if isinstance(wanted, Mapping) else None
        if not isinstance(imports, str | list):
            raise ConfigError(f"custom_imports in {self.filename} must be dict(imports=[...]), got {wanted!r:.80}")
        for name in [imports] if isinstance(imports, str) else imports:
            try:
                importlib.import_module(name)
            except Exception as error:
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                message = f"custom_imports in {self.filename}: cannot import {name!r} ({reason})"
                if not isinstance(error, ImportError) or not wanted.get("allow_failed_imports", False):
                    raise ConfigError(message) from error
                get_root_logger().warning(message)

    @property
    def filename(self) -> str | None:
        """The file it was loaded from, if any."""
        return self._filename

    @property
    def text(self) -> str:
        """That file's text."""
        return self._text

    @property
    def pretty_text(self) -> str:
        """The merged settings as a Python file."""
        return "".join(f"{key} = {_format(value, 0, str(key))}\n" for key, value in self._cfg_dict.items())

    def dump(self, file: str | os.PathLike[str] | None = None) -> str | None:
        """Write `pretty_text` to ``file`` (complete or not at all), or return it without one."""
        if file is None:
            return self.pretty_text
        write_text(file, self.pretty_text)
        return None

    def merge_from_dict(self, options: Mapping[str, Any]) -> None:
        """Override settings: ``{"model.backbone.enc_depths": (1, 1), "hooks.0.type": "MyLoader"}``.

        A key may be new (classes then check it themselves); a new top-level key that looks like a known one is
        reported by a warning, since that is nearly always a slip.
        """
        for full_key, value in options.items():
            parts = full_key.split(".")
            if not parts[0].isidentifier() or keyword.iskeyword(parts[0]) or parts[0] in RESERVED:
                raise ConfigError(f"override {full_key}: {parts[0]!r} cannot be the name of a setting")
            if parts[0] not in self._cfg_dict:
                near = near_names(parts[0], list(self._cfg_dict), limit=1)
                if near:
                    get_root_logger().warning(f"override {full_key}: new key {parts[0]!r}; did you mean {near[0]!r}?")
            _set_nested(self._cfg_dict, parts, ConfigDict._hook(value), full_key)
        check("overrides", self._cfg_dict)

    def get(self, key: str, default: Any = None) -> Any:
        return self._cfg_dict.get(key, default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self._cfg_dict:
            self[key] = copy.deepcopy(default)
        return self._cfg_dict[key]

    def keys(self) -> Any:
        return self._cfg_dict.keys()

    def items(self) -> Any:
        return self._cfg_dict.items()

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries all the way down."""
        return self._cfg_dict.to_dict()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copy and pickle ask before there is a dictionary
            raise AttributeError(name)
        return getattr(self._cfg_dict, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._cfg_dict[name] = ConfigDict._hook(value)  # dictionaries in lists as well

    def __getitem__(self, name: str) -> Any:
        return self._cfg_dict[name]

    __setitem__ = __setattr__

    def __contains__(self, name: object) -> bool:
        return name in self._cfg_dict

    def __iter__(self) -> Iterator[str]:
        return iter(self._cfg_dict)

    def __len__(self) -> int:
        return len(self._cfg_dict)

    def __repr__(self) -> str:
        return f"Config({self._filename}): {dict(self._cfg_dict)!r}"

    def __getstate__(self) -> tuple[Any, ...]:
        return self._cfg_dict, self._filename, self._text

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for name, value in zip(("_cfg_dict", "_filename", "_text"), state, strict=True):
            object.__setattr__(self, name, value)


def _set_nested(node: Any, parts: list[str], value: Any, full_key: str) -> None:
    """Set one override; lists on the way are indexed by number."""
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        where = ".".join(parts[:depth]) or "the config"
        if isinstance(node, list):
            index = _list_index(node, part, where, full_key)
            if last:
                _refuse_other_kind(node[index], value, full_key)
                node[index] = value
            else:
                node = node[index]
        elif isinstance(node, Mapping):
            if last:
                old = node.get(part)
                _refuse_other_kind(old, value, full_key)
                if isinstance(value, Mapping):
                    below = old if isinstance(old, Mapping) else {}
                    value = ConfigDict(merge({part: value}, {part: below}, f"override {full_key}")[part])
                node[part] = value
            else:
                if node.get(part) is None:
                    node[part] = ConfigDict()
                if isinstance(node[part], tuple):  # a tuple on the way becomes a list: it could not be changed
                    node[part] = list(node[part])
                node = node[part]
        else:
            raise ConfigError(f"override {full_key}: {where} is {node!r:.60}, which has no {part!r} to set")


def _refuse_other_kind(old: Any, new: Any, full_key: str) -> None:
    """A text where the config has a number, a switch or a list, and no dictionary where it has one, are slips."""
    kinds = ((bool, "true or false"), (int | float, "a number"), (list | tuple, "a list"))
    wanted = next((words for kind, words in kinds if isinstance(old, kind)), "")
    if wanted and isinstance(new, str):
        raise ConfigError(f"override {full_key}={new!r}: the config has {old!r:.60} there; give {wanted}, or None")
    if isinstance(old, Mapping) and old and not isinstance(new, Mapping) and new is not None:
        raise ConfigError(
            f"override {full_key}={new!r:.60}: that is a group of settings; name one, {full_key}.KEY=VALUE"
        )


def _list_index(node: Sequence[Any], part: str, where: str, full_key: str) -> int:
    try:
        index = int(part)
    except ValueError:
        index = len(node)
    if not -len(node) <= index < len(node):
        raise ConfigError(f"override {full_key}: {where} is a list of {len(node)}; {part!r} is no index into it")
    return index


def _format(value: Any, indent: int, where: str) -> str:
    """A Python expression for a setting; long containers go over several lines."""
    inner, pad, end = indent + 4, " " * (indent + 4), " " * indent
    if isinstance(value, Mapping):
        named = all(isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key) for key in value)
        items = [
            (f"{key}=" if named else f"{key!r}: ") + _format(item, inner, f"{where}.{key}")
            for key, item in value.items()
        ]
        opening, closing = ("dict(", ")") if named else ("{", "}")
    elif isinstance(value, (list, tuple)):
        items = [_format(item, inner, f"{where}.{index}") for index, item in enumerate(value)]
        opening, closing = ("[", "]") if isinstance(value, list) else ("(", ",)" if len(value) == 1 else ")")
    else:
        return _format_scalar(value, where)
    line = opening + ", ".join(items) + closing
    if len(line) + indent <= 100 and "\n" not in line:
        return line
    return f"{opening}\n" + "".join(f"{pad}{item},\n" for item in items) + end + closing.lstrip(",")


def _format_scalar(value: Any, where: str) -> str:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a NumPy or torch number
        value = value.item()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return f'float("{value}")'
    for kind in (bool, int, float, str, bytes):
        if isinstance(value, kind):
            return kind.__repr__(value)  # of an enumeration its value
    if value is None:
        return "None"
    raise ConfigError(f"{where} is a {type(value).__name__}, which cannot be written to a config file")


def parse_value(text: str) -> Any:
    """A value from the command line: numbers, ``true``/``false``, ``None``, ``(1,2)``, ``[a,b]``, ``1,2``, or a string.

    Brackets nest; quotes protect a string with commas (``"'a,b'"``). ``1,2`` without brackets is a list.
    """
    text = text.strip()
    for opening, closing, kind in (("(", ")", tuple), ("[", "]", list)):
        if text.startswith(opening) and text.endswith(closing) and len(_split(text)) == 1:
            return kind(parse_value(part) for part in _split(text[1:-1]) if part.strip())
    if len(_split(text)) > 1 and not text.startswith(("{", "'", '"')):
        return [parse_value(part) for part in _split(text) if part.strip()]
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets and quotes; a text with unbalanced ones is one piece."""
    parts, depth, quote, start = [], 0, "", 0
    for position, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [text] if depth or quote else [*parts, text[start:]]


class DictAction(argparse.Action):
    """argparse action for ``--options key=value key.below=value``: a dictionary of parsed values."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        options = dict(getattr(namespace, self.dest) or {})
        for item in values:
            key, separator, value = item.partition("=")
            if not separator or not key:
                raise ConfigError(f"override {item!r} is not of the form key=value")
            options[key] = parse_value(value)
        setattr(namespace, self.dest, options)

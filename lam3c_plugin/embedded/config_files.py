"""How a config file and its bases become one dictionary, as Pointcept's ``Config`` reads them.

What Pointcept cannot read, or keeps as a key that no class takes, ends in one line that names file and setting.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import io
import os
import re
import tokenize
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import Any

from lam3c_plugin.embedded.logger import get_root_logger
from lam3c_plugin.errors import ConfigError, near_names

BASE_KEY = "_base_"
DELETE_KEY = "_delete_"
DEPRECATION_KEY = "_deprecation_"
RESERVED = ("filename", "text", "pretty_text")  # attributes of a Config
_BASE_VALUE = re.compile(r"\{\{\s*" + BASE_KEY + r"\.([\w.]+)\s*\}\}")
_FROM_BASE = "__value_from_base__"  # the call that stands for such a value while its file runs
_LONGEST_REASON = 200


class _FromBase:
    """``{{ _base_.a.b }}`` until the bases are read: it can be passed on, and nothing else."""

    __hash__ = None  # neither a key nor an item of a set

    def __init__(self, name: str) -> None:
        self.name = name

    def _refuse(self, *_: Any) -> Any:
        raise TypeError(f"{{{{ _base_.{self.name} }}}} must be a whole value: it is not known while the file runs")

    __bool__ = __eq__ = __str__ = __repr__ = __format__ = __len__ = __iter__ = __getitem__ = _refuse


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a config file over those of its bases.

    Raises:
        ConfigError: file or base missing (both are named), a Python error in it (file and line), a base that includes
            itself, a setting that Pointcept would not read.
    """
    try:
        return _load(path, [])
    except RecursionError as error:
        raise ConfigError(f"{path}: a setting contains itself, or the settings nest too deeply") from error


def resolve(path: Path, parent: Path | None = None) -> Path:
    """The absolute path of a config file, or a one-line error that names it and the file that asked for it."""
    path = Path(os.path.abspath(path if parent else os.path.expanduser(path)))
    try:
        exists = path.is_file()
    except (OSError, ValueError):  # too long a name; a null character in it
        exists = False
    if not exists:
        asked = f"{parent} builds on a missing file: {path}" if parent else f"config file not found: {path}"
        near = near_names(path.name, [item.name for item in path.parent.glob("*.py")]) if _is_dir(path.parent) else []
        raise ConfigError(_one_line(asked) + (f"; did you mean {' or '.join(near)}?" if near else ""))
    if path.suffix != ".py":
        raise ConfigError(f"{path}: a config is a Python file (.py)")
    return path


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def read_text(path: Path) -> str:
    """The text of a config file, a byte order mark taken off, line ends as Python has them.

    Raises:
        ConfigError: it cannot be read, is no UTF-8, or declares another encoding.
    """
    try:
        data = path.read_bytes()
        encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        if encoding not in ("utf-8", "utf-8-sig", "ascii"):
            raise ConfigError(f"{path}: its encoding is {encoding}; save it as UTF-8")
        return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeError, SyntaxError) as error:
        raise ConfigError(f"{path}: no UTF-8 text ({_one_line(error)}); save it as UTF-8") from error


def merge(child: Mapping[str, Any], base: Mapping[str, Any], file: str, where: str = "") -> dict[str, Any]:
    """``child`` over ``base``, dictionary by dictionary; neither is changed."""
    merged = dict(base)
    for key, value in child.items():
        if not isinstance(value, dict) or key not in merged:
            merged[key] = value
            continue
        own = {name: item for name, item in value.items() if name != DELETE_KEY}
        if value.get(DELETE_KEY, False):
            merged[key] = own
        elif isinstance(merged[key], Mapping):
            merged[key] = merge(own, merged[key], file, f"{where}{key}.")
        else:
            raise ConfigError(
                f"{file}: {where}{key} is a dict here and a {type(merged[key]).__name__} in the base; "
                f"{DELETE_KEY}=True in it replaces the base's"
            )
    return merged


def _load(path: Path, parents: list[Path]) -> dict[str, Any]:
    if path in parents:
        raise ConfigError(f"{parents[-1]}: its base {path} builds on it in turn")
    settings = _execute(path)
    _warn_of_deprecation(path, settings)
    has_base = BASE_KEY in settings
    bases = settings.pop(BASE_KEY, [])
    merged: dict[str, Any] = {}
    origin: dict[str, Path] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str | os.PathLike):
            raise ConfigError(f"{path}: {BASE_KEY} holds a {type(base).__name__}: it must be a path or a list of paths")
        lexical, real = (Path(os.path.normpath(parent / base)) for parent in (path.parent, path.resolve().parent))
        # a symlinked config or folder: the bases may lie beside the real file
        base_path = resolve(real if os.path.isfile(real) and not os.path.isfile(lexical) else lexical, path)
        for key, value in _load(base_path, [*parents, path]).items():
            if key in merged:
                raise ConfigError(f"{path}: its bases {origin[key]} and {base_path} both set {key!r}")
            merged[key], origin[key] = value, base_path
    settings = {key: _filled(value, merged if has_base else None, path, key) for key, value in settings.items()}
    merged = merge(settings, merged, str(path))
    check(path, merged)
    return merged


def _warn_of_deprecation(path: Path, settings: dict[str, Any]) -> None:
    notice = settings.pop(DEPRECATION_KEY, None)
    if notice is None:
        return
    if not isinstance(notice, dict):
        raise ConfigError(f"{path}: {DEPRECATION_KEY} must be dict(expected=..., reference=...)")
    hints = [f"use {notice['expected']} instead"] if "expected" in notice else []
    hints += [f"see {notice['reference']}"] if "reference" in notice else []
    get_root_logger().warning("; ".join([f"the config file {path} will be deprecated", *hints]))


def _execute(path: Path) -> dict[str, Any]:
    """Run a config file; its public names that are neither modules, functions nor classes."""
    code = _compile(path, read_text(path))
    namespace: dict[str, Any] = {"__file__": str(path), "__name__": "lam3c_config", "__builtins__": builtins}
    namespace[_FROM_BASE] = _FromBase
    try:
        exec(code, namespace)
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = frames[-1].lineno if frames else 0
        raise ConfigError(f"{path}:{line}: {type(error).__name__}: {_one_line(error)}") from error
    return {key: value for key, value in namespace.items() if not key.startswith("__") and not _is_code(value)}


def _is_code(value: Any) -> bool:
    """Modules, functions, classes and ``from __future__ import`` names: means of a file and no settings."""
    return inspect.ismodule(value) or callable(value) or type(value).__module__ == "__future__"


def _compile(path: Path, text: str) -> CodeType:
    filled = _with_names_of_file(path, text)
    filled = _BASE_VALUE.sub(lambda match: f'{_FROM_BASE}("{match.group(1)}")', filled)
    hint = ""
    try:
        ast.parse(text, str(path))
        hint = "" if filled == text else "; {{ _base_.key }} goes outside quotes, {{ fileDirname }} and its like inside"
        return compile(filled, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno}: syntax error: {error.msg}{hint}") from error
    except (ValueError, MemoryError, OverflowError) as error:  # null bytes, brackets beyond the parser's depth
        raise ConfigError(f"{path}: syntax error: {_one_line(error) or 'brackets nest too deeply'}") from error


def _with_names_of_file(path: Path, text: str) -> str:
    """``{{ fileDirname }}`` and its kin replaced in the text, comments and strings included."""
    names = {
        "fileDirname": str(path.parent),
        "fileBasename": path.name,
        "fileBasenameNoExtension": path.stem,
        "fileExtname": path.suffix,
    }
    for name, value in names.items():
        shown = value.replace("\\", "/")
        text = re.sub(r"\{\{\s*" + name + r"\s*\}\}", lambda _, shown=shown: shown, text)
    return text


def _filled(value: Any, base: Mapping[str, Any] | None, path: Path, where: str) -> Any:
    """``value`` with the base's values in place of ``{{ _base_.key }}``, in dictionaries, lists and tuples."""
    if isinstance(value, _FromBase):
        return _value_of_base(value.name, base, f"{path}: {where}: {{{{ {BASE_KEY}.{value.name} }}}}")
    if isinstance(value, dict):
        return {key: _filled(item, base, path, f"{where}.{key}") for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_filled(item, base, path, f"{where}.{index}") for index, item in enumerate(value))
    return value


def _value_of_base(name: str, base: Mapping[str, Any] | None, label: str) -> Any:
    if base is None:
        raise ConfigError(f"{label}, but the file has no {BASE_KEY}")
    found: Any = base
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise ConfigError(f"{label}: its bases have no such key (dictionaries' keys only, no places in a list)")
        found = found[part]
    return found


def check(path: Path | str, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError for what would stay in the settings and be no setting."""
    for key in RESERVED:
        if key in settings:
            raise ConfigError(f"{path}: {key!r} is reserved: choose another name")
    for where, key, value in _entries(settings):
        if key == DELETE_KEY:
            raise ConfigError(
                f"{path}: {where}: no base sets what it would replace (a list replaces the base's whole); take it out"
            )
        if isinstance(value, str) and _FROM_BASE in value:
            raise ConfigError(f"{path}: {where}: {{{{ {BASE_KEY}.key }}}} stands inside quotes; write it without")
        if isinstance(value, list | tuple) and type(value) not in (list, tuple):
            raise ConfigError(f"{path}: {where} is a {type(value).__name__}: use a plain list, tuple or dict")


def _entries(value: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path, key, value) of everything inside dictionaries, lists and tuples."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        path = f"{where}.{key}" if where else str(key)
        yield path, key, item
        yield from _entries(item, path)


def _one_line(reason: object) -> str:
    return " ".join(str(reason).split())[:_LONGEST_REASON]

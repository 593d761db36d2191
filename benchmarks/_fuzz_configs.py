"""Configs with bases, and lists of videos, mutated; judges: Pointcept's `Config` (POINTCEPT_ROOT), Python's csv, json.

A config is read alike by ours and Pointcept's, if that reads it; a setting that only one of them has is a silent
difference. Of a list, rows that were not touched are found, and no row goes without a word.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import tempfile
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._fuzz import NOTED, SAME, SILENT, Tally, mutate_text
from benchmarks._fuzz_manifests import MANIFESTS, judge_manifest, make_manifest
from lam3c_plugin.embedded.config import Config
from lam3c_plugin.errors import ConfigError

CONFIGS = ("config alone", "config bases", "config variables")
KINDS = (*CONFIGS, *MANIFESTS)
NAMES = ("model", "hooks", "data", "epoch", "lr", "depths", "type", "enc_mode", "weight")
# lines that people write, or paste from elsewhere
ODD = (
    "import os", "from math import pi", "from __future__ import annotations", "f = lambda x: x",
    "def f():\n\treturn 1", "class A:\n    x = 1", "_private = 3", "__hidden = 3", "text = 1", "filename = 'x'",
    "_deprecation_ = dict(expected='n')", "_delete_ = True", "lr = 1e-3", "lr = float('nan')", "epoch += 1",
    "del epoch", "hooks = hooks + [1]", "a = {1, 2}", "g = dict(f=lambda: 1)",
    "h = [dict(_delete_=True, type='X')]", "model = dict(_delete_=True, x=1)", "model.update(z=1)",
    "model = dict(type='B', depths=(1,))", "model['type'] = 'C'", "x = y = [1]", "x: int = 3", "s = f'{lr}'",
    "raise KeyError('k')", "n = __name__ and 1", "import sys; sys.exit(3)", "b = b'bytes'", "c = 1j", "e = ...",
    "t = 1,", "_base_ = 'base0.py'", "_base_ = ('base0.py',)", "_base_ = []", "_base_ = 3", "_base_ = 'case.py'",
    "_base_ = ['base0.py', 'none.py']", "# {{ _base_.lr }}", "v = {{ _base_.lr }}", "v = [{{_base_.model.type}}]",
    "v = '{{ _base_.lr }}'", "v = 2 * {{ _base_.lr }}", "v = {{ _base_.model.no }}",
    "d = '{{ fileDirname }}/{{fileBasename}}'", "d = {{ fileExtname }}", "d = '{{ fileBasenameNoExtension }}'",
    "k = {{{ _base_.lr }}: 1}", "w = dict(a=({{ _base_.depths }}, {{ _base_.lr }}))", "r = []\nr.append(r)",
    "model = dict(model, extra=1)", "custom_imports = dict(imports=['json'])",
    "custom_imports = dict(imports=['no_such'])", "custom_imports = 3",
)  # fmt: skip
SIGNS = "()[]{}'\"=,.:#\\ \t\n\r\x00\x0c0123456789abe_-é\u2028\ufeff"
HEADS = (
    b"\xef\xbb\xbf", b"# coding: utf-8\n", b"# coding: latin-1\n", b"\xff\xfe", b"\n\n",
    b"'''doc {{ _base_.lr }}'''\n",
)  # fmt: skip
ENDS = (b"\r\n", b"\r", b"\n\n", b"\n\t")


# ------------------------------------------------------------------------------------------------------------- making
def literal(rng: np.random.Generator, depth: int = 0) -> str:
    """A random setting as Python source."""
    kind = int(rng.integers(0, 9 if depth < 3 else 6))
    if kind < 6:
        return str(rng.choice(["1", "0.5", "True", "None", "'text'", '"Größe"', "-3", "1e-3", "'a b'", "b'x'", "''"]))
    items = [literal(rng, depth + 1) for _ in range(int(rng.integers(0, 4)))]
    if kind == 6:
        return f"[{', '.join(items)}]"
    if kind == 7:
        return f"({''.join(item + ', ' for item in items)})"
    return f"dict({', '.join(f'{name}={item}' for name, item in zip(rng.permutation(NAMES), items, strict=False))})"


def settings(rng: np.random.Generator, names: list[str]) -> list[str]:
    """Lines that set ``names``; a model is a dictionary, so that bases and children meet in it."""
    return [f"{name} = {'dict(type=' + literal(rng) + ')' if name == 'model' else literal(rng)}" for name in names]


def make_config(folder: Path, kind: str, rng: np.random.Generator) -> Path:
    """A config and its bases, with faults in any of them."""
    names = [str(name) for name in rng.permutation(NAMES)]
    cut = int(rng.integers(1, len(names)))
    parts = [names[:cut], names[cut:]] if kind != "config alone" else []
    files = {f"base{i}.py": settings(rng, part) for i, part in enumerate(parts)}
    child = settings(rng, [str(name) for name in rng.permutation(NAMES)[: rng.integers(1, 6)]])
    if kind == "config variables":
        child += [str(line) for line in rng.choice([line for line in ODD if "{{" in line], 2)]
    files["case.py"] = (["_base_ = ['base0.py', 'base1.py']"] if parts else []) + child
    for name, lines in files.items():
        data = "\n".join([*lines, ""]).encode()
        for _ in range(int(rng.choice([0, 1, 1, 2])) if name == "case.py" or rng.random() < 0.2 else 0):
            data = mutate(data, rng)
        (folder / name).write_bytes(data)
    return folder / "case.py"


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One fault: a head, or one of any text."""
    if rng.random() < 0.1:
        return HEADS[int(rng.integers(len(HEADS)))] + data
    return mutate_text(data, rng, [line.encode() for line in ODD], SIGNS, ENDS)


# ------------------------------------------------------------------------------------------------------------- judging
def host_config() -> Any | None:
    """Pointcept's `Config` class from POINTCEPT_ROOT, without what it needs to write files; None without a checkout."""
    root = Path(os.environ.get("POINTCEPT_ROOT") or "none")
    file = root / "pointcept" / "utils" / "config.py"
    if not file.is_file():
        return None
    known = dict(sys.modules)
    for name in ("pointcept", "pointcept.utils", "yapf", "yapf.yapflib", "yapf.yapflib.yapf_api"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(root / name.replace(".", "/"))]
    sys.modules["yapf.yapflib.yapf_api"].FormatCode = None
    try:
        spec = importlib.util.spec_from_file_location("pointcept.utils.config", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        for name in set(sys.modules) - set(known):
            if name.split(".")[0] in ("pointcept", "yapf"):
                del sys.modules[name]
        sys.modules.update(known)
    return module.Config


def shown(value: Any) -> str:
    """Settings as a text that two readings share: functions have no address in it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(shown, value))})"
    return "a function" if callable(value) else f"{type(value).__name__} {value!r}"


def data_alone(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without a file's means: modules, functions, classes, names of ``__future__``."""
    means = (types.ModuleType, type(sys.implementation))
    return {
        key: value
        for key, value in settings.items()
        if not (callable(value) or isinstance(value, means) or type(value).__module__ == "__future__")
    }


def judge_config(path: Path, kind: str, host: Any | None, tally: Tally, number: int) -> None:
    """Read one config with ours and Pointcept's, write it and read it again, and count the outcome."""
    label, files = f"case {number}", ("case.py", "base0.py", "base1.py")

    def read() -> tuple[str, str | None]:
        cfg = Config.fromfile(path)
        return shown(cfg.to_dict()), _written_again(cfg, path.parent / "dump.py")

    found = tally.attempt(kind, label, read, ConfigError, files)
    if found is None:
        return
    ours, again = found
    if again is not None and again != ours:
        tally.add(kind, SILENT, f"{label}: written and read again it is another: {ours} {again}")
        return
    try:
        theirs = ours if host is None else shown(data_alone(host.fromfile(str(path))._cfg_dict.to_dict()))
    except (Exception, SystemExit) as error:  # a judge may raise what it likes
        tally.disputes[f"configs: Pointcept refuses ({type(error).__name__})"] += 1
        tally.add(kind, NOTED)
        return
    tally.add(kind, SAME if theirs == ours else SILENT, f"{label}: ours {ours}; {theirs}")


def _written_again(cfg: Config, path: Path) -> str | None:
    """The settings after a round through a file; None where one clear line says that they cannot be written."""
    try:
        cfg.dump(path)
    except ConfigError as error:
        if "cannot be written" in str(error):
            return None
        raise
    return shown(Config.fromfile(path, import_custom_modules=False).to_dict())


def run(count: int, seed: int) -> Tally:
    """Make, mutate and read ``count`` configs and lists; a case depends on its number and the seed alone."""
    tally, host = Tally("configs and manifests"), host_config()
    logger = logging.getLogger("pointcept")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    before = sys.dont_write_bytecode, list(sys.path), sys.unraisablehook
    # Pointcept imports its temporary files, and complains of them once they are gone
    sys.dont_write_bytecode, sys.unraisablehook = True, lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in range(count):
                kind = KINDS[number % len(KINDS)]
                with tempfile.TemporaryDirectory() as folder:
                    rng = np.random.default_rng([seed, number])
                    if kind in MANIFESTS:
                        judge_manifest(*make_manifest(Path(folder), kind, rng), kind, tally, number)
                    else:
                        judge_config(make_config(Path(folder), kind, rng), kind, host, tally, number)
    finally:
        logger.setLevel(level)
        sys.dont_write_bytecode, sys.path[:], sys.unraisablehook = before
    return tally

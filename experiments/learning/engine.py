"""Runs of the engine's own train and test entries in this process, with options as on the command line."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_tools.stages.scene_folder import settings_hash
from lam3c_plugin.embedded.config import Config

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = Path(__file__).resolve().parent / "configs"
PRETRAIN, FINETUNE = CONFIGS / "pretrain.py", CONFIGS / "finetune.py"
_PLAIN = re.compile(r"[A-Za-z_./][\w./-]*")  # words that need no quotes, on a command line or in an option


@functools.cache
def recipe(config: Path) -> str:
    """A short text that changes when a setting of a config or of its bases does."""
    return settings_hash(Config.fromfile(config, import_custom_modules=False).to_dict())


def arguments(config: Path | str, options: Mapping[str, Any], resume: Path | None = None) -> list[str]:
    """Arguments of ``lam3c_plugin.embedded.train`` or ``.test``."""
    start = ["--config-file", str(config), *(["--resume", str(resume)] if resume else [])]
    return [*start, "--options", *(f"{key}={_value(value)}" for key, value in options.items())]


def _value(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in ("true", "false", "none"):
        return value
    return repr(value)


def shown(entry: str, argv: list[str], out: Path) -> str:
    """A command line for people: paths relative to the repository, the output folder as ``OUT``."""
    words = [word.replace(str(out), "OUT").replace(f"{ROOT}/", "") for word in argv]
    return shlex.join(["python", "-m", f"lam3c_plugin.embedded.{entry}", *words])


def train(argv: list[str]) -> None:
    """One call of the train entry.

    Raises:
        Interrupted: stopped by a signal (``exit_code`` is not 0), or at ``stop_after_steps`` (it is 0).
        Lam3cError: what is wrong, in one line.
    """
    from lam3c_plugin.embedded import train as entry

    entry.main(argv)


def test(argv: list[str]) -> None:
    """One call of the test entry; raises as `train`."""
    from lam3c_plugin.embedded import test as entry

    entry.main(argv)

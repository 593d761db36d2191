"""Errors a user can cause and cure: one line each, shown without a traceback by the command-line entry points."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches

from data_tools.stages import command_line


class Lam3cError(Exception):
    """Base of the project's own errors; the message is one line that names the culprit and the cure."""

    exit_code = 1
    label = "error"

    def __str__(self) -> str:
        # KeyError, a second base of some subclasses, would print its message in quotes.
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class ConfigError(Lam3cError):
    """A config file, an override or a value in it is wrong."""


class ArgumentError(ConfigError, ValueError):
    """A part of a config was given a value that its constructor refuses."""


class RegistryError(ConfigError, KeyError):
    """A ``type`` that no registry knows."""


class CheckpointError(Lam3cError):
    """A checkpoint cannot be read, written or used for this model."""


class DataError(Lam3cError):
    """A data folder or a scene cannot be used."""


class Interrupted(Lam3cError):  # noqa: N818 - not a failure: the run was stopped by a signal and saved
    """The run was stopped by a signal after it saved; ``exit_code`` is 128 + the signal's number."""

    label = "stopped"

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type[Interrupted], tuple[str, int]]:
        return type(self), (str(self), self.exit_code)


def near_names(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Names in ``known`` that look like ``name``, best first; upper and lower case are not told apart."""
    by_lower: dict[str, str] = {}
    for item in known:
        by_lower.setdefault(str(item).lower(), str(item))
    wanted = str(name).lower()
    found = get_close_matches(wanted, by_lower, n=limit, cutoff=0.6)
    found += [item for item in by_lower if item not in found and len(wanted) > 2 and (wanted in item or item in wanted)]
    return [by_lower[item] for item in found[:limit]]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'a' or 'b'?"``, or what there is when nothing looks alike, or ``""`` for an empty list."""
    known = sorted({str(item) for item in known})
    if not known:
        return ""
    near = near_names(name, known)
    if near:
        return f"; did you mean {' or '.join(repr(item) for item in near)}?"
    return f"; known: {', '.join(known[:12])}{', …' if len(known) > 12 else ''}"


def run_main(main: Callable[[], int | None]) -> int:
    """Call ``main`` and turn a `Lam3cError` into one line on stderr and an exit code.

    ``LAM3C_DEBUG=1`` prints the traceback as well. Other exceptions are bugs and keep their traceback.
    """
    return command_line.run_main(main, "error", (Lam3cError,), interrupted="Ctrl-C before there was anything to save")

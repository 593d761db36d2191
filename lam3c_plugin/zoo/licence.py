"""Show a licence before weights come, and have it confirmed where it asks for more than credit."""

from __future__ import annotations

import sys

from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.zoo.index import Entry


def describe(entry: Entry) -> str:
    """The licence in one line."""
    text = f"{entry.name} is under {entry.licence.upper()}"
    if "-nc" in entry.licence.lower():
        text += " (credit its authors; no commercial use)"
    return text + (f": {entry.licence_url}" if entry.licence_url else "")


def confirm(entry: Entry, *, yes: bool = False, ask: bool = True) -> None:
    """Print the licence; unless it is a free one or ``yes``, have it confirmed on the terminal.

    Raises:
        CheckpointError: refused, or nobody there to ask (``ask=False``, or no terminal).
    """
    print(describe(entry), file=sys.stderr)
    if yes or entry.free:
        return
    if not ask or not sys.stdin or not sys.stdin.isatty():
        raise CheckpointError(
            f"{describe(entry)}; nobody is here to agree to it: run `lam3c zoo download {entry.name} --yes` if you do"
        )
    print("Do you agree to it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CheckpointError(
            f"{entry.name} was not downloaded: its licence ({entry.licence.upper()}) was not agreed to"
        )

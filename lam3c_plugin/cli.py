"""The ``lam3c`` command: subcommands from `lam3c_plugin.commands`, errors in one line.

A `lam3c_plugin.errors.Lam3cError` ends it as ``error: ...`` with the error's exit code (1), a wrong
command line with 2. ``LAM3C_DEBUG=1`` prints the traceback too.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from lam3c_plugin import __version__
from lam3c_plugin.commands import COMMANDS
from lam3c_plugin.errors import run_main


def build_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand; a parsed subcommand has its function as ``run``."""
    parser = argparse.ArgumentParser(
        prog="lam3c",
        description="LAM3C: 3D pre-training on video-generated point clouds.",
        epilog="LAM3C_ENGINE=auto|pointcept|embedded chooses the engine; LAM3C_DEBUG=1 shows tracebacks.",
    )
    parser.add_argument("--version", action="version", version=f"lam3c {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name in COMMANDS:
        importlib.import_module(f"lam3c_plugin.commands.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process') and return its exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    return run_main(lambda: args.run(args))


if __name__ == "__main__":
    sys.exit(main())

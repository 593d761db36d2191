"""The ``lam3c`` command before anything heavy is imported: waiting threads sleep, ``--version`` answers at once."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

from data_tools.stages.command_line import let_threads_sleep


def main() -> int:
    """Run the command line of this process and return its exit code."""
    let_threads_sleep()
    if sys.argv[1:] == ["--version"]:
        package = Path(importlib.util.find_spec("lam3c_plugin").origin)  # without its import, which takes seconds
        print("lam3c", re.search(r'__version__ = "(.+?)"', package.read_text(encoding="utf-8")).group(1))
        return 0
    from lam3c_plugin.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())

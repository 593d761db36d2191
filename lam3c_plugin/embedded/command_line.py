"""What the command lines of the embedded engine (train, test) share: ranks, overrides, and which engine answers."""

from __future__ import annotations

import argparse
import os
import sys

from lam3c_plugin.embedded.config import DictAction


def engine_parser(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    """Make the parser of ``python -m lam3c_plugin.embedded.<name>`` with the host's options for ranks and overrides."""
    result = argparse.ArgumentParser(
        prog=f"python -m lam3c_plugin.embedded.{name}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--num-gpus", type=int, default=1, help="GPUs of this machine (processes, on the CPU)")
    result.add_argument("--num-machines", type=int, default=1)
    result.add_argument("--machine-rank", type=int, default=0, help="this machine's number, from 0")
    result.add_argument("--dist-url", default="auto", help="tcp://<first machine>:<port>, or auto on one machine")
    result.add_argument("--options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="settings to override")
    return result


def use_embedded_engine(name: str) -> None:
    """Import the plugin so that it registers with this engine, also where Pointcept could be imported.

    ``python -m`` has imported the package before the module ``name`` runs: if it chose Pointcept then, start anew.
    """
    os.environ["LAM3C_ENGINE"] = "embedded"
    host = sys.modules.get("lam3c_plugin.host")
    if host is not None and getattr(host, "ENGINE", "embedded") != "embedded":
        os.execv(sys.executable, [sys.executable, "-m", f"lam3c_plugin.embedded.{name}", *sys.argv[1:]])
    import lam3c_plugin  # noqa: F401

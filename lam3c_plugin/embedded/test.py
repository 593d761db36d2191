"""Test a trained model with the embedded engine: ``python -m lam3c_plugin.embedded.test --config-file …``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from lam3c_plugin.embedded.config import DictAction
from lam3c_plugin.embedded.engine.defaults import load_config, setup_rank
from lam3c_plugin.embedded.engine.launch import launch
from lam3c_plugin.errors import ConfigError, run_main

_EXAMPLES = """example:
  python -m lam3c_plugin.embedded.test --config-file exp/lam3c/lin/config.py \\
      --options save_path=exp/lam3c/lin weight=exp/lam3c/lin/model/model_best.pth
"""


def parser() -> argparse.ArgumentParser:
    """The command line, as the host's ``tools/test.py`` has it."""
    result = argparse.ArgumentParser(
        prog="python -m lam3c_plugin.embedded.test",
        description="Test a trained model; scores and predictions go to <save_path>/result.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--config-file", required=True, metavar="FILE", help="the config, or config.py of the run")
    result.add_argument("--num-gpus", type=int, default=1, help="GPUs of this machine (processes, on the CPU)")
    result.add_argument("--num-machines", type=int, default=1)
    result.add_argument("--machine-rank", type=int, default=0, help="this machine's number, from 0")
    result.add_argument("--dist-url", default="auto", help="tcp://<first machine>:<port>, or auto on one machine")
    result.add_argument("--options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="settings to override")
    return result


def evaluate_rank(cfg: Any) -> None:
    """Test on this rank: what the launcher runs on every one."""
    from lam3c_plugin.embedded.downstream import TESTERS
    from lam3c_plugin.embedded.logger import get_root_logger

    setup_rank(cfg)
    get_root_logger(os.path.join(cfg.save_path, "test.log"), file_mode="w")
    TESTERS.build(dict(cfg.test, cfg=cfg)).test()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, load the config, start the ranks; returns the exit code."""
    args = parser().parse_args(argv)
    _use_embedded_engine()
    # resume=True: the run's own config.py stays as training wrote it
    cfg = load_config(args.config_file, {**(args.options or {}), "resume": True})
    if "test" not in cfg or "test" not in cfg.data:
        raise ConfigError(f"{args.config_file} has nothing to test: it needs test and data.test; pre-training has none")
    launch(evaluate_rank, cfg, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url)
    return 0


def _use_embedded_engine() -> None:
    """Import the plugin so that it registers with this engine, also where Pointcept could be imported."""
    os.environ["LAM3C_ENGINE"] = "embedded"
    host = sys.modules.get("lam3c_plugin.host")
    if host is not None and getattr(host, "ENGINE", "embedded") != "embedded":
        os.execv(sys.executable, [sys.executable, "-m", "lam3c_plugin.embedded.test", *sys.argv[1:]])
    import lam3c_plugin  # noqa: F401


if __name__ == "__main__":
    sys.exit(run_main(main))

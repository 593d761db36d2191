"""Test a trained model with the embedded engine: ``python -m lam3c_plugin.embedded.test --config-file …``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from lam3c_plugin.embedded.command_line import engine_parser, use_embedded_engine
from lam3c_plugin.embedded.engine.defaults import load_config, setup_rank
from lam3c_plugin.embedded.engine.launch import launch
from lam3c_plugin.embedded.logger import get_root_logger
from lam3c_plugin.embedded.registry import TESTERS
from lam3c_plugin.errors import ConfigError, run_main

_EXAMPLES = """example:
  python -m lam3c_plugin.embedded.test --config-file exp/lam3c/lin/config.py \\
      --options save_path=exp/lam3c/lin weight=exp/lam3c/lin/model/model_best.pth
"""


def parser() -> argparse.ArgumentParser:
    """The command line, as the host's ``tools/test.py`` has it."""
    result = engine_parser("test", "Test a trained model; scores and predictions go to <save_path>/result.", _EXAMPLES)
    result.add_argument("--config-file", required=True, metavar="FILE", help="the config, or config.py of the run")
    return result


def evaluate_rank(cfg: Any) -> None:
    """Test on this rank: what the launcher runs on every one."""
    setup_rank(cfg)
    get_root_logger(os.path.join(cfg.save_path, "test.log"), file_mode="w")
    TESTERS.build(dict(cfg.test, cfg=cfg)).test()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, load the config, start the ranks; returns the exit code."""
    args = parser().parse_args(argv)
    use_embedded_engine("test")
    # resume=True: the run's own config.py stays as training wrote it
    cfg = load_config(args.config_file, {**(args.options or {}), "resume": True})
    if "test" not in cfg or "test" not in cfg.data:
        raise ConfigError(f"{args.config_file} has nothing to test: it needs test and data.test; pre-training has none")
    launch(evaluate_rank, cfg, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

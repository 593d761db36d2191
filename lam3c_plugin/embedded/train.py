"""Train with the embedded engine: ``python -m lam3c_plugin.embedded.train --config-file configs/….py``.

Also under torchrun, which then decides how many ranks there are.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from lam3c_plugin.embedded.command_line import engine_parser, use_embedded_engine
from lam3c_plugin.embedded.config_types import check_model
from lam3c_plugin.embedded.engine.defaults import (
    check_shares,
    checkpoint_path,
    claim_run_folder,
    make_run_folder,
    read_config,
)
from lam3c_plugin.embedded.engine.launch import launch
from lam3c_plugin.embedded.engine.trainer import run_rank
from lam3c_plugin.errors import ConfigError, run_main

_EXAMPLES = """examples:
  one process, a few settings changed:
    python -m lam3c_plugin.embedded.train --config-file configs/lam3c/pretrain-lam3c-v1m1-2-tiny.py \\
        --options save_path=exp/lam3c/tiny batch_size=2 model.backbone.drop_path=0.1
  eight GPUs of this machine:
    python -m lam3c_plugin.embedded.train --config-file CONFIG --num-gpus 8 --options save_path=exp/lam3c/base
  resume a run that was stopped:
    python -m lam3c_plugin.embedded.train --resume exp/lam3c/base --num-gpus 8
"""


def parser() -> argparse.ArgumentParser:
    """The command line, as the host's ``tools/train.py`` has it, and ``--resume``."""
    result = engine_parser("train", "Train a config on the embedded engine.", _EXAMPLES)
    result.add_argument("--config-file", default="", metavar="FILE", help="the config")
    result.add_argument("--resume", default="", metavar="RUN", help="folder of a run to resume")
    result.add_argument("--overwrite", action="store_true", help="delete the run that save_path holds, and start anew")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, load the config, start the ranks; returns the exit code."""
    args = parser().parse_args(argv)
    options = dict(args.options or {})
    config_file = args.config_file
    if args.resume:
        config_file = config_file or os.path.join(args.resume, "config.py")
        options = {"save_path": args.resume, "resume": True, "weight": str(checkpoint_path(args.resume)), **options}
    if not config_file:
        raise ConfigError("name a config with --config-file FILE, or a run to resume with --resume RUN")
    use_embedded_engine("train")
    cfg = read_config(config_file, options)
    is_first = args.machine_rank == 0 and os.environ.get("RANK", "0") == "0"  # the others find its folder
    try:
        check_shares(cfg, max(1, args.num_gpus * args.num_machines))
        check_model(cfg)
        if is_first and not cfg.resume:
            claim_run_folder(cfg, args.overwrite)
        make_run_folder(cfg)
        launch(run_rank, cfg, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url)
    except ConfigError as error:
        raise type(error)(f"{error} (config: {config_file})") from error
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

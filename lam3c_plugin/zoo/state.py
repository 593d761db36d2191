"""All weights of a checkpoint under their own names, for a run to start from: any file, a Hub folder or a zoo name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from torch import Tensor

from lam3c_plugin.checkpoints.keys import read_checkpoint, state_dict_of, strip_module
from lam3c_plugin.checkpoints.opening import open_safetensors, sniff
from lam3c_plugin.checkpoints.weights import read
from lam3c_plugin.errors import CheckpointError, run_main
from lam3c_plugin.zoo.resolve import open_weights, resolve
from lam3c_plugin.zoo.store import entries, on_machine


def local_weights(name_or_path: str | os.PathLike[str]) -> Path:
    """Where the weights are that a run is to start from.

    A run never downloads: every rank would, and nobody may be there to agree to a licence.

    Args:
        name_or_path: a .pth or .safetensors file, a folder for the Hub, or a zoo name that was downloaded.

    Raises:
        CheckpointError: not found, or not downloaded.
    """
    text = os.fspath(name_or_path)
    path = Path(text).expanduser()
    if path.exists():
        return path
    entry = next((entry for entry in entries() if text.lower() in entry.spellings()), None)
    if entry and not entry.path and on_machine(entry) is None:
        raise CheckpointError(
            f"{text} is not on this machine, and a run does not download; `lam3c zoo download {entry.name}` does"
        )
    # a missing .pth is told as a run's checkpoint is
    return resolve(text, offline=True) if entry or path.suffix != ".pth" else path


def read_state(name_or_path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state dict of a checkpoint, without ``module.``, in whatever layout it has (``checkpoints.keys``).

    PyTorch files are read as a run's own checkpoints are, by `read_checkpoint`.

    Args:
        name_or_path: see `local_weights`.

    Raises:
        CheckpointError: not found, not downloaded, unreadable, or without weights.
    """
    path = local_weights(name_or_path)
    if path.is_dir():
        return read(path).backbone
    if path.is_file() and sniff(path) == "safetensors":
        return strip_module(open_safetensors(path)[0])
    return state_dict_of(read_checkpoint(path), path)


def trained_grid(name_or_path: str | os.PathLike[str]) -> float | None:
    """The cell in metres that weights on this machine were trained on; None where nobody says it."""
    try:
        return open_weights(name_or_path, offline=True).inputs.get("grid_size")
    except CheckpointError:
        return None


if __name__ == "__main__":  # for scripts/train.sh and test.sh
    sys.exit(run_main(lambda: print(local_weights(sys.argv[1]))))

"""Files of linear heads: found, read, written."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lam3c_plugin.analysis.heads import Head
from lam3c_plugin.checkpoints.keys import save_atomic
from lam3c_plugin.errors import CheckpointError

#: zoo names of the probe heads for ``--head scannet``, by the channels they read
SCANNET_HEADS = {1232: "lam3c-ptv3-base-scannet-probe", 1728: "lam3c-ptv3-large-scannet-probe"}


def find_head(name: str | None, encoder: Any, checkpoint: str | None = None) -> Head:
    """The head asked for.

    Args:
        name: "scannet" (the zoo's probe head for this width), a zoo name or a file; None: the checkpoint's own.
        encoder: that it reads from.
        checkpoint: the encoder's name or file.

    Raises:
        CheckpointError: there is none, or it reads another number of channels than the encoder gives.
    """
    width = encoder.channels("full")
    if name == "scannet":
        name = SCANNET_HEADS.get(width)
        if name is None:
            known = " and ".join(f"{channels} channels ({title})" for channels, title in SCANNET_HEADS.items())
            raise CheckpointError(
                f"--head scannet: there are heads for {known}, the encoder gives {width}; train one with "
                "`lam3c probe --data DIR --save-head head.pth` and give that file"
            )
        if not _is_lam3c(str(checkpoint)):
            print(f"note: {name} was trained on that model's features; on others it says little")
    head = read_head(name or checkpoint or "")
    if head.weight.shape[1] != width:
        raise CheckpointError(
            f"{head.source} reads {head.weight.shape[1]} channels, the encoder gives {width} (--level full): "
            "it belongs to another encoder; take that one's checkpoint"
        )
    if head.grid_size not in (None, encoder.grid_size):
        print(
            f"warning: {head.source} was trained on features of cells of {head.grid_size:g} m, and these are of "
            f"{encoder.grid_size:g} m: expect worse labels; --grid-size {head.grid_size:g} is its own",
            file=sys.stderr,
        )
    return head


def _is_lam3c(name: str) -> bool:
    return "lam3c" in name.lower().replace("-", "")


def read_head(name: str) -> Head:
    """A head out of a zoo name or any file with ``seg_head.weight``.

    Raises:
        CheckpointError: not found, unreadable, or without a linear head.
    """
    from lam3c_plugin import zoo

    if not name:
        raise CheckpointError("no head: give --head scannet, a zoo name or a file")
    weights = zoo.open_weights(name)
    path = weights.source
    if weights.head is None:
        raise CheckpointError(f"{path} has no linear head (seg_head.weight); give --head scannet or a head's file")
    weight, bias = (weights.head[f"seg_head.{part}"].detach().float().cpu().numpy() for part in ("weight", "bias"))
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise CheckpointError(f"{path}: its head holds NaN or infinite values; train it again, or take another")
    names = _names(weights.head_config, len(weight))
    return Head(weight, bias, str(path), names, weights.inputs.get("grid_size"))


def _names(config: Mapping[str, Any] | None, count: int) -> list[str] | None:
    """Class names that `write_head` put beside the head, in whatever format it is now."""
    names = (config or {}).get("class_names")
    return [str(name) for name in names] if isinstance(names, list | tuple) and len(names) == count else None


def write_head(
    path: Path, weight: np.ndarray, bias: np.ndarray, names: Sequence[str], grid_size: float | None = None
) -> Path:
    """Write a head as the zoo's probe heads are, with the class names beside (``config["class_names"]``).

    Args:
        path: the file.
        weight: (classes, C).
        bias: (classes,).
        names: of the classes.
        grid_size: metres of the cells whose features it was trained on.

    Raises:
        CheckpointError: it cannot be written.
    """
    config = {"backbone_out_channels": int(weight.shape[1]), "num_classes": len(weight), "class_names": list(names)}
    state = {"seg_head.weight": torch.from_numpy(weight).float(), "seg_head.bias": torch.from_numpy(bias).float()}
    inputs = {} if grid_size is None else {"grid_size": grid_size}
    save_atomic({"config": config, "state_dict": state, "inputs": inputs}, path)
    return path

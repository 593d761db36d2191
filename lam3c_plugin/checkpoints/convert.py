"""Write weights in any of the layouts that ``weights.read`` takes; numbers and types stay as they are."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from data_tools.stages.files import replacing
from lam3c_plugin.checkpoints.keys import save_atomic
from lam3c_plugin.checkpoints.opening import require
from lam3c_plugin.checkpoints.weights import Weights
from lam3c_plugin.errors import CheckpointError

FORMATS = ("backbone", "safetensors", "head", "training", "segmentor")


def default_format(target: Path, weights: Weights) -> str:
    """What a target's ending says: safetensors, backbone (head, where there is only that) or folder.

    Raises:
        CheckpointError: an ending that looks like a file's, but says no format.
    """
    if target.suffix == ".safetensors":
        return "safetensors"
    if target.suffix in (".pth", ".pt", ".bin", ".ckpt"):
        return "backbone" if weights.backbone else "head"
    if re.fullmatch(r"\.[a-z]+\d?", target.suffix.lower()) and not target.is_dir():
        raise CheckpointError(
            f"{target}: the ending {target.suffix} says no format; take .pth, .safetensors, a folder, or give --to"
        )
    return "folder"


def targets(weights: Weights, target: Path, layout: str) -> list[Path]:
    """The files (or the folder) that `write` will make."""
    if layout in ("backbone", "safetensors") and weights.head and weights.backbone:
        return [target, target.with_name(f"{target.stem}_head{target.suffix}")]
    return [target]


def write(weights: Weights, target: Path, layout: str) -> list[Path]:
    """Write weights.

    Args:
        weights: from ``weights.read``.
        target: the file.
        layout: "backbone" (``{"config", "state_dict"}``, a head beside it), "safetensors" (likewise), "head" (the head
            alone), "training" (student and teacher with these weights, to start a run from), "segmentor" (backbone and
            head under the names of a fine-tuned model). The Hub's folder: `lam3c_plugin.zoo.publish.write_folder`.

    Returns:
        what was written.

    Raises:
        CheckpointError: the weights lack what the layout needs, or it cannot be written (nothing partial stays).
    """
    if layout not in FORMATS:
        raise CheckpointError(f"format {layout!r} is not one of {', '.join(FORMATS)}")
    if layout != "head" and not weights.backbone and not (layout == "safetensors" and weights.head):
        raise CheckpointError(f"{weights.source} is a head without a backbone; write it as head or safetensors")
    if layout in ("head", "segmentor") and weights.head is None:
        raise CheckpointError(f"{weights.source} has no head (seg_head.*); give one with --head FILE")
    files = targets(weights, target, layout)
    if layout == "safetensors":
        write_safetensors(weights, files[0])
        if len(files) > 1:
            save_head(weights, files[1])
        return files
    if layout in ("training", "segmentor"):
        prefixes = ("student.backbone.", "teacher.backbone.") if layout == "training" else ("backbone.",)
        state = {f"module.{prefix}{key}": value for prefix in prefixes for key, value in weights.backbone.items()}
        if layout == "segmentor":
            state.update({f"module.{key}": value for key, value in (weights.head or {}).items()})
        content = {"epoch": 0, "state_dict": state, "best_metric_value": 0.0, "inputs": weights.inputs}
        save_atomic(content, target)
        return files
    if layout == "backbone":
        save_atomic(_file(weights.backbone_config, weights.backbone, weights), files[0])
    if layout == "head" or len(files) > 1:
        save_atomic(_file(weights.head_config, weights.head, weights), files[-1])
    return files


def _file(config: object, tensors: Mapping[str, Tensor] | None, weights: Weights) -> dict[str, object]:
    return {"config": config, "state_dict": tensors, "inputs": weights.inputs}


def write_safetensors(weights: Weights, path: Path) -> None:
    """Write the backbone, its config and what it is fed with in the file's header; of a head alone, that."""
    if weights.backbone:
        save_tensors(weights.backbone, {"config": weights.backbone_config, "inputs": weights.inputs}, path)
    else:
        save_head(weights, path)


def save_head(weights: Weights, path: Path) -> None:
    """Write the head as safetensors."""
    save_tensors(weights.head or {}, {"head_config": weights.head_config, "inputs": weights.inputs}, path)


def save_tensors(tensors: Mapping[str, Tensor], header: Mapping[str, object], path: Path) -> None:
    """Write tensors as safetensors, ``header`` in the file's metadata.

    Raises:
        CheckpointError: it cannot be written; nothing partial stays.
    """
    safetensors = require("safetensors.torch")
    metadata = {"format": "pt", **{key: json.dumps(value) for key, value in header.items()}}
    try:
        with replacing(path) as temporary:
            safetensors.save_file({key: value.contiguous() for key, value in tensors.items()}, temporary, metadata)
            os.chmod(temporary, 0o666 & ~_umask())  # the library writes for the owner alone
    except (OSError, require("safetensors").SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"cannot save {path}: {reason}; check the folder and the free space") from error


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def tensors_digest(weights: Weights) -> str:
    """A SHA-256 of the tensors' names, types, shapes and numbers: the same in every format that holds them."""
    digest = hashlib.sha256()
    for key, value in sorted({**weights.backbone, **(weights.head or {})}.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()

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
from lam3c_plugin.zoo.card import Card, model_card
from lam3c_plugin.zoo.index import FORMAT
from lam3c_plugin.zoo.store import sha256_of, write_small

FORMATS = ("backbone", "safetensors", "folder", "head", "training", "segmentor")
SUMS, INDEX_FILE = "SHA256SUMS", "lam3c-zoo.json"
_MODEL, _HEAD, _CONFIG, _CARD = "model.safetensors", "head.safetensors", "config.json", "README.md"


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
    """The files (or the folder) that :func:`write` will make."""
    if layout in ("backbone", "safetensors") and weights.head and weights.backbone:
        return [target, target.with_name(f"{target.stem}_head{target.suffix}")]
    return [target]


def write(weights: Weights, target: Path, layout: str, card: Card | None = None) -> list[Path]:
    """Write weights.

    Args:
        weights: from ``weights.read``.
        target: file, or folder for the layout "folder".
        layout: "backbone" (``{"config", "state_dict"}``, a head beside it), "safetensors" (likewise), "folder" (for the
            Hub), "head" (the head alone), "training" (student and teacher with these weights, to start a run from),
            "segmentor" (backbone and head under the names of a fine-tuned model).
        card: what the folder's model card says.

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
    if layout == "folder":
        write_folder(weights, target, card or Card(target.name))
        return [target]
    files = targets(weights, target, layout)
    if layout == "safetensors":
        write_safetensors(weights, files[0])
        if len(files) > 1:
            _save_tensors(weights.head or {}, {"head_config": weights.head_config}, files[1])
        return files
    if layout in ("training", "segmentor"):
        prefixes = ("student.backbone.", "teacher.backbone.") if layout == "training" else ("backbone.",)
        state = {f"module.{prefix}{key}": value for prefix in prefixes for key, value in weights.backbone.items()}
        if layout == "segmentor":
            state.update({f"module.{key}": value for key, value in (weights.head or {}).items()})
        save_atomic({"epoch": 0, "state_dict": state, "best_metric_value": 0.0}, target)
        return files
    if layout == "backbone":
        save_atomic({"config": weights.backbone_config, "state_dict": weights.backbone}, files[0])
    if layout == "head" or len(files) > 1:
        save_atomic({"config": weights.head_config, "state_dict": weights.head}, files[-1])
    return files


def write_safetensors(weights: Weights, path: Path) -> None:
    """The backbone with its config in the file's header; of a head alone, that."""
    if weights.backbone:
        _save_tensors(weights.backbone, {"config": weights.backbone_config}, path)
    else:
        _save_tensors(weights.head or {}, {"head_config": weights.head_config}, path)


def _save_tensors(tensors: Mapping[str, Tensor], header: Mapping[str, object], path: Path) -> None:
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


def write_folder(weights: Weights, folder: Path, card: Card) -> None:
    """A folder for the Hub: weights, config, model card, an index of one entry for `lam3c zoo add`, and SHA256SUMS.

    Raises:
        CheckpointError: it is there and holds other things, or cannot be written.
    """
    names = [_MODEL, *([_HEAD] if weights.head else []), _CONFIG, _CARD, INDEX_FILE]
    if folder.is_file():
        raise CheckpointError(f"{folder} is a file; name a folder")
    others = sorted(p.name for p in folder.iterdir() if p.name not in (*names, _HEAD, SUMS)) if folder.is_dir() else []
    if others:
        raise CheckpointError(f"{folder} holds other files ({', '.join(others[:3])}); name a new folder")
    for name in (SUMS, _HEAD):  # sums are written last: a folder without them is not complete
        (folder / name).unlink(missing_ok=True)
    write_safetensors(weights, folder / _MODEL)
    if weights.head:
        _save_tensors(weights.head, {"head_config": weights.head_config}, folder / _HEAD)
    config = {"architecture": "PT-v3m2", "backbone": weights.backbone_config, "head": weights.head_config}
    write_small(folder / _CONFIG, json.dumps(config, indent=1) + "\n")
    digests = {name: sha256_of(folder / name) for name in (_MODEL, _HEAD) if (folder / name).is_file()}
    write_small(folder / _CARD, model_card(weights, card, digests))
    write_small(folder / INDEX_FILE, json.dumps(_index_of(weights, folder, card), indent=1) + "\n")
    sums = [f"{sha256_of(folder / name)}  {name}\n" for name in names]
    write_small(folder / SUMS, "".join(sums))


def _index_of(weights: Weights, folder: Path, card: Card) -> dict[str, object]:
    def entry(name: str, kind: str, summary: str, file: str, **more: object) -> dict[str, object]:
        path = folder / file
        known = {"sha256": sha256_of(path), "size": path.stat().st_size, "scores": dict(card.scores)}
        content = {"name": name, "kind": kind, "summary": summary, "licence": card.licence, "source": {"file": file}}
        return {**content, **known, **more}

    found = [entry(card.name, "backbone", card.summary, _MODEL, config=weights.backbone_config)]
    if weights.head and weights.head_config:
        classes = weights.head_config["num_classes"]
        text = f"linear head, {classes} classes, on {card.name}"
        found.append(entry(f"{card.name}-head", "head", text, _HEAD, backbone=card.name))
    return {"format": FORMAT, "entries": found}


def check_sums(folder: Path) -> list[str]:
    """Compare a folder's files with its SHA256SUMS; returns the names that agree.

    Raises:
        CheckpointError: there is no such list, or a file is missing or differs.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder} has no readable {SUMS}; `lam3c zoo convert` writes it") from error
    agreed = []
    for line in filter(None, lines):
        wanted, _, name = line.partition("  ")
        path = folder / Path(name).name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing, and {SUMS} lists it; get the folder again")
        if sha256_of(path) != wanted:
            raise CheckpointError(f"{path} differs from {SUMS}: damaged or changed; get the folder again")
        agreed.append(path.name)
    return agreed


def tensors_digest(weights: Weights) -> str:
    """A SHA-256 of the tensors' names, types, shapes and numbers: the same in every format that holds them."""
    digest = hashlib.sha256()
    for key, value in sorted({**weights.backbone, **(weights.head or {})}.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()

"""Publish a checkpoint: a Hub folder, uploaded with the user's own login where a repository is named."""

from __future__ import annotations

import json
from pathlib import Path

from lam3c_plugin.checkpoints import convert
from lam3c_plugin.checkpoints.opening import require
from lam3c_plugin.checkpoints.weights import Weights
from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.zoo.card import Card, model_card
from lam3c_plugin.zoo.hub import failures
from lam3c_plugin.zoo.index import FORMAT, INDEX_FILE
from lam3c_plugin.zoo.store import sha256_of, write_small

SUMS = "SHA256SUMS"
_MODEL, _HEAD, _CONFIG, _CARD = "model.safetensors", "head.safetensors", "config.json", "README.md"


def write(weights: Weights, target: Path, layout: str, card: Card | None = None) -> list[Path]:
    """Write weights as `checkpoints.convert.write` does, or as the layout "folder"; returns what was written."""
    if layout != "folder":
        return convert.write(weights, target, layout)
    if not weights.backbone:
        raise CheckpointError(f"{weights.source} is a head without a backbone; write it as head or safetensors")
    write_folder(weights, target, card or Card(target.name))
    return [target]


def write_folder(weights: Weights, folder: Path, card: Card) -> None:
    """Write a folder for the Hub: weights, config, model card, an index of one entry for `lam3c zoo add`, SHA256SUMS.

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
    convert.write_safetensors(weights, folder / _MODEL)
    if weights.head:
        convert.save_head(weights, folder / _HEAD)
    config = {"architecture": "PT-v3m2", "backbone": weights.backbone_config, "head": weights.head_config}
    config["inputs"] = weights.inputs
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

    grid = {key: value for key, value in weights.inputs.items() if key == "grid_size"}
    found = [entry(card.name, "backbone", card.summary, _MODEL, config=weights.backbone_config, **grid)]
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


def upload(folder: Path, repo: str, *, private: bool = False) -> str:
    """Upload a folder with the token that ``hf auth login`` or ``HF_TOKEN`` gave; returns the commit's address.

    Raises:
        CheckpointError: no login, no right, no connection. The folder stays.
    """
    hub, errors = require("huggingface_hub"), require("huggingface_hub.errors")
    left = f"{folder} is complete and stays"
    if not hub.get_token():
        raise CheckpointError(f"nobody is logged in to the Hub; run `hf auth login`, then this again; {left}")
    try:
        api = hub.HfApi(library_name="lam3c")
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=repo, folder_path=str(folder), commit_message="LAM3C checkpoint")
    except (*failures(errors), ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"uploading to {repo} failed ({reason:.160}); check the name, your rights and the connection; {left}"
        ) from error
    return str(getattr(commit, "commit_url", commit))

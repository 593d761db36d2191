"""The model card of a published checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lam3c_plugin.checkpoints.weights import Weights
from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.zoo.index import LICENCE_URLS

_CITATION = """@inproceedings{lam3c2026,
  title     = {3D sans 3D Scans: Scalable Pre-training from Video-Generated Point Clouds},
  booktitle = {CVPR},
  year      = {2026},
  note      = {arXiv:2512.23042}
}"""


@dataclass(frozen=True)
class Card:
    """What a model card says besides what the weights themselves tell.

    Attributes:
        name: of the entry: lower case, digits, '.', '_', '-'.
        summary: one line.
        licence: an id such as cc-by-nc-4.0; weights trained on RoomTours, or from LAM3C's weights, are that.
        scores: benchmark -> percent.
        repo: Hub repository it will be in, where known.
    """

    name: str
    summary: str = "PTv3 backbone, pre-trained with LAM3C"
    licence: str = "cc-by-nc-4.0"
    scores: Mapping[str, float] = field(default_factory=dict)
    repo: str | None = None


def entry_name(text: str) -> str:
    """A name as the index wants it, out of a file's or folder's."""
    name = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")
    if len(name) < 2:
        raise CheckpointError(f"no name can be made of {text!r}; give one with --name")
    return name[:80]


def model_card(weights: Weights, card: Card, digests: Mapping[str, str]) -> str:
    """README.md of a Hub folder: front matter, use, architecture, scores, licence; ``digests``: file -> SHA-256."""
    config = weights.backbone_config or {}
    front = [f"license: {card.licence.lower()}", "library_name: lam3c-plugin", "tags:"]
    front += [f"- {tag}" for tag in ("point-cloud", "3d", "self-supervised", "point-transformer-v3", "lam3c")]
    place = card.repo or "PATH_OF_THIS_FOLDER"
    channels = config.get("enc_channels", [])
    dtypes = ", ".join(sorted({str(value.dtype).removeprefix("torch.") for value in weights.backbone.values()}))
    rows = [
        ("architecture", "PT-v3m2 (Point Transformer V3 as Sonata and LAM3C use it)"),
        ("parameters", f"{weights.parameters:,} ({dtypes})"),
        ("encoder depths", ", ".join(map(str, config.get("enc_depths", [])))),
        ("channels", f"{', '.join(map(str, channels))}; {sum(channels):,} with all levels"),
        ("input", f"{config.get('in_channels')} channels; LAM3C: xyz (m), rgb in [0, 1], unit normal; 2 cm cells"),
    ]
    if weights.head_config:
        rows.append(("head", f"linear, {weights.head_config['num_classes']} classes (`head.safetensors`)"))
    rows += [(f"SHA-256 of `{name}`", f"`{digest}`") for name, digest in digests.items()]
    parts = [
        "---\n" + "\n".join(front) + "\n---",
        f"# {card.name}\n\n{card.summary}.",
        "## Use\n\nWith the LAM3C plugin (PyTorch alone, CPU or GPU):\n\n```sh\n"
        f"lam3c zoo add {place}\nlam3c encode room.ply --checkpoint {card.name} --out features\n```",
        "| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in rows),
    ]
    if card.scores:
        table = "\n".join(f"| {key} | {value:g} |" for key, value in card.scores.items())
        parts.append(
            f"## Scores\n\nIn percent (mIoU unless said), as its publisher reports them.\n\n| | |\n|---|---|\n{table}"
        )
    notes = "".join(f"- {note}\n" for note in weights.notes)
    parts.append("## Config\n\n" + (notes + "\n" if notes else "") + f"```json\n{json.dumps(config, indent=1)}\n```")
    parts.append(_licence(card))
    parts.append(f"## Citation\n\n```bibtex\n{_CITATION}\n```")
    return "\n\n".join(parts) + "\n"


def _licence(card: Card) -> str:
    url = LICENCE_URLS.get(card.licence.lower())
    text = f"## Licence\n\n{card.licence.upper()}" + (f", <{url}>" if url else "") + "."
    if "-nc" in card.licence.lower():
        text += " Weights that were trained on RoomTours, or started from LAM3C's, are not for commercial use."
    return text

"""The index that comes with the package. Revisions and digests that nobody has verified are left open, not invented.

For such an entry the first download records the commit and the SHA-256 in a lock file, and later ones must equal them.
Scores in percent mIoU: the paper's (arXiv 2512.23042); "card" marks those of the model card, where the two differ.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lam3c_plugin.zoo.index import FORMAT

_LAM3C = "aist-cvrt/lam3c-roomtours"
_PAGE = f"https://huggingface.co/{_LAM3C}"
_NC = "cc-by-nc-4.0"
#: weights that come with the package, each a .safetensors with a card (.json) of the same name beside it
WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
TINY = "lam3c-tiny"


def packaged() -> list[dict[str, Any]]:
    """Entries of the weights in the package."""
    found = []
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        kept = {key: card[key] for key in ("licence", "grid_size", "summary") if key in card}
        summary = "LAM3C, small, trained on synthetic rooms; comes with this package"
        entry = {"name": path.stem, "kind": "backbone", "summary": summary, "source": {"path": str(path)}}
        found.append({**entry, **kept})
    return found


def _lam3c(size: str, summary: str, scores: dict[str, float]) -> list[dict[str, Any]]:
    name, stem = f"lam3c-ptv3-{size}", f"lam3c_ptv3-{size}_roomtours49k"
    spellings = [f"{stem}_probe-head_scannet.pth", f"{stem}_probe-head_scennet.pth"]
    return [
        {
            "name": name,
            "kind": "backbone",
            "summary": summary,
            "licence": _NC,
            "grid_size": 0.02,
            "source": {"hub": _LAM3C, "files": [f"{stem}.pth"]},
            "scores": scores,
            "page": _PAGE,
        },
        {
            "name": f"{name}-scannet-probe",
            "kind": "head",
            "summary": f"linear probe head, 20 ScanNet classes, on {name}",
            "licence": _NC,
            "source": {"hub": _LAM3C, "files": spellings},
            "backbone": name,
            "scores": {"ScanNet LP": scores["ScanNet LP"]},
            "page": _PAGE,
        },
    ]


INDEX: dict[str, Any] = {
    "format": FORMAT,
    "entries": [
        *_lam3c(
            "base",
            "LAM3C, PTv3 Base (108 M), 49 k RoomTours scenes",
            {
                "ScanNet LP": 66.0,
                "ScanNet FT": 77.7,
                "ScanNet FT (card)": 75.1,
                "ScanNet200 FT": 35.1,
                "S3DIS FT": 72.9,
                "ScanNet++ LP (card)": 34.2,
                "ScanNet++ FT (card)": 43.1,
            },
        ),
        *_lam3c(
            "large",
            "LAM3C, PTv3 Large (208 M), 49 k RoomTours scenes",
            {
                "ScanNet LP": 69.5,
                "ScanNet FT": 79.5,
                "ScanNet200 FT": 35.9,
                "ScanNet200 FT (card)": 35.5,
                "S3DIS FT": 75.5,
                "ScanNet++ LP (card)": 35.9,
                "ScanNet++ FT (card)": 43.1,
            },
        ),
        {
            "name": "sonata-ptv3-base",
            "kind": "backbone",
            "summary": "Sonata, PTv3 Base (108 M), 140 k real and synthetic scenes; for comparison",
            "licence": _NC,
            "grid_size": 0.02,
            "source": {"hub": "facebook/sonata", "files": ["sonata.pth"]},
            "scores": {"ScanNet LP": 72.5, "ScanNet FT": 79.4, "ScanNet200 FT": 36.8, "S3DIS FT": 76.0},
            "page": "https://github.com/facebookresearch/sonata",
        },
    ],
}

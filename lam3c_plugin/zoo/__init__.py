"""The checkpoint zoo: names, downloads, verification, conversion (``lam3c zoo``; docs/zoo.md).

path = resolve("lam3c-ptv3-base")
weights = read(path)
weights.backbone_config, weights.backbone
"""

from .added import add
from .architecture import LEAST_SHARE, guess_config
from .card import Card
from .convert import write, write_folder
from .index import Entry, find
from .resolve import obtain, open_weights, resolve
from .store import entries, home
from .weights import Weights, read

__all__ = [
    "LEAST_SHARE",
    "Card",
    "Entry",
    "Weights",
    "add",
    "entries",
    "find",
    "guess_config",
    "home",
    "obtain",
    "open_weights",
    "read",
    "resolve",
    "write",
    "write_folder",
]

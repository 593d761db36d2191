"""The checkpoint zoo: names, downloads, verification, conversion (``lam3c zoo``; docs/zoo.md).

path = resolve("lam3c-ptv3-base")
weights = read(path)
weights.backbone_config, weights.backbone
"""

from .architecture import LEAST_SHARE, guess_config
from .index import Entry, find
from .resolve import obtain, resolve
from .store import entries, home
from .weights import Weights, read

__all__ = ["LEAST_SHARE", "Entry", "Weights", "entries", "find", "guess_config", "home", "obtain", "read", "resolve"]

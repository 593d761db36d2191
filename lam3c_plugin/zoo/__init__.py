"""The checkpoint zoo: names, downloads, verification (``lam3c zoo``; docs/zoo.md).

path = resolve("lam3c-ptv3-base")
weights = lam3c_plugin.checkpoints.weights.read(path)
weights.backbone_config, weights.backbone
"""

from lam3c_plugin.zoo.added import add
from lam3c_plugin.zoo.card import Card
from lam3c_plugin.zoo.index import Entry, find
from lam3c_plugin.zoo.resolve import obtain, open_weights, resolve
from lam3c_plugin.zoo.store import entries, home

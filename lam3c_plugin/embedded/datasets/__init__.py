"""Datasets over scene folders, and how samples become a batch; same names and semantics as the host's."""

from lam3c_plugin.embedded.datasets.collate import collate_fn, point_collate_fn
from lam3c_plugin.embedded.datasets.defaults import ConcatDataset, DefaultDataset
from lam3c_plugin.embedded.datasets.folders import list_split, natural_key
from lam3c_plugin.embedded.registry import build_dataset

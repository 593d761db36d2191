"""Datasets over scene folders, and how samples become a batch; same names and semantics as the host's."""

from lam3c_plugin.standalone.registry import build_dataset

from .collate import collate_fn, point_collate_fn
from .defaults import ConcatDataset, DefaultDataset
from .folders import list_split, natural_key

__all__ = [
    "ConcatDataset",
    "DefaultDataset",
    "build_dataset",
    "collate_fn",
    "list_split",
    "natural_key",
    "point_collate_fn",
]

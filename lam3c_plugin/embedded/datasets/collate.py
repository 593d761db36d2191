"""How samples become a batch: points one after the other, offsets as running sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from lam3c_plugin.errors import DataError
from lam3c_plugin.ops.segments import offset2batch, offset2bincount

Batch = dict[str, Any]


def collate_fn(batch: Sequence[Any]) -> Any:
    """Join samples.

    Dicts are joined by key: tensors are concatenated, entries with "offset" in their name become running sums over
    the batch (B,) int64, strings become a list, numbers a (B,) tensor.

    Raises:
        DataError: the samples of a batch have different keys.
    """
    if not isinstance(batch, Sequence):
        raise TypeError(f"collate_fn needs a list of samples, got {type(batch).__name__}")
    first = batch[0]
    if isinstance(first, Tensor):
        return torch.cat(list(batch))
    if isinstance(first, str):
        return list(batch)
    if isinstance(first, Mapping):
        return {key: _collate_key(batch, key) for key in first}
    if isinstance(first, list):
        return torch.cat([torch.tensor(item) for item in batch])
    return default_collate(batch)


def _collate_key(batch: Sequence[Mapping[str, Any]], key: str) -> Any:
    for sample in batch:
        if key not in sample:
            names = f"{batch[0].get('name', 'one sample')} has {key!r}, {sample.get('name', 'another')} has not"
            raise DataError(f"samples of one batch differ: {names}; give all datasets the same Collect keys")
    values = [sample[key] for sample in batch]
    if "offset" not in key:
        return collate_fn(values)
    return torch.cat([offset2bincount(torch.as_tensor(value)) for value in values]).cumsum(0)


def point_collate_fn(batch: Sequence[Mapping[str, Any]], mix_prob: float = 0) -> Batch:
    """`collate_fn`, then, with probability ``mix_prob``, scenes 2i and 2i + 1 become one (Mix3D).

    Mixed are the clouds under ``offset`` and, view by view, those under ``<prefix>_offset``. Instances of the second
    scene are numbered on behind the first's, and ``grid_coord`` is made anew where ``grid_size`` is there.
    """
    if not isinstance(batch[0], Mapping):
        raise TypeError(f"point_collate_fn needs samples that are dicts, got {type(batch[0]).__name__}")
    joined = collate_fn(batch)
    if np.random.rand() < mix_prob:
        for key in [key for key in joined if key == "offset" or key.endswith("_offset")]:
            _mix(joined, key, num_scenes=len(batch))
    return joined


def _mix(batch: Batch, offset_key: str, num_scenes: int) -> None:
    """Join the clouds of neighbouring scenes under one offset, in place."""
    offset = batch[offset_key]
    prefix = offset_key[: -len("offset")]
    others = [key for key in batch if key.endswith("_offset")]
    keys = [
        key
        for key, value in batch.items()
        if isinstance(value, Tensor)
        and "offset" not in key
        and (key.startswith(prefix) if prefix else not any(key.startswith(other[: -len("offset")]) for other in others))
        and len(value) == offset[-1]
    ]
    if not prefix and "instance" in batch:
        _renumber_instances(batch, offset)
    count = offset2bincount(offset)
    num_views = len(offset) // num_scenes
    cloud = torch.arange(len(offset))
    scene, view = cloud // num_views, cloud % num_views
    target = scene // 2 * num_views + view
    # stable: the first scene's points stay in front of the second's
    rows = torch.argsort(torch.repeat_interleave(target, count), stable=True)
    for key in keys:
        batch[key] = batch[key][rows]
    batch[offset_key] = torch.zeros(int(target.max()) + 1, dtype=count.dtype).index_add_(0, target, count).cumsum(0)
    if f"{prefix}grid_coord" in keys and "grid_size" in batch:
        _recompute_grid(batch, prefix)


def _renumber_instances(batch: Batch, offset: Tensor) -> None:
    instance = batch["instance"] = batch["instance"].clone()
    ends = offset.tolist()
    for first in range(0, len(ends) - 1, 2):
        start = ends[first - 1] if first else 0
        known = int(instance[start : ends[first]].max()) + 1 if ends[first] > start else 0
        second = instance[ends[first] : ends[first + 1]]
        second[second != -1] += known


def _recompute_grid(batch: Batch, prefix: str) -> None:
    """Two scenes had their own cell (0, 0, 0); the mixed cloud has one."""
    cloud = offset2batch(batch[f"{prefix}offset"])
    grid = torch.floor(batch[f"{prefix}coord"] / batch["grid_size"].flatten()[0]).long()
    lowest = grid.new_full((len(batch[f"{prefix}offset"]), 3), torch.iinfo(torch.int64).max)
    lowest.scatter_reduce_(0, cloud[:, None].expand(-1, 3), grid, "amin")
    batch[f"{prefix}grid_coord"] = grid - lowest[cloud]

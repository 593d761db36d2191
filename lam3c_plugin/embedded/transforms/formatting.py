"""Transforms that rename, convert and gather entries of a sample."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lam3c_plugin.embedded.registry import TRANSFORMS
from lam3c_plugin.embedded.transforms.compose import Sample, as_float32, scene_name
from lam3c_plugin.errors import ConfigError, DataError


@TRANSFORMS.register_module()
class Copy:
    """Copies entries under other names: ``keys_dict`` is {from: to}."""

    def __init__(self, keys_dict: Mapping[str, str] | None = None) -> None:
        self.keys_dict = dict(keys_dict or {"coord": "origin_coord", "segment": "origin_segment"})

    def __call__(self, data_dict: Sample) -> Sample:
        for source, target in self.keys_dict.items():
            value = _entry(data_dict, source, "Copy")
            if isinstance(value, torch.Tensor):
                data_dict[target] = value.clone().detach()
            else:
                data_dict[target] = copy.deepcopy(value)
        return data_dict


@TRANSFORMS.register_module()
class Update:
    """Sets entries to fixed values, for example ``grid_size`` or ``index_valid_keys``."""

    def __init__(self, keys_dict: Mapping[str, Any] | None = None) -> None:
        self.keys_dict = dict(keys_dict or {})

    def __call__(self, data_dict: Sample) -> Sample:
        data_dict.update(self.keys_dict)
        return data_dict


@TRANSFORMS.register_module()
class ToTensor:
    """Turns arrays and numbers, in dicts and lists too, into tensors: integers to int64, floats to float32.

    Strings stay. Memory is shared with a float32 or int64 array.

    Raises:
        TypeError: an entry of another type.
    """

    def __call__(self, data: Any) -> Any:
        if isinstance(data, (torch.Tensor, str)):
            return data
        if isinstance(data, (bool, int, float, np.generic)):
            return self(np.array([data])) if not isinstance(data, bool) else torch.tensor([int(data)])
        if isinstance(data, np.ndarray):
            return self._from_array(data)
        if isinstance(data, Mapping):
            return {key: self(value) for key, value in data.items()}
        if isinstance(data, Sequence):
            return [self(value) for value in data]
        raise TypeError(f"type {type(data)} cannot be converted to tensor.")

    @staticmethod
    def _from_array(array: np.ndarray) -> torch.Tensor:
        if array.dtype == bool:
            kind = np.bool_
        elif np.issubdtype(array.dtype, np.integer):
            kind = np.int64
        elif np.issubdtype(array.dtype, np.floating):
            kind = np.float32
        else:
            raise TypeError(f"an array of {array.dtype} cannot be converted to tensor.")
        array = np.ascontiguousarray(array, dtype=kind)
        return torch.from_numpy(array if array.flags.writeable else array.copy())


@TRANSFORMS.register_module()
class Collect:
    """The sample as the model gets it: chosen entries, sizes, and entries joined to features.

    Args:
        keys: entries passed on.
        offset_keys_dict: {name: key}: ``name`` is the number of rows of ``key``, (1,) int64; default offset: coord.
        kwargs: ``<name>_keys=(...)``: ``<name>`` is these entries side by side, (N, sum of channels) float32.
            LAM3C's ``global_feat`` is coordinates, colour, normal, in this order: 9 channels.

    Raises:
        DataError: the sample lacks an entry; the scene and the entry are named.
    """

    def __init__(
        self, keys: str | Sequence[str], offset_keys_dict: Mapping[str, str] | None = None, **kwargs: Sequence[str]
    ) -> None:
        self.keys = (keys,) if isinstance(keys, str) else tuple(keys)
        self.offset_keys = {"offset": "coord"} if offset_keys_dict is None else dict(offset_keys_dict)
        for name, value in kwargs.items():
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise ConfigError(f"Collect: {name} must be a list of keys, got {value!r}")
        self.kwargs = kwargs

    def __call__(self, data_dict: Sample) -> Sample:
        data = {key: _entry(data_dict, key, "Collect") for key in self.keys}
        for name, key in self.offset_keys.items():
            data[name] = torch.tensor([len(_entry(data_dict, key, "Collect"))])
        for name, keys in self.kwargs.items():
            parts = [_entry(data_dict, key, "Collect").float() for key in keys]
            data[name.replace("_keys", "")] = torch.cat(parts, dim=1)
        return data


def _entry(data_dict: Sample, key: str, who: str) -> Any:
    if key not in data_dict:
        raise DataError(f"{scene_name(data_dict)}: {who} needs {key!r}, the sample has {sorted(data_dict)}")
    return data_dict[key]


@TRANSFORMS.register_module()
class InstanceParser:
    """Targets of instance segmentation: instances numbered 0 to I - 1, their centres and boxes.

    Sets ``instance`` (N,), ``instance_centroid`` (N, 3) in metres (the ignore value where there is no instance) and
    ``bbox`` (I, 8): centre, size, angle 0, class counted without the ignored classes.

    Args:
        segment_ignore_index: classes whose points belong to no instance.
        instance_ignore_index: number of "no instance".
    """

    def __init__(self, segment_ignore_index: Sequence[int] = (-1, 0, 1), instance_ignore_index: int = -1) -> None:
        self.segment_ignore_index = tuple(segment_ignore_index)
        self.instance_ignore_index = instance_ignore_index

    def __call__(self, data_dict: Sample) -> Sample:
        coord, segment = as_float32(data_dict["coord"]), data_dict["segment"]
        mask = ~np.isin(segment, self.segment_ignore_index)
        instance = np.full_like(data_dict["instance"], self.instance_ignore_index)
        unique, inverse = np.unique(data_dict["instance"][mask], return_inverse=True)
        instance[mask] = inverse
        centroid = np.full((len(coord), 3), self.instance_ignore_index, dtype=np.float32)
        bbox = np.zeros((len(unique), 8), dtype=np.float32)
        vacant = np.array([index for index in self.segment_ignore_index if index >= 0])
        if len(unique):
            order = np.argsort(inverse, kind="stable")
            start = np.searchsorted(inverse[order], np.arange(len(unique)))
            points = coord[mask][order]
            low, high = np.minimum.reduceat(points, start), np.maximum.reduceat(points, start)
            count = np.diff(start, append=len(points))[:, None]
            mean = np.add.reduceat(points, start, dtype=np.float64) / count
            centroid[mask] = mean[inverse]
            label = segment[mask][order][start]
            label = label - (label[:, None] > vacant).sum(axis=1)
            bbox = np.concatenate([(low + high) / 2, high - low, np.zeros_like(count), label[:, None]], axis=1)
        data_dict.update(instance=instance, instance_centroid=centroid, bbox=as_float32(bbox))
        return data_dict

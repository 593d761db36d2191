"""The labelled benchmarks under the host's names: ScanNet (20 and 200 classes), ScanNet++ and S3DIS."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from lam3c_plugin.embedded.datasets.defaults import DefaultDataset
from lam3c_plugin.embedded.registry import DATASETS
from lam3c_plugin.errors import ConfigError, DataError


@DATASETS.register_module()
class ScanNetDataset(DefaultDataset):
    """ScanNet v2 as the host's preprocessing writes it: labels are in ``segment20.npy``.

    Args:
        lr_file: text file with the names of the training scenes to use, one a line (limited reconstructions).
        la_file: torch file with a mapping from scene name to the indices of its labelled points (limited annotations);
            all other points get ``ignore_index``.

    Raises:
        DataError: a list cannot be read, or lacks a scene.
    """

    LABELS = "segment20"
    VALID_ASSETS = ("coord", "color", "normal", "segment20", "instance")

    def __init__(self, lr_file: str | None = None, la_file: str | None = None, **kwargs: Any) -> None:
        self.la_file = la_file
        self.scenes = _read_names(lr_file) if lr_file else None
        self.points = _read_points(la_file) if la_file else None
        super().__init__(**kwargs)

    def get_data_list(self) -> list[str]:
        if self.scenes is None:
            return super().get_data_list()
        return [os.path.join(self.data_root, "train", name) for name in self.scenes]

    def get_data(self, idx: int) -> dict[str, Any]:
        sample = super().get_data(idx)
        if self.LABELS in sample:
            sample["segment"] = sample.pop(self.LABELS).reshape(-1).astype(np.int32)
        if self.points is not None:
            if sample["name"] not in self.points:
                raise DataError(f"{self.la_file} has no points for scene {sample['name']}")
            chosen = np.asarray(self.points[sample["name"]]).reshape(-1)
            segment = np.full_like(sample["segment"], self.ignore_index)
            segment[chosen] = sample["segment"][chosen]
            sample["segment"], sample["sampled_index"] = segment, chosen
        return sample


@DATASETS.register_module()
class ScanNet200Dataset(ScanNetDataset):
    """ScanNet v2 with the labels of ``segment200.npy``."""

    LABELS = "segment200"
    VALID_ASSETS = ("coord", "color", "normal", "segment200", "instance")


@DATASETS.register_module()
class ScanNetPPDataset(DefaultDataset):
    """ScanNet++: up to three labels a point, (N, 3); the first counts."""

    VALID_ASSETS = ("coord", "color", "normal", "superpoint", "segment", "instance")

    def __init__(self, multilabel: bool = False, **kwargs: Any) -> None:
        if multilabel:
            raise ConfigError("ScanNetPPDataset: multilabel=True is in no engine; leave it False")
        super().__init__(**kwargs)

    def get_data(self, idx: int) -> dict[str, Any]:
        sample = super().get_data(idx)
        for key in ("segment", "instance"):  # the base class has laid the rows end to end
            sample[key] = sample[key].reshape(len(sample["coord"]), -1)[:, 0].copy()
        return sample


@DATASETS.register_module()
class S3DISDataset(DefaultDataset):
    """S3DIS: the areas are the splits, and rooms of two areas may share a name."""

    def get_data_name(self, idx: int) -> str:
        area, room = os.path.split(self.data_list[idx % len(self.data_list)])
        return f"{os.path.basename(area)}-{room}"


def _read_names(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().split()
    except OSError as error:
        raise DataError(f"cannot read the list of scenes {os.path.abspath(path)}: {error.strerror}") from None


def _read_points(path: str) -> Mapping[str, Any]:
    core = getattr(np, "_core", None) or np.core
    arrays = [core.multiarray._reconstruct, np.ndarray, np.dtype, type(np.dtype(np.int64)), type(np.dtype(np.int32))]
    try:
        with torch.serialization.safe_globals(arrays):
            points = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"cannot read the labelled points {os.path.abspath(path)}: {reason:.120}") from None
    if not isinstance(points, Mapping):
        raise DataError(f"{os.path.abspath(path)} holds a {type(points).__name__}, not scene names and point indices")
    return points

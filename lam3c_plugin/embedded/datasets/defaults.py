"""DefaultDataset and ConcatDataset."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from lam3c_plugin.embedded.datasets.folders import list_split
from lam3c_plugin.embedded.logger import get_root_logger
from lam3c_plugin.embedded.registry import DATASETS, build_dataset
from lam3c_plugin.embedded.transforms import Compose, build_transform
from lam3c_plugin.errors import ConfigError, DataError


@DATASETS.register_module()
class DefaultDataset(Dataset):
    """Scenes ``<data_root>/<split>/<scene>/{coord,color,normal,...}.npy`` as samples.

    A sample has coord (N, 3) in metres, color (N, 3) 0-255 and normal (N, 3) in float32 where the files exist, segment
    and instance (N,) int32 (-1 where the files are missing), name and split; then the transforms.

    Args:
        split: a folder under ``data_root``, a JSON list under it, or several of them.
        data_root: folder with the splits.
        transform: list of transform configs.
        test_mode: give samples for evaluation: ``segment``, ``name``, (``origin_segment``, ``inverse``) and
            ``fragment_list``, the parts of every augmented copy of the scene whose predictions are added up.
        test_cfg: with ``test_mode``: voxelize, crop, post_transform, aug_transform.
        cache: the host's shared-memory cache; not in this engine.
        ignore_index: label of points without one.
        loop: passes over the scenes in one epoch (1 in test mode).

    Raises:
        DataError: a split is missing, or a scene cannot be read.
    """

    VALID_ASSETS = ("coord", "color", "normal", "strength", "segment", "instance", "pose")

    def __init__(
        self,
        split: str | Sequence[str] = "train",
        data_root: str = "data/dataset",
        transform: Sequence[Mapping[str, Any]] | None = None,
        test_mode: bool = False,
        test_cfg: Mapping[str, Any] | None = None,
        cache: bool = False,
        ignore_index: int = -1,
        loop: int = 1,
    ) -> None:
        super().__init__()
        self.data_root = data_root
        self.split = split
        self.transform = Compose(transform)
        self.cache = cache
        self.ignore_index = ignore_index
        self.loop = 1 if test_mode else loop
        self.test_mode = test_mode
        self.test_cfg = test_cfg if test_mode else None
        if cache:
            raise ConfigError("cache=True needs the host's shared memory; the embedded engine has none: leave it False")
        if test_mode:
            self._build_test_transforms()
        self.data_list = self.get_data_list()
        get_root_logger().info(
            f"{len(self.data_list)} x {self.loop} samples in {os.path.basename(os.path.normpath(data_root))} {split}"
        )

    def _build_test_transforms(self) -> None:
        if self.test_cfg is None:
            raise ConfigError(f"{type(self).__name__}: test_mode=True needs test_cfg")
        voxelize, crop = self.test_cfg.get("voxelize"), self.test_cfg.get("crop")
        self.test_voxelize = build_transform(voxelize) if voxelize else None
        self.test_crop = build_transform(crop) if crop else None
        self.post_transform = Compose(self.test_cfg.get("post_transform"))
        self.aug_transform = [Compose(aug) for aug in self.test_cfg.get("aug_transform") or [[]]]

    def get_data_list(self) -> list[str]:
        """The scenes' folders."""
        splits = [self.split] if isinstance(self.split, str) else list(self.split)
        return [scene for split in splits for scene in list_split(self.data_root, split)]

    def get_data(self, idx: int) -> dict[str, Any]:
        """The scene as it is on disk, before the transforms."""
        path = self.data_list[idx % len(self.data_list)]
        sample: dict[str, Any] = {}
        try:
            for file_name in sorted(os.listdir(path)):
                key, extension = os.path.splitext(file_name)
                if extension == ".npy" and key in self.VALID_ASSETS:
                    sample[key] = np.load(os.path.join(path, file_name))
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"scene {os.path.abspath(path)} cannot be read: {error}") from None
        if "coord" not in sample:
            raise DataError(f"scene {os.path.abspath(path)} has no coord.npy")
        sample["name"] = self.get_data_name(idx)
        sample["split"] = self.get_split_name(idx)
        for key in ("coord", "color", "normal"):
            if key in sample:
                sample[key] = sample[key].astype(np.float32)
        for key in ("segment", "instance"):
            if key in sample:
                sample[key] = sample[key].reshape(-1).astype(np.int32)
            else:
                sample[key] = np.full(len(sample["coord"]), -1, dtype=np.int32)
        return sample

    def get_data_name(self, idx: int) -> str:
        """Name of the scene's folder."""
        return os.path.basename(self.data_list[idx % len(self.data_list)])

    def get_split_name(self, idx: int) -> str:
        """Name of the folder that holds the scene."""
        return os.path.basename(os.path.dirname(self.data_list[idx % len(self.data_list)]))

    def prepare_train_data(self, idx: int) -> dict[str, Any]:
        """The transformed scene."""
        return self.transform(self.get_data(idx))

    def prepare_test_data(self, idx: int) -> dict[str, Any]:
        """Labels and fragments of the scene; see ``test_mode``."""
        data_dict = self.transform(self.get_data(idx))
        result = {"segment": data_dict.pop("segment"), "name": data_dict.pop("name")}
        if "origin_segment" in data_dict:
            if "inverse" not in data_dict:
                raise ConfigError("a transform that keeps origin_segment needs GridSample(return_inverse=True)")
            result["origin_segment"] = data_dict.pop("origin_segment")
            result["inverse"] = data_dict.pop("inverse")
        fragments = []
        for augment in self.aug_transform:
            data = augment(deepcopy(data_dict))
            if self.test_voxelize is not None:
                parts = self.test_voxelize(data)
            else:
                data["index"] = np.arange(len(data["coord"]))
                parts = [data]
            for part in parts:
                fragments += self.test_crop(part) if self.test_crop is not None else [part]
        result["fragment_list"] = [self.post_transform(fragment) for fragment in fragments]
        return result

    def __getitem__(self, idx: int) -> dict[str, Any]:
        return self.prepare_test_data(idx) if self.test_mode else self.prepare_train_data(idx)

    def __len__(self) -> int:
        return len(self.data_list) * self.loop


@DATASETS.register_module()
class ConcatDataset(Dataset):
    """Several datasets as one.

    Args:
        datasets: list of dataset configs.
        loop: passes over all of them in one epoch.
    """

    def __init__(self, datasets: Sequence[Mapping[str, Any]], loop: int = 1) -> None:
        super().__init__()
        self.datasets = [build_dataset(cfg) for cfg in datasets]
        self.loop = loop
        self.data_list = self.get_data_list()
        get_root_logger().info(f"{len(self.data_list)} x {self.loop} samples in the concatenated set")

    def get_data_list(self) -> list[tuple[int, int]]:
        """(dataset, index in it) of every sample."""
        return [(number, index) for number, dataset in enumerate(self.datasets) for index in range(len(dataset))]

    def get_data(self, idx: int) -> dict[str, Any]:
        """The transformed sample."""
        number, index = self.data_list[idx % len(self.data_list)]
        return self.datasets[number][index]

    def get_data_name(self, idx: int) -> str:
        """Name of the sample's scene."""
        number, index = self.data_list[idx % len(self.data_list)]
        return self.datasets[number].get_data_name(index)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        return self.get_data(idx)

    def __len__(self) -> int:
        return len(self.data_list) * self.loop

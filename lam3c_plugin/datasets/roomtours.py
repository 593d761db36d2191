"""RoomToursDataset: folders of video-generated rooms (arXiv 2512.23042, "RoomTours") for either engine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lam3c_plugin import host
from lam3c_plugin.datasets.scene import read_scene
from lam3c_plugin.datasets.shards import Shards
from lam3c_plugin.embedded.datasets.folders import list_split, natural_key
from lam3c_plugin.errors import ConfigError, DataError

LAYOUT = "<root>/<split>/<scene>/{coord,color,normal}.npy"
CURE = "python data_tools/package.py CLOUDS... --out data/roomtours"


@host.DATASETS.register_module()
class RoomToursDataset(host.DefaultDataset):
    """Scenes without labels: ``<root>/<split>/<scene>/{coord[,color][,normal]}.npy``, or the same in tar files.

    Tar files are those of ``package.py --shards`` (`lam3c_plugin.datasets.shards`): their scenes have the names, order
    and samples that they have as folders, in every split, list of folders and subset.

    A sample has coord (N, 3) in metres (z up), color (N, 3) 0-255, normal (N, 3) in float32, zeros where a scene has
    no colour or normal, segment and instance (N,) int32, all -1 (label files are not read), name and split; then the
    transforms. It mixes with other datasets in a ``ConcatDataset``.

    A broken scene (see `read_scene`, or one that a transform refuses) is named in the log once, counted in
    `skipped` over all workers of this process's loader, and replaced by the next good one.

    Args:
        split: a folder under the root, a JSON file under it with a list of folders, or several of them.
        data_root: the root, or several; every root must have every split.
        transform: list of transform configs.
        subset: keep this many scenes (int) or this share of them (float in (0, 1]). The choice depends on the scenes'
            names and ``subset_seed`` alone, and a smaller subset lies within a larger one.
        subset_seed: another number, another choice.
        on_error: "skip" broken scenes, or "raise" at the first.
        color_scale: factor that brings the colours on disk to 0-255 (255 for colours in 0-1).
        loop: passes over the scenes in one epoch.
        kwargs: the host's other arguments.

    Raises:
        DataError: a root is missing or has no scenes; all scenes are broken; a broken scene with ``on_error="raise"``.
        ConfigError: an argument makes no sense, or ``test_mode`` / ``cache`` is asked for.
    """

    def __init__(
        self,
        split: str | Sequence[str] = "train",
        data_root: str | Sequence[str] = "data/roomtours",
        transform: Sequence[Mapping[str, Any]] | None = None,
        subset: int | float | None = None,
        subset_seed: int = 0,
        on_error: str = "skip",
        color_scale: float = 1.0,
        loop: int = 1,
        **kwargs: Any,
    ) -> None:
        if on_error not in ("skip", "raise"):
            raise ConfigError(f"RoomToursDataset: on_error must be 'skip' or 'raise', got {on_error!r}")
        if kwargs.get("test_mode") or kwargs.get("cache"):
            raise ConfigError("RoomToursDataset has no labels to test on and no cache: leave test_mode and cache False")
        roots = [data_root] if isinstance(data_root, (str, os.PathLike)) else list(data_root)
        if not roots or not split:
            raise ConfigError(f"RoomToursDataset: needs a data_root and a split, got {data_root!r} and {split!r}")
        self.data_roots = [os.fspath(root) for root in roots]
        self.subset = subset
        self.subset_seed = subset_seed
        self.on_error = on_error
        self.color_scale = color_scale
        self._warned_color = False
        super().__init__(split=split, data_root=self.data_roots[0], transform=transform, loop=loop, **kwargs)
        # shared memory: workers mark broken scenes for each other and for the main process
        self._broken = _shared_flags(len(self.data_list))

    @property
    def skipped(self) -> int:
        """Number of scenes found broken so far."""
        return int(self._broken.sum())

    def get_data_list(self) -> list[str]:
        """The scenes' folders (or what they would be): root by root, split by split, in natural order of names."""
        splits = [self.split] if isinstance(self.split, str) else list(self.split)
        scenes, self._shards = [], Shards()
        for root in self.data_roots:
            _check_root(root)
            for split in splits:
                try:
                    found = list_split(root, split)
                except DataError as error:
                    raise DataError(f"{error}; RoomTours scenes lie at {LAYOUT}; make them with `{CURE}`") from None
                found = self._with_shards(os.path.join(root, split), found)
                if not found:
                    where = os.path.abspath(os.path.join(root, split))
                    raise DataError(f"no scenes in {where}: they lie at {LAYOUT}; make them with `{CURE}`")
                scenes += [(path, os.path.relpath(path, root)) for path in found]
        chosen = choose_subset(scenes, self.subset, self.subset_seed)
        self._shards.settle(chosen)
        return chosen

    def _with_shards(self, split: str, found: list[str]) -> list[str]:
        """The scenes of a split: its folders and what its tar files hold, or those that a list names."""
        if os.path.isdir(split):
            packed = self._shards.add(split)
            names = {*found, *packed} if packed else ()
            return sorted(names, key=lambda path: (natural_key(os.path.basename(path)), path)) or found
        for folder in dict.fromkeys(os.path.dirname(os.path.normpath(path)) for path in found):
            self._shards.add(folder)
        return found

    def get_data(self, idx: int) -> dict[str, Any]:
        """The scene as it is on disk, before the transforms.

        Raises:
            DataError: the scene is broken.
        """
        number = idx % len(self.data_list)
        path = self.data_list[number]
        scene: dict[str, Any] = read_scene(path, self.color_scale, self._shards.reader(number))
        if not self._warned_color and self.color_scale == 1:
            self._check_color(path, scene["color"])
        unlabelled = np.full(len(scene["coord"]), -1, dtype=np.int32)
        scene.update(segment=unlabelled, instance=unlabelled.copy())
        scene.update(name=self.get_data_name(idx), split=self.get_split_name(idx))
        return scene

    def _check_color(self, path: str, color: np.ndarray) -> None:
        """Warn once about colours that look like 0-1; a look at some of the points is enough."""
        sample = color[:: max(1, len(color) // 4096)]
        if 0 < sample.max() <= 1 and (sample % 1).any():
            self._warned_color = True
            host.get_root_logger().warning(
                f"scene {os.path.abspath(path)}: colours look like 0-1, the format has 0-255; "
                "set color_scale=255 if all scenes are so"
            )

    def __getitem__(self, idx: int) -> dict[str, Any]:
        total = len(self.data_list)
        for step in range(total):
            index = (idx + step) % total
            if self._broken[index]:
                continue
            try:
                return super().__getitem__(index)
            except DataError as error:
                if self.on_error == "raise":
                    raise
                self._broken[index] = 1
                host.get_root_logger().warning(f"skipped ({self.skipped} of {total} scenes so far): {error}")
        raise DataError(
            f"all {total} scenes of {', '.join(map(os.path.abspath, self.data_roots))} are broken; "
            "the log names what is wrong with each"
        )


def _shared_flags(size: int) -> torch.Tensor:
    flags = torch.zeros(size, dtype=torch.uint8)
    try:
        return flags.share_memory_()
    except (OSError, RuntimeError):  # no shared memory on this machine: each worker finds out for itself
        return flags


def _check_root(root: str) -> None:
    where = os.path.abspath(root)
    if not os.path.isdir(root):
        state = "is not a folder" if os.path.exists(root) else "does not exist"
        raise DataError(f"data root {where} {state}: scenes lie at {LAYOUT}; make them with `{CURE}`")
    if not os.listdir(root):
        raise DataError(f"data root {where} is empty: scenes lie at {LAYOUT}; make them with `{CURE}`")


def choose_subset(scenes: Sequence[tuple[str, str]], subset: int | float | None, seed: int) -> list[str]:
    """The paths of a subset of ``scenes``, (path, name within its root), in their order.

    Scenes are ranked by a hash of seed and name, and the first so many are kept: the same on every machine, and
    nested. Scenes of one name in several roots share a rank; the earlier comes first.
    """
    if subset is None:
        return [path for path, _ in scenes]
    if isinstance(subset, bool) or not isinstance(subset, (int, float)):
        raise ConfigError(f"RoomToursDataset: subset must be a number of scenes or a share, got {subset!r}")
    if isinstance(subset, int):
        size, valid = subset, subset > 0
    else:
        size, valid = max(1, round(subset * len(scenes))), 0 < subset <= 1
    if not valid:
        raise ConfigError(f"RoomToursDataset: subset must be a count > 0 or a share in (0, 1], got {subset!r}")
    if size > len(scenes):
        host.get_root_logger().warning(f"subset={subset} of {len(scenes)} scenes: all of them are used")
    rank = [hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest() for _, name in scenes]
    chosen = sorted(range(len(scenes)), key=rank.__getitem__)[:size]
    return [scenes[number][0] for number in sorted(chosen)]

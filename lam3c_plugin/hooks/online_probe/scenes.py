"""The scenes of an online probe, read once and kept, and the numbers that come out of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lam3c_plugin.errors import DataError
from lam3c_plugin.hooks.collapse_monitor.measures import (
    effective_rank,
    feature_moments,
    knn_consistency,
    view_agreement,
)
from lam3c_plugin.hooks.online_probe.settings import ProbeSettings
from lam3c_plugin.hooks.scenes import first_scenes, other_view, prepare_scene, read_folder

LABEL_FILES = ("segment", "segment20")
MAX_CLASSES = 1000
BANK = 8192  # points among which neighbours are sought
LINEAR_STEPS = 60
VIEW_POINTS = 512  # of a scene that two views are compared at

Features = Callable[[Mapping[str, Any]], Tensor]


@dataclass
class Labelled:
    """A prepared scene and the labels (R,) of some of its points ``rows`` (R,)."""

    name: str
    scene: dict[str, Any]
    rows: np.ndarray
    label: np.ndarray


class LabelledScenes:
    """Scenes with labels: linear and nearest-neighbour probe.

    Raises:
        DataError: no such folder, no scenes, no labels, or labels that do not fit; the file is named.
    """

    def __init__(self, settings: ProbeSettings, grid_size: float) -> None:
        # late: these modules reach most of the package, which is not there yet when hooks are imported
        from lam3c_plugin.encode.labelled import find_splits

        self._settings, root = settings, Path(str(settings.data_root))
        sides = find_splits(root, None, settings.seed, option="OnlineProbe: data_root=")
        limits = ((settings.train_scenes, settings.train_points), (settings.val_scenes, settings.val_points))
        self.train, self.val = (
            [self._read(path, grid_size, points) for path in _choose(paths, scenes, settings.seed)]
            for paths, (scenes, points) in zip(sides, limits, strict=True)
        )
        for side, name in ((self.train, "training"), (self.val, "validation")):
            if not sum(len(item.label) for item in side):
                raise DataError(
                    f"OnlineProbe: data_root={root}: the {len(side)} {name} scenes have no labelled point; check "
                    "probe.labels and probe.ignore"
                )
        self.classes = 1 + max(int(item.label.max()) for item in (*self.train, *self.val) if len(item.label))
        if self.classes > MAX_CLASSES:
            raise DataError(
                f"OnlineProbe: data_root={root}: there is a label {self.classes - 1}; if it stands for no class, set "
                f"probe.ignore=[{self.classes - 1}]"
            )

    def __str__(self) -> str:
        points = (sum(len(item.label) for item in side) for side in (self.train, self.val))
        sides = zip((self.train, self.val), points, ("train", "val"), strict=True)
        return ", ".join(f"{len(side)} {name} scenes ({count:,} labels)" for side, count, name in sides)

    def _read(self, path: Path, grid_size: float, points: int) -> Labelled:
        from lam3c_plugin.analysis.probing import ignore_labels, sample_rows
        from lam3c_plugin.encode.labelled import read_labelled

        settings = self._settings
        cloud = read_labelled(path, _label_file(path, settings.labels))
        scene = prepare_scene(
            {"coord": cloud.coord, "color": cloud.color, "normal": cloud.normal}, grid_size, settings.max_points
        )
        label = ignore_labels(cloud.segment[scene.pop("rows")], settings.ignore)
        rows = sample_rows(label, points, settings.seed, path.stem)
        del scene["color"]  # is in feat
        return Labelled(path.stem, scene, rows, label[rows])

    def first(self) -> dict[str, Any]:
        """A scene to try the time of one on."""
        return self.train[0].scene

    @property
    def passes(self) -> float:
        """What a measurement takes, in scenes encoded: the probes themselves may take as long as the encoder."""
        return 2.0 * (len(self.train) + len(self.val))

    def measure(self, features: Features, device: torch.device) -> dict[str, float]:
        """``linear_miou``, ``linear_accuracy``, ``knn_miou``, ``knn_accuracy``; mIoU over the classes that occur."""
        from lam3c_plugin.analysis.heads import classify
        from lam3c_plugin.analysis.probing import Neighbours, Sample, present_miou, score, train_linear

        train, val = (
            [Sample(item.name, _rows(features(item.scene), item.rows).cpu().numpy(), item.label) for item in side]
            for side in (self.train, self.val)
        )
        feat, label = np.concatenate([s.feat for s in train]), np.concatenate([s.label for s in train])
        settings = self._settings
        head = train_linear(feat, label, self.classes, settings.decay, LINEAR_STEPS, device)
        bank = Neighbours.of(feat, label, self.classes, BANK, settings.seed, settings.neighbours, device)
        values = {}
        for name, predictions in (
            ("linear", [classify(sample.feat, head)[0] for sample in val]),
            ("knn", [bank.predict(sample.feat) for sample in val]),
        ):
            scores = score(predictions, val, self.classes)
            values[f"{name}_miou"], values[f"{name}_accuracy"] = present_miou(scores), scores.all_acc
        return values


class UnlabelledScenes:
    """Scenes without labels: each as it is, and turned, scaled and lit otherwise.

    Held-out scenes are taken where the training data's folder has a ``val`` folder, else the first training scenes.

    Raises:
        DataError: none can be read.
    """

    def __init__(self, settings: ProbeSettings, grid_size: float, root: str | None, dataset: Any) -> None:
        folders = _scene_folders(Path(root, "val")) if root else []
        chosen = _choose(folders, settings.val_scenes, settings.seed)
        scenes = [read_folder(str(path)) for path in chosen] or first_scenes(dataset, settings.val_scenes)
        self._where = "held-out scenes" if chosen else "scenes of the training set"
        self.pairs: list[tuple[dict[str, Any], dict[str, Any], np.ndarray]] = []
        for number, raw in enumerate(scenes):
            rng = np.random.default_rng([settings.seed, number])
            scene = prepare_scene(raw, grid_size, settings.max_points)
            count = len(scene["coord"])
            rows = np.sort(rng.permutation(count)[:VIEW_POINTS])
            pair = (scene, other_view(scene, rng))
            for view in pair:  # feat has the colours
                del view["color"]
            del scene["rows"]
            self.pairs.append((*pair, rows))

    def __str__(self) -> str:
        return f"no labels, {len(self.pairs)} {self._where}"

    def first(self) -> dict[str, Any]:
        """A scene to try the time of one on."""
        return self.pairs[0][0]

    @property
    def passes(self) -> float:
        """What a measurement takes, in scenes encoded."""
        return 2.0 * len(self.pairs)

    def measure(self, features: Features, device: torch.device) -> dict[str, float]:
        """``effective_rank``, ``view_agreement`` and, of two scenes or more, ``knn_consistency``."""
        plain = torch.cat([_rows(features(scene), rows) for scene, _, rows in self.pairs])
        other = torch.cat([_rows(features(view), view["inverse"][rows]) for _, view, rows in self.pairs])
        index = [torch.full((len(rows),), number) for number, (*_, rows) in enumerate(self.pairs)]
        values = {
            "effective_rank": effective_rank(feature_moments(plain)["gram"]),
            "view_agreement": view_agreement(plain, other),
        }
        if len(self.pairs) > 1:
            values["knn_consistency"] = knn_consistency(plain, other, torch.cat(index).to(plain.device))
        return values


def _rows(feat: Tensor, rows: np.ndarray) -> Tensor:
    """Some of the features.

    Raises:
        FloatingPointError: they are not finite.
    """
    taken = feat[torch.from_numpy(rows).to(feat.device)]
    if not bool(torch.isfinite(taken).all()):
        raise FloatingPointError("features are not finite")
    return taken


def _choose(paths: list[Path], most: int, seed: int) -> list[Path]:
    """At most ``most`` of the paths, in their order, the same for a seed."""
    order = np.random.default_rng([seed, 3]).permutation(len(paths))
    return [paths[number] for number in sorted(order[:most])]


def _label_file(path: Path, labels: str | None) -> str:
    """The label file of a scene folder, without ``.npy``; a single file has its labels inside.

    Raises:
        DataError: the folder has none of that name; those that look like it are named.
    """
    if not path.is_dir():
        return "segment"
    wanted = LABEL_FILES if labels is None else (labels,)
    for name in wanted:
        if (path / f"{name}.npy").is_file():
            return name
    found = sorted(file.stem for file in path.glob("segment*.npy"))
    cure = f"set probe.labels={found[0]}" if found else "leave probe.data_root out to measure without labels"
    raise DataError(f"OnlineProbe: {path} has no {' and no '.join(f'{name}.npy' for name in wanted)}; {cure}")


def _scene_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if (path / "coord.npy").is_file()]

"""Labelled scenes for probing: found, split, encoded once; what is kept of each is a fixed sample of its points."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from data_tools.clouds.find import clouds_in
from data_tools.clouds.io import Cloud
from data_tools.clouds.notes import grouped_notes
from data_tools.stages.files import replacing
from lam3c_plugin.analysis.probing import Sample, ignore_labels, sample_rows
from lam3c_plugin.encode.files import naming, read_input
from lam3c_plugin.errors import DataError

VERSION = 1  # part of every key of the cache
VAL_NAMES = ("val", "validation", "test")


def find_splits(root: Path, share: float | None, seed: int, option: str = "--data ") -> tuple[list[Path], list[Path]]:
    """Training and validation scenes of a data folder.

    Args:
        root: with ``train`` and ``val`` folders of scenes; or scenes themselves, which are then dealt out.
        share: of the scenes to train on (the rest validates); None: by folders, 0.8 where there are none.
        seed: of the dealing.
        option: what asked for the folder, for errors.

    Raises:
        DataError: no scenes, or none left for one side.
    """
    if not root.is_dir():
        raise DataError(f"{option}{root}: is not a folder; give one with scene folders, or with train/ and val/")
    val = next((root / name for name in VAL_NAMES if (root / name).is_dir()), None)
    if share is None and (root / "train").is_dir() and val is not None:
        train_scenes, val_scenes = clouds_in(root / "train"), clouds_in(val)
    else:
        scenes = clouds_in(root)
        order = np.random.default_rng(seed).permutation(len(scenes))
        count = min(max(1, round((0.8 if share is None else share) * len(scenes))), len(scenes) - 1)
        train_scenes = [scenes[i] for i in sorted(order[:count])]
        val_scenes = [scenes[i] for i in sorted(order[count:])]
    if not train_scenes or not val_scenes:
        raise DataError(
            f"{option}{root}: {len(train_scenes)} training and {len(val_scenes)} validation scenes; at least one of "
            "each is needed (folders with coord.npy and labels, or .ply files with a label column)"
        )
    return train_scenes, val_scenes


def read_labelled(path: Path, labels: str) -> Cloud:
    """A scene with its labels as ``segment``.

    Args:
        path: scene folder, or a file with a label column.
        labels: the labels' file in a scene folder, without ``.npy``.

    Raises:
        DataError: no labels, or not one for each point.
    """
    if path.is_dir() and not (path / f"{labels}.npy").is_file():
        raise DataError(f"{path} has no {labels}.npy; say with --labels which file has the labels (segment20, ...)")
    cloud = read_input(path)
    if path.is_dir() and labels != "segment":
        try:
            values = np.load(path / f"{labels}.npy", allow_pickle=False)
            coord = np.load(path / "coord.npy", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot read {labels}.npy ({error}); package the scene again") from error
        values = values.reshape(len(values), -1)[:, 0]
        if len(values) != len(coord):
            raise DataError(f"{path}: {len(values)} labels in {labels}.npy for {len(coord)} points; package it again")
        cloud.segment = values[np.isfinite(coord).all(axis=1)].astype(np.int32)
    if cloud.segment is None:
        raise DataError(f"{path} has no label column (segment or label)")
    return cloud


def check_labels(train: Sequence[Path], val: Sequence[Path], labels: str, ignored: Sequence[int]) -> None:
    """See that scenes have labels, before any is encoded.

    Raises:
        DataError: a scene has none, or no point of all training or all validation scenes counts.
    """
    for scenes, name in ((train, "training"), (val, "validation")):
        if not sum([int((_labels_of(path, labels, ignored) >= 0).any()) for path in scenes]):
            raise DataError(
                f"no point of the {len(scenes)} {name} scenes has a label that counts ({scenes[0]}, ...): check "
                "--labels and --ignore"
            )


def _labels_of(path: Path, labels: str, ignored: Sequence[int]) -> np.ndarray:
    file = path / f"{labels}.npy"
    try:
        segment = np.load(file, mmap_mode="r", allow_pickle=False) if file.is_file() else None
    except (OSError, ValueError):  # a damaged file is told as it is read in earnest
        segment = None
    return ignore_labels(np.asarray(read_labelled(path, labels).segment if segment is None else segment), ignored)


def encode_samples(
    scenes: Sequence[Path],
    encode: Callable[[Cloud], tuple[np.ndarray, np.ndarray]],
    key: dict[str, object],
    cache: Path,
    labels: str,
    ignored: Sequence[int],
    most: int,
    seed: int,
    say: Callable[[str], None] = print,
) -> list[Sample]:
    """Samples of scenes, out of the cache where they are in it.

    Args:
        scenes: folders or files.
        encode: a cloud to its features (M, C) at cells and the cell (N,) of each point.
        key: what, besides the scene, the features depend on (weights, level, grid, ...).
        cache: folder of the samples.
        labels: see `read_labelled`.
        ignored: see `ignore_labels`.
        most: see `sample_rows`.
        seed: see `sample_rows`.
        say: told what is being done.
    """
    samples = []
    noted: list[tuple[str, list[str]]] = []
    for number, path in enumerate(scenes):
        settings = {**key, "version": VERSION, "labels": labels, "ignored": list(ignored), "most": most, "seed": seed}
        file = cache / f"{path.stem}-{_digest(path, labels, settings)}.npz"
        sample = _load(file, path.stem)
        if sample is None:
            say(f"encoding {path.name} ({number + 1} of {len(scenes)})")
            cloud = read_labelled(path, labels)
            noted.append((path.name, cloud.notes))
            label = ignore_labels(cloud.segment, ignored)
            rows = sample_rows(label, most, seed, path.stem)
            with naming(path):
                feat, inverse = encode(cloud)
            sample = Sample(path.stem, feat[inverse[rows]].astype(np.float16), label[rows])
            with replacing(file) as partial:
                np.savez_compressed(partial, feat=sample.feat, label=sample.label)
        samples.append(sample)
    for line in grouped_notes(noted):
        say(f"note: {line}")
    return samples


def _digest(path: Path, labels: str, settings: dict[str, object]) -> str:
    """Of the settings and of the scene's files, by content."""
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=12)
    names = ("coord", "color", "normal", labels)
    files = [path / f"{name}.npy" for name in names] if path.is_dir() else [path]
    for file in files:
        digest.update(file.read_bytes() if file.is_file() else b"none")
    return digest.hexdigest()


def _load(file: Path, name: str) -> Sample | None:
    """A sample from the cache; None where there is none, or a damaged one."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            return Sample(name, archive["feat"], archive["label"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None

"""What every transform shares: building from configs, indexing by point, random numbers, scene names in errors."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lam3c_plugin.embedded.registry import TRANSFORMS
from lam3c_plugin.errors import DataError

Sample = dict[str, Any]

INDEX_VALID_KEYS = ("coord", "color", "normal", "superpoint", "strength", "segment", "instance")

# Registries asked for names that TRANSFORMS does not have; the plugin puts the host's here when it runs inside one.
FALLBACK_REGISTRIES: list[Any] = []


def build_transform(cfg: Mapping[str, Any]) -> Any:
    """Build one transform from ``dict(type=..., ...)``: ours by that name, else one of `FALLBACK_REGISTRIES`.

    Raises:
        RegistryError: nobody knows the type; names near it are suggested.
        ConfigError: the arguments do not fit.
    """
    kind = cfg.get("type") if isinstance(cfg, Mapping) else None
    if isinstance(kind, str) and kind not in TRANSFORMS:
        for registry in FALLBACK_REGISTRIES:
            if registry.get(kind) is not None:
                return registry.build(cfg)
    return TRANSFORMS.build(cfg)


class Compose:
    """Applies transforms one after the other.

    Args:
        cfg: list of ``dict(type=..., ...)``; None or an empty list leaves samples as they are.
    """

    def __init__(self, cfg: Sequence[Mapping[str, Any]] | None = None) -> None:
        self.cfg = list(cfg) if cfg is not None else []
        self.transforms = [build_transform(item) for item in self.cfg]

    def __call__(self, data_dict: Sample) -> Any:
        for transform in self.transforms:
            data_dict = transform(data_dict)
        return data_dict


def index_operator(data_dict: Sample, index: np.ndarray, duplicate: bool = False) -> Sample:
    """Keep the points ``index`` (integers or a mask over N) of every entry named in ``data_dict["index_valid_keys"]``.

    The list of keys is created when it is missing; the ``Update`` transform sets another one.

    Args:
        data_dict: the sample; changed unless ``duplicate``.
        index: (M,) integer rows, or an (N,) bool mask.
        duplicate: return a new dict and leave ``data_dict`` as it is.
    """
    if "index_valid_keys" not in data_dict:
        data_dict["index_valid_keys"] = list(INDEX_VALID_KEYS)
    valid_keys = data_dict["index_valid_keys"]
    if not duplicate:
        for key in valid_keys:
            if key in data_dict:
                data_dict[key] = take(data_dict[key], index)
        return data_dict
    result = {key: take(value, index) if key in valid_keys else value for key, value in data_dict.items()}
    result["index_valid_keys"] = copy.copy(valid_keys)
    return result


def take(values: Any, index: np.ndarray) -> Any:
    """``values[index]`` along the first axis; ``np.take`` is two to three times as fast as brackets on (N, 3) rows."""
    if isinstance(values, np.ndarray) and index.dtype != bool:
        return np.take(values, index, axis=0)
    return values[index]


def mark_indexed(data_dict: Sample, key: str) -> None:
    """Add ``key`` to the sample's ``index_valid_keys`` without touching a list that other samples may share."""
    if key not in data_dict["index_valid_keys"]:
        data_dict["index_valid_keys"] = [*data_dict["index_valid_keys"], key]


def fast_rng() -> np.random.Generator:
    """A generator for many numbers at once, seeded from ``np.random``'s global state.

    Its normals are about five times as fast as ``np.random.randn``'s and come in float32.
    """
    return np.random.Generator(np.random.SFC64(np.random.randint(0, 2**32, size=4, dtype=np.uint32)))


def as_float32(values: np.ndarray) -> np.ndarray:
    """``values`` as float32 (not copied when they are already)."""
    return np.asarray(values, dtype=np.float32)


def scene_name(data_dict: Mapping[str, Any]) -> str:
    """The sample's name for messages."""
    return str(data_dict.get("name", "a scene without a name"))


def require_points(data_dict: Mapping[str, Any], who: str) -> np.ndarray:
    """``data_dict["coord"]`` (N, 3) with N > 0.

    Raises:
        DataError: no coordinates, a wrong shape, or no points; the message names the scene.
    """
    coord = data_dict.get("coord")
    if coord is None:
        raise DataError(f"{scene_name(data_dict)}: {who} needs 'coord', the sample has {sorted(data_dict)}")
    if coord.ndim != 2 or coord.shape[1] != 3:
        raise DataError(f"{scene_name(data_dict)}: 'coord' has the shape {coord.shape}, {who} needs (N, 3)")
    if len(coord) == 0:
        raise DataError(f"{scene_name(data_dict)}: no points left for {who}")
    return coord

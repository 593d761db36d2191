"""Transforms of colours (0-255 until ``NormalizeColor``), and the two that drop inputs as a scene may lack them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lam3c_plugin.embedded.registry import TRANSFORMS
from lam3c_plugin.embedded.transforms.compose import Sample, as_float32, fast_rng
from lam3c_plugin.errors import ConfigError

GRAY_WEIGHTS = np.float32([0.2989, 0.587, 0.114])  # ITU-R 601, as torchvision and the host have it


@TRANSFORMS.register_module()
class NormalizeColor:
    """Brings colours from 0-255 to [0, 1]."""

    def __call__(self, data_dict: Sample) -> Sample:
        if "color" in data_dict:
            data_dict["color"] = as_float32(data_dict["color"]) / np.float32(255)
        return data_dict


@TRANSFORMS.register_module()
class ChromaticAutoContrast:
    """With probability ``p`` blends colours with themselves stretched to 0-255, by ``blend_factor`` or uniformly."""

    def __init__(self, p: float = 0.2, blend_factor: float | None = None) -> None:
        self.p = p
        self.blend_factor = blend_factor

    def __call__(self, data_dict: Sample) -> Sample:
        if "color" in data_dict and np.random.rand() < self.p:
            color = as_float32(data_dict["color"])
            low, spread = color.min(axis=0), np.ptp(color, axis=0)
            if spread.any():
                blend = np.random.rand() if self.blend_factor is None else self.blend_factor
                stretch = np.divide(np.float32(255), spread, out=np.ones_like(spread), where=spread > 0)
                # (1 - b) c + b (c - low) s as one product and one sum
                data_dict["color"] = color * np.float32(1 - blend + blend * stretch) - np.float32(blend) * low * stretch
        return data_dict


@TRANSFORMS.register_module()
class ChromaticTranslation:
    """With probability ``p`` adds one colour, uniform in +-255 ``ratio`` a channel, to all points."""

    def __init__(self, p: float = 0.95, ratio: float = 0.05) -> None:
        self.p = p
        self.ratio = ratio

    def __call__(self, data_dict: Sample) -> Sample:
        if "color" in data_dict and np.random.rand() < self.p:
            shift = np.random.uniform(-1, 1, 3) * 255 * self.ratio
            color = as_float32(data_dict["color"]) + shift.astype(np.float32)
            data_dict["color"] = np.clip(color, 0, 255, out=color)
        return data_dict


@TRANSFORMS.register_module()
class ChromaticJitter:
    """With probability ``p`` adds Gaussian noise of 255 ``std`` to every point and channel."""

    def __init__(self, p: float = 0.95, std: float = 0.005) -> None:
        self.p = p
        self.std = std

    def __call__(self, data_dict: Sample) -> Sample:
        if "color" in data_dict and np.random.rand() < self.p:
            color = as_float32(data_dict["color"])
            noise = fast_rng().standard_normal(color.shape, dtype=np.float32)
            noise *= np.float32(255 * self.std)
            noise += color
            data_dict["color"] = np.clip(noise, 0, 255, out=noise)
        return data_dict


@TRANSFORMS.register_module()
class RandomColorJitter:
    """Brightness, contrast, saturation and hue changed by random factors, in random order, each with probability ``p``.

    Args:
        brightness: v for factors uniform in [max(0, 1 - v), 1 + v], or a pair (low, high).
        contrast: likewise.
        saturation: likewise.
        hue: v for shifts uniform in [-v, v] turns of the colour circle, or a pair within [-0.5, 0.5].
        p: probability of each of the four.
    """

    def __init__(
        self,
        brightness: float | Sequence[float] = 0,
        contrast: float | Sequence[float] = 0,
        saturation: float | Sequence[float] = 0,
        hue: float | Sequence[float] = 0,
        p: float = 0.95,
    ) -> None:
        self.brightness = _factor_range("brightness", brightness)
        self.contrast = _factor_range("contrast", contrast)
        self.saturation = _factor_range("saturation", saturation)
        self.hue = _hue_range(hue)
        self.p = p

    def __call__(self, data_dict: Sample) -> Sample:
        if "color" not in data_dict:
            return data_dict
        steps = (
            (self.brightness, adjust_brightness),
            (self.contrast, adjust_contrast),
            (self.saturation, adjust_saturation),
            (self.hue, adjust_hue),
        )
        rgb = None
        for number in np.random.permutation(4):
            limits, adjust = steps[number]
            if limits is None or np.random.rand() >= self.p:
                continue
            if rgb is None:  # channels first: every step works on whole channels
                rgb = np.array(as_float32(data_dict["color"]).T, order="C")
            rgb = adjust(rgb, np.random.uniform(*limits))
        if rgb is not None:
            data_dict["color"] = np.ascontiguousarray(rgb.T)
        return data_dict


def _factor_range(name: str, value: float | Sequence[float]) -> tuple[float, float] | None:
    """Limits of a factor around 1; None where it would always be 1."""
    if isinstance(value, Sequence):
        limits = tuple(float(item) for item in value)
    else:
        limits = (max(0.0, 1.0 - float(value)), 1.0 + float(value))
    if len(limits) != 2 or not 0 <= limits[0] <= limits[1]:
        raise ConfigError(f"RandomColorJitter: {name} must be >= 0 or a pair 0 <= low <= high, got {value}")
    return None if limits == (1.0, 1.0) else limits


def _hue_range(value: float | Sequence[float]) -> tuple[float, float] | None:
    limits = tuple(float(item) for item in value) if isinstance(value, Sequence) else (-float(value), float(value))
    if len(limits) != 2 or not -0.5 <= limits[0] <= limits[1] <= 0.5:
        raise ConfigError(f"RandomColorJitter: hue must be in [0, 0.5] or a pair within [-0.5, 0.5], got {value}")
    return None if limits == (0.0, 0.0) else limits


def _blend(rgb: np.ndarray, other: np.ndarray | float, factor: float) -> np.ndarray:
    """``factor`` rgb + (1 - ``factor``) other, kept in 0-255; ``rgb`` (3, N) float32 is reused for the result."""
    rgb *= np.float32(factor)
    rgb += np.float32(1 - factor) * other
    return np.clip(rgb, 0, 255, out=rgb)


def adjust_brightness(rgb: np.ndarray, factor: float) -> np.ndarray:
    """``rgb`` (3, N) blended with black; writes into ``rgb``."""
    return _blend(rgb, np.float32(0), factor)


def adjust_contrast(rgb: np.ndarray, factor: float) -> np.ndarray:
    """``rgb`` (3, N) blended with the mean gray of all points; writes into ``rgb``."""
    return _blend(rgb, (GRAY_WEIGHTS @ rgb).mean(), factor)


def adjust_saturation(rgb: np.ndarray, factor: float) -> np.ndarray:
    """``rgb`` (3, N) blended with each point's gray; writes into ``rgb``."""
    return _blend(rgb, GRAY_WEIGHTS @ rgb, factor)


def adjust_hue(rgb: np.ndarray, shift: float) -> np.ndarray:
    """``rgb`` (3, N) turned by ``shift`` of the colour circle; value and saturation stay.

    With hue h in sixths of the circle, value v and chroma c = v - min, a channel is v - c max(0, min(k, 4 - k, 1))
    for k = (n + h) mod 6 and n = 5, 3, 1 for red, green, blue.
    """
    red, green, blue = rgb
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    scale = np.divide(np.float32(1), chroma, out=np.zeros_like(chroma), where=chroma > 0)
    hue = np.where(
        value == red,
        (green - blue) * scale,
        np.where(value == green, (blue - red) * scale + np.float32(2), (red - green) * scale + np.float32(4)),
    )
    hue += np.float32(6 * shift + 6)  # in [2, 14): only positive numbers below
    result = np.empty_like(rgb)
    for channel, offset in enumerate((5, 3, 1)):
        place = hue + np.float32(offset)
        place -= np.float32(6) * np.floor(place * np.float32(1 / 6))
        np.minimum(place, np.float32(4) - place, out=place)
        np.clip(place, 0, 1, out=place)
        np.subtract(value, chroma * place, out=result[channel])
    return result


class _RandomDrop:
    """Sets a random share of the points' values to zero, the value that a scene without them has."""

    key = ""

    def __init__(self, drop_ratio: float = 0.2, drop_application_ratio: float = 0.5) -> None:
        if not (0 <= drop_ratio <= 1 and 0 <= drop_application_ratio <= 1):
            raise ConfigError(
                f"{type(self).__name__}: drop_ratio and drop_application_ratio must be in [0, 1], "
                f"got {drop_ratio} and {drop_application_ratio}"
            )
        self.drop_ratio = drop_ratio
        self.drop_application_ratio = drop_application_ratio

    def __call__(self, data_dict: Sample) -> Sample:
        if self.key in data_dict and np.random.rand() < self.drop_application_ratio:
            values = as_float32(data_dict[self.key])
            if self.drop_ratio >= 1:
                data_dict[self.key] = np.zeros_like(values)
            else:
                count = int(len(values) * self.drop_ratio)
                values = values.copy()
                values[fast_rng().choice(len(values), count, replace=False)] = 0
                data_dict[self.key] = values
        return data_dict


@TRANSFORMS.register_module()
class RandomDropColor(_RandomDrop):
    """With probability ``drop_application_ratio`` zeroes the colours of a share ``drop_ratio`` of the points.

    ``drop_ratio=1`` makes the sample one without colours. Place it behind ``NormalizeColor``: colour shifts before it
    would move the zeros. With ``MultiViewGenerator`` it belongs at the end of ``global_transform`` and
    ``local_transform``: each view is then dropped on its own, and the student learns to tell with less what the
    teacher tells with more.
    """

    key = "color"


@TRANSFORMS.register_module()
class RandomDropNormal(_RandomDrop):
    """As `RandomDropColor`, for normals."""

    key = "normal"

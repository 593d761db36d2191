"""Transforms of coordinates (metres) and, where they turn, of normals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from lam3c_plugin.embedded.registry import TRANSFORMS
from lam3c_plugin.embedded.transforms.compose import Sample, as_float32, fast_rng, scene_name
from lam3c_plugin.errors import ConfigError, DataError

ELASTIC_MAX_NODES = 2**24  # of the noise grid: 200 MB; a view of a building at 0.2 m stays far below


def bounding_box(coord: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner (3,) of points (N, 3). One column at a time: numpy reduces (N, 3) over rows slowly."""
    columns = [coord[:, axis] for axis in range(3)]
    low = np.array([column.min() for column in columns], dtype=coord.dtype)
    return low, np.array([column.max() for column in columns], dtype=coord.dtype)


@TRANSFORMS.register_module()
class CenterShift:
    """Moves the origin to the middle of the bounding box in x and y, and to its bottom in z if ``apply_z``."""

    def __init__(self, apply_z: bool = True) -> None:
        self.apply_z = apply_z

    def __call__(self, data_dict: Sample) -> Sample:
        if "coord" in data_dict:
            coord = as_float32(data_dict["coord"])
            low, high = bounding_box(coord)
            shift = (low + high) / 2
            shift[2] = low[2] if self.apply_z else 0
            data_dict["coord"] = coord - shift
        return data_dict


@TRANSFORMS.register_module()
class NormalizeCoord:
    """Centres the points on their mean and scales them into the unit ball."""

    def __call__(self, data_dict: Sample) -> Sample:
        if "coord" in data_dict:
            coord = as_float32(data_dict["coord"])
            coord = coord - coord.mean(axis=0)
            radius = float(np.sqrt(np.square(coord).sum(axis=1).max()))
            data_dict["coord"] = coord / radius if radius > 0 else coord
        return data_dict


@TRANSFORMS.register_module()
class PointClip:
    """Clips coordinates to the box (x_min, y_min, z_min, x_max, y_max, z_max)."""

    def __init__(self, point_cloud_range: Sequence[float] = (-80, -80, -3, 80, 80, 1)) -> None:
        self.point_cloud_range = tuple(point_cloud_range)

    def __call__(self, data_dict: Sample) -> Sample:
        if "coord" in data_dict:
            low, high = np.float32(self.point_cloud_range[:3]), np.float32(self.point_cloud_range[3:])
            data_dict["coord"] = np.clip(as_float32(data_dict["coord"]), low, high)
        return data_dict


@TRANSFORMS.register_module()
class RandomShift:
    """Moves the cloud by a vector uniform in ``shift``, one (low, high) pair an axis."""

    def __init__(self, shift: Sequence[Sequence[float]] = ((-0.2, 0.2), (-0.2, 0.2), (0, 0))) -> None:
        self.shift = shift

    def __call__(self, data_dict: Sample) -> Sample:
        if "coord" in data_dict:
            shift = np.float32([np.random.uniform(low, high) for low, high in self.shift])
            data_dict["coord"] = as_float32(data_dict["coord"]) + shift
        return data_dict


@TRANSFORMS.register_module()
class RandomScale:
    """Multiplies coordinates by a factor uniform in ``scale``; one factor an axis if ``anisotropic``."""

    def __init__(self, scale: Sequence[float] | None = None, anisotropic: bool = False) -> None:
        self.scale = tuple(scale) if scale is not None else (0.95, 1.05)
        self.anisotropic = anisotropic

    def __call__(self, data_dict: Sample) -> Sample:
        if "coord" in data_dict:
            factor = np.random.uniform(self.scale[0], self.scale[1], 3 if self.anisotropic else 1)
            data_dict["coord"] = as_float32(data_dict["coord"]) * factor.astype(np.float32)
        return data_dict


def rotation_matrix(axis: str, angle: float) -> np.ndarray:
    """(3, 3) float64 matrix R, for column vectors R x, of the right-handed rotation by ``angle`` radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cos
    matrix[first, second], matrix[second, first] = -sin, sin
    return matrix


class _Rotation:
    """Turns coordinates (about ``center`` or the middle of the bounding box) and normals, with probability ``p``."""

    def __init__(self, center: Sequence[float] | None, axis: str, always_apply: bool, p: float) -> None:
        if axis not in ("x", "y", "z"):
            raise ConfigError(f"{type(self).__name__}: axis must be 'x', 'y' or 'z', got {axis!r}")
        self.axis = axis
        self.center = None if center is None else np.float32(center)
        self.always_apply = always_apply
        self.p = 1 if always_apply else p

    def draw_angle(self) -> float:
        """The angle in half turns."""
        raise NotImplementedError

    def __call__(self, data_dict: Sample) -> Sample:
        if np.random.rand() >= self.p:
            return data_dict
        turned = rotation_matrix(self.axis, self.draw_angle() * np.pi).T.astype(np.float32)
        if "coord" in data_dict:
            coord = as_float32(data_dict["coord"])
            center = sum(bounding_box(coord)) / 2 if self.center is None else self.center
            # (x - c) R + c as x R + (c - c R): one pass
            data_dict["coord"] = coord @ turned + (center - center @ turned)
        if "normal" in data_dict:
            data_dict["normal"] = as_float32(data_dict["normal"]) @ turned
        return data_dict


@TRANSFORMS.register_module()
class RandomRotate(_Rotation):
    """Rotates by an angle uniform in ``angle`` (half turns, default -1 to 1) about ``axis`` with probability ``p``."""

    def __init__(
        self,
        angle: Sequence[float] | None = None,
        center: Sequence[float] | None = None,
        axis: str = "z",
        always_apply: bool = False,
        p: float = 0.5,
    ) -> None:
        super().__init__(center, axis, always_apply, p)
        self.angle = tuple(angle) if angle is not None else (-1, 1)

    def draw_angle(self) -> float:
        return np.random.uniform(self.angle[0], self.angle[1])


@TRANSFORMS.register_module()
class RandomRotateTargetAngle(_Rotation):
    """Rotates by one of the angles ``angle`` (half turns) about ``axis`` with probability ``p``."""

    def __init__(
        self,
        angle: Sequence[float] = (1 / 2, 1, 3 / 2),
        center: Sequence[float] | None = None,
        axis: str = "z",
        always_apply: bool = False,
        p: float = 0.75,
    ) -> None:
        super().__init__(center, axis, always_apply, p)
        self.angle = tuple(angle)

    def draw_angle(self) -> float:
        return np.random.choice(self.angle)


@TRANSFORMS.register_module()
class RandomFlip:
    """Mirrors x, and independently y, each with probability ``p``; normals too."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, data_dict: Sample) -> Sample:
        sign = np.ones(3, dtype=np.float32)
        for axis in (0, 1):
            if np.random.rand() < self.p:
                sign[axis] = -1
        if sign.min() < 0:
            for key in ("coord", "normal"):
                if key in data_dict:
                    data_dict[key] = as_float32(data_dict[key]) * sign
        return data_dict


@TRANSFORMS.register_module()
class RandomJitter:
    """Adds Gaussian noise of ``sigma`` metres to every coordinate, clipped to [-``clip``, ``clip``]."""

    def __init__(self, sigma: float = 0.01, clip: float = 0.05) -> None:
        if clip <= 0:
            raise ConfigError(f"RandomJitter: clip must be > 0 m, got {clip}")
        self.sigma = sigma
        self.clip = clip

    def __call__(self, data_dict: Sample) -> Sample:
        if "coord" in data_dict:
            coord = as_float32(data_dict["coord"])
            noise = fast_rng().standard_normal(coord.shape, dtype=np.float32)
            noise *= np.float32(self.sigma)
            np.clip(noise, -self.clip, self.clip, out=noise)
            noise += coord
            data_dict["coord"] = noise
        return data_dict


@TRANSFORMS.register_module()
class ElasticDistortion:
    """Bends space by smoothed Gaussian noise on a grid, interpolated linearly; with probability 0.95.

    Args:
        distortion_params: pairs (granularity: spacing of the noise grid in metres, magnitude: factor on the noise,
            whose standard deviation after smoothing is about 0.1), applied one after the other. None switches it off.

    Raises:
        DataError: the cloud is so large that the noise grid would not fit in memory (a stray point far away).
    """

    def __init__(self, distortion_params: Sequence[Sequence[float]] | None = ((0.2, 0.4), (0.8, 1.6))) -> None:
        self.distortion_params = distortion_params

    def __call__(self, data_dict: Sample) -> Sample:
        if "coord" in data_dict and self.distortion_params is not None and np.random.rand() < 0.95:
            coord = as_float32(data_dict["coord"])
            for granularity, magnitude in self.distortion_params:
                try:
                    coord = elastic_distortion(coord, granularity, magnitude)
                except DataError as error:
                    raise DataError(f"{scene_name(data_dict)}: {error}") from None
            data_dict["coord"] = coord
        return data_dict


def elastic_distortion(coord: np.ndarray, granularity: float, magnitude: float) -> np.ndarray:
    """Points (N, 3) moved by one field of smoothed noise; see `ElasticDistortion`."""
    if len(coord) == 0:
        return coord
    low, high = bounding_box(coord)
    shape = [int((top - bottom) // granularity) + 3 for bottom, top in zip(low.tolist(), high.tolist(), strict=True)]
    if np.prod([float(size) for size in shape]) > ELASTIC_MAX_NODES:
        extent = " x ".join(f"{size:.0f}" for size in high - low)
        raise DataError(
            f"a view of {extent} m is too large for ElasticDistortion at {granularity} m; remove stray points"
        )
    noise = fast_rng().standard_normal((*shape, 3), dtype=np.float32)
    for axis in (0, 1, 2, 0, 1, 2):
        noise = ndimage.uniform_filter1d(noise, size=3, axis=axis, mode="constant")
    # node 0 lies one spacing below the lowest point, so that every point has eight nodes around it
    position = (coord - low) / np.float32(granularity) + np.float32(1)
    return coord + np.float32(magnitude) * trilinear(noise, position)


def trilinear(field: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Values (N, C) of ``field`` (X, Y, Z, C) at ``position`` (N, 3), in nodes, inside [0, size - 1)."""
    cell = position.astype(np.intp)  # floor, as positions are not negative
    for axis in range(3):  # a point on the last node reads it as the end of the cell before
        np.minimum(cell[:, axis], field.shape[axis] - 2, out=cell[:, axis])
    fraction = position - cell.astype(np.float32)
    stride_y, stride_x = field.shape[2], field.shape[1] * field.shape[2]
    base = (cell[:, 0] * field.shape[1] + cell[:, 1]) * field.shape[2] + cell[:, 2]
    nodes = field.reshape(-1, field.shape[3])
    high = [np.ascontiguousarray(fraction[:, axis : axis + 1]) for axis in range(3)]

    def along_z(corner: int) -> np.ndarray:
        first = nodes.take(base + corner, axis=0)
        return first + high[2] * (nodes.take(base + (corner + 1), axis=0) - first)

    def along_y(corner: int) -> np.ndarray:
        first = along_z(corner)
        return first + high[1] * (along_z(corner + stride_y) - first)

    first = along_y(0)
    return first + high[0] * (along_y(stride_x) - first)

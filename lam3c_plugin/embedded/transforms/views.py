"""The views of a scene that self-supervised pre-training compares."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lam3c_plugin.embedded.registry import TRANSFORMS
from lam3c_plugin.embedded.transforms.compose import Compose, Sample, as_float32, require_points, scene_name, take
from lam3c_plugin.embedded.transforms.sampling import nearest_rows
from lam3c_plugin.errors import ConfigError, DataError

Configs = Sequence[Mapping[str, Any]] | None


@TRANSFORMS.register_module()
class MultiViewGenerator:
    """Global and local views of a scene, as Sonata draws them ("Settings" of the LAM3C paper, arXiv 2512.23042).

    A view is the points nearest to a centre, a share uniform in its scale of ``max_size`` (or of the scene, where that
    is smaller). The first ("principal") global view lies around a random point, the others around points of the
    first, local views around points of the first that no local view covers yet. Global views are cut from the scene
    after ``global_shared_transform``, local views from the scene before it.

    Adds ``global_<key>`` and ``local_<key>`` for every view key, views one after the other, and ``global_offset``,
    ``local_offset`` (V,), running sums of the views' sizes. Every view has at least one point.

    Args:
        global_view_num: number of global views.
        local_view_num: number of local views.
        global_view_scale: (low, high) share of points of a global view.
        local_view_scale: that of a local one.
        global_shared_transform: transforms of the whole scene, shared by the global views.
        global_transform: transforms of each global view, drawn anew for each.
        local_transform: those of each local view.
        max_size: points of a view of scale 1.
        center_height_scale: the principal view's centre lies in this part of the scene's height.
        shared_global_view: all global views are the principal view's points.
        view_keys: the entries a view has; "coord" must be among them.

    Raises:
        DataError: no points, or a view key is missing; the scene is named.
    """

    def __init__(
        self,
        global_view_num: int = 2,
        global_view_scale: Sequence[float] = (0.4, 1.0),
        local_view_num: int = 4,
        local_view_scale: Sequence[float] = (0.1, 0.4),
        global_shared_transform: Configs = None,
        global_transform: Configs = None,
        local_transform: Configs = None,
        max_size: int = 65536,
        center_height_scale: Sequence[float] = (0, 1),
        shared_global_view: bool = False,
        view_keys: Sequence[str] = ("coord", "origin_coord", "color", "normal"),
    ) -> None:
        if "coord" not in view_keys:
            raise ConfigError(f"MultiViewGenerator: view_keys must contain 'coord', got {tuple(view_keys)}")
        if global_view_num < 1 or local_view_num < 0 or max_size < 1:
            raise ConfigError(
                "MultiViewGenerator: needs global_view_num >= 1, local_view_num >= 0 and max_size >= 1, "
                f"got {global_view_num}, {local_view_num} and {max_size}"
            )
        self.global_view_num = global_view_num
        self.global_view_scale = tuple(global_view_scale)
        self.local_view_num = local_view_num
        self.local_view_scale = tuple(local_view_scale)
        self.global_shared_transform = Compose(global_shared_transform)
        self.global_transform = Compose(global_transform)
        self.local_transform = Compose(local_transform)
        self.max_size = max_size
        self.center_height_scale = tuple(center_height_scale)
        self.shared_global_view = shared_global_view
        self.view_keys = tuple(view_keys)

    def __call__(self, data_dict: Sample) -> Sample:
        coord = require_points(data_dict, "MultiViewGenerator")
        missing = [key for key in self.view_keys if key not in data_dict]
        if missing:
            raise DataError(f"{scene_name(data_dict)}: MultiViewGenerator needs {missing}, not in the sample")
        # deep: a foreign transform may write into what it is given
        point = (
            self.global_shared_transform(copy.deepcopy(data_dict)) if self.global_shared_transform.cfg else data_dict
        )
        columns = np.ascontiguousarray(as_float32(point["coord"]).T)
        source_columns = columns if point is data_dict else np.ascontiguousarray(as_float32(coord).T)

        major_rows = self.view_rows(columns, self._principal_center(coord), self.global_view_scale)
        major_coord = np.take(point["coord"], major_rows, axis=0)
        global_rows = [major_rows]
        for _ in range(self.global_view_num - 1):
            if self.shared_global_view:
                global_rows.append(major_rows)
            else:
                center = major_coord[np.random.randint(len(major_coord))]
                global_rows.append(self.view_rows(columns, center, self.global_view_scale))
        local_rows = self._local_rows(source_columns, major_rows, major_coord)

        views = [self.global_transform(self.cut(point, rows)) for rows in global_rows]
        self._join(data_dict, "global", views)
        views = [self.local_transform(self.cut(data_dict, rows)) for rows in local_rows]
        if views:
            self._join(data_dict, "local", views)
        return data_dict

    def _principal_center(self, coord: np.ndarray) -> np.ndarray:
        height = coord[:, 2]
        low, high = height.min(), height.max()
        bottom, top = (low + (high - low) * share for share in self.center_height_scale)
        rows = np.flatnonzero((height >= bottom) & (height <= top))
        # rounding, or a scene with a floor and a ceiling alone, may leave no point in the band
        return coord[rows[np.random.randint(len(rows))] if len(rows) else np.random.randint(len(coord))]

    def view_rows(self, columns: np.ndarray, center: np.ndarray, scale: Sequence[float]) -> np.ndarray:
        """Rows, ascending, of a view around ``center`` (3,) m; ``columns`` (3, N) are the scene's coordinates."""
        limit = min(self.max_size, columns.shape[1])
        size = 0
        for _ in range(10):  # in a tiny scene a share may round to nothing
            size = int(np.random.uniform(*scale) * limit)
            if size > 0:
                break
        if size == 0:
            size = min(limit, max(10, int(scale[-1] * limit)))
        return nearest_rows(columns, center, size)

    def _local_rows(self, columns: np.ndarray, major_rows: np.ndarray, major_coord: np.ndarray) -> list[np.ndarray]:
        covered = np.zeros(len(major_rows), dtype=bool)
        in_view = np.zeros(columns.shape[1], dtype=bool)
        views = []
        for _ in range(self.local_view_num):
            free = np.flatnonzero(~covered)
            if len(free) == 0:  # all covered: begin again
                covered[:] = False
                free = np.arange(len(covered))
            center = major_coord[free[np.random.randint(len(free))]]
            rows = self.view_rows(columns, center, self.local_view_scale)
            in_view[rows] = True
            covered |= in_view[major_rows]
            in_view[rows] = False
            views.append(rows)
        return views

    def cut(self, point: Sample, rows: np.ndarray) -> Sample:
        """A new sample with the view keys of ``point`` at ``rows``."""
        view = {key: take(point[key], rows) for key in self.view_keys}
        view["name"] = point.get("name", "a scene without a name")
        if "index_valid_keys" in point:
            view["index_valid_keys"] = point["index_valid_keys"]
        return view

    def _join(self, data_dict: Sample, prefix: str, views: list[Sample]) -> None:
        for key in self.view_keys:
            data_dict[f"{prefix}_{key}"] = np.concatenate([view[key] for view in views])
        data_dict[f"{prefix}_offset"] = np.cumsum([len(view["coord"]) for view in views])


@TRANSFORMS.register_module()
class ContrastiveViewsGenerator:
    """Two views ``view1_<key>``, ``view2_<key>`` of the whole scene, each with its own draw of ``view_trans_cfg``."""

    def __init__(
        self,
        view_keys: Sequence[str] = ("coord", "color", "normal", "origin_coord"),
        view_trans_cfg: Configs = None,
    ) -> None:
        self.view_keys = tuple(view_keys)
        self.view_trans = Compose(view_trans_cfg)

    def __call__(self, data_dict: Sample) -> Sample:
        views = [self.view_trans({key: data_dict[key].copy() for key in self.view_keys}) for _ in range(2)]
        for number, view in enumerate(views, start=1):
            data_dict.update({f"view{number}_{key}": value for key, value in view.items()})
        return data_dict

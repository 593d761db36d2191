"""``Point``, and the modules that pass one on: the host's structures without its libraries."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lam3c_plugin.embedded.geometry import GRID_ORIGINS, CloudGeometry, PointCloudError, check_clouds, curve_names
from lam3c_plugin.embedded.hooks.default import HookBase
from lam3c_plugin.ops.segments import batch2offset, offset2batch


class Point(dict):
    """A batch of point clouds: a dictionary whose entries are also attributes.

    Usual entries, for N points in B clouds: ``coord`` (N, 3) metres, ``feat`` (N, C), ``grid_coord`` (N, 3) cells,
    ``grid_size`` metres, ``batch`` (N,) cloud index, ``offset`` (B,) running sums of the clouds' sizes; of the last
    two a missing one is made from the other. A missing entry raises ``KeyError`` (as item) or ``AttributeError``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "batch" not in self and "offset" in self:
            self["batch"] = offset2batch(self["offset"])
        elif "offset" not in self and "batch" in self:
            self["offset"] = batch2offset(self["batch"])

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"Point has no {name!r}; it holds {', '.join(map(str, self)) or 'nothing'}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"Point has no {name!r}") from None

    def copy(self) -> Point:
        """A Point with the same entries (not copied themselves)."""
        return Point(self)

    def locate(self, grid_origin: str = "cloud") -> CloudGeometry:
        """The geometry of these points (see `CloudGeometry`); made when ``geometry`` is not there yet.

        Raises:
            PointCloudError: unusable coordinates, cells or offsets; the message names value and cure.
        """
        if "geometry" in self:
            if len(self["geometry"]) != self["batch"].shape[0]:
                raise PointCloudError(
                    f"geometry is of {len(self['geometry'])} points, the batch has {len(self['batch'])}"
                )
            self.setdefault("grid_coord", self["geometry"].cells)
            return self["geometry"]
        if "offset" not in self:
            raise PointCloudError("a batch needs offset (B,) or batch (N,) to tell its clouds apart")
        sizes = check_clouds(self["batch"].shape[0], self["offset"])
        for key in ("feat", "coord", "grid_coord"):
            if key in self and len(self[key]) != sum(sizes):
                raise PointCloudError(f"{key} has {len(self[key])} rows, offset tells of {sum(sizes)} points")
        if "grid_coord" not in self:
            if "coord" not in self or "grid_size" not in self:
                raise PointCloudError("a batch needs grid_coord, or coord and grid_size, to be sorted into cells")
            if grid_origin not in GRID_ORIGINS:
                raise ValueError(f"grid_origin={grid_origin!r} is not one of {', '.join(GRID_ORIGINS)}")
            self["geometry"] = CloudGeometry.from_coord(
                self["coord"], self["grid_size"], self["batch"], sizes, grid_origin
            )
            self["grid_coord"] = self["geometry"].cells
        else:
            self["geometry"] = CloudGeometry.from_cells(self["grid_coord"], self["batch"], sizes, grid_origin)
        # of points that share a cell the nearest to its centre comes first; ties by coordinates, then by features
        self["geometry"].ties += [self[key].detach() for key in ("coord", "feat") if key in self]
        return self["geometry"]

    def serialization(
        self, order: str | Sequence[str] = "z", shuffle_orders: bool = False, grid_origin: str = "cloud"
    ) -> None:
        """Sort the points along curves: sets ``serialized_code``, ``_order``, ``_inverse`` ((curves, N) int64 each).

        ``order`` names the curves and is kept as ``point.order``; ``point.curves`` names them as they stand in those
        tensors, which differs from ``order`` when they are shuffled (with PyTorch's CPU generator).
        """
        geometry = self.locate(grid_origin)
        names = curve_names(order)
        self["order"] = order
        if shuffle_orders:
            names = tuple(names[i] for i in torch.randperm(len(names)).tolist())
        self["curves"] = names
        self["serialized_depth"] = geometry.depth
        self["serialized_code"], self["serialized_order"], self["serialized_inverse"] = geometry.memo(
            ("curves", names), lambda: geometry.curves(names)
        )


class PointModule(nn.Module):
    """A module that takes and returns a `Point`."""


class PointModel(PointModule, HookBase):
    """A model with hook methods: a ``ModelHook`` calls them during training and sets ``trainer``."""


class PointSequential(PointModule):
    """Modules one after the other: a `PointModule` gets the point, any other module the point's features.

    Also takes a plain tensor, which then goes through as in ``nn.Sequential``.
    """

    def __init__(self, *modules: nn.Module | OrderedDict[str, nn.Module], **named: nn.Module) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], OrderedDict):
            modules, named = (), {**modules[0], **named}
        for module in modules:
            self.add(module)
        for name, module in named.items():
            self.add(module, name)

    def add(self, module: nn.Module, name: str | None = None) -> None:
        """Append ``module``, under its position where no name is given.

        Raises:
            KeyError: the name is taken.
        """
        name = str(len(self)) if name is None else name
        if name in self._modules:
            raise KeyError(f"a module named {name!r} is there already")
        self.add_module(name, module)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._modules.values())

    def __getitem__(self, index: int) -> nn.Module:
        return list(self._modules.values())[index]

    def forward(self, point: Point | Tensor) -> Point | Tensor:
        for module in self:
            if isinstance(module, PointModule) or not isinstance(point, Point):
                point = module(point)
            else:
                point.feat = module(point.feat)
        return point

"""``lam3c_plugin.load("lam3c-ptv3-base").encode(coord, color)``: per-point features of clouds of any size."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lam3c_plugin.checkpoints.run_config import DEFAULT_GRID, FEATURES
from lam3c_plugin.embedded.geometry import PointCloudError
from lam3c_plugin.embedded.ptv3 import PointTransformerV3
from lam3c_plugin.encode.clouds import CellCloud, as_columns, prepare, split_rows
from lam3c_plugin.encode.memory import GIB, choose_limit, machine_bytes, out_of_memory
from lam3c_plugin.encode.models import (
    build_encoder,
    feature_columns,
    find_weights,
    pick_device,
    random_backbone,
    stage_widths,
)
from lam3c_plugin.encode.stages import Stage, run_stages
from lam3c_plugin.errors import ConfigError
from lam3c_plugin.zoo.shipped import TINY

FULL = "full"
DTYPES = {"float32": torch.float32, "float16": torch.float16}
_BLOCK = 1 << 16  # points that are gathered at a time


@dataclass(frozen=True)
class EncoderInfo:
    """What an `Encoder` is: where its weights are from, its architecture, channels of every level.

    ``grid_size`` is the cell in metres that they were trained on, None where nobody says.
    """

    source: str
    kind: str
    config: dict[str, Any]
    parameters: int
    channels: tuple[int, ...]
    device: str
    grid_size: float | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Encoded:
    """A cloud's features where the network has them: at one point a cell.

    Attributes:
        feat: (M, C), tensor or array.
        rows: (M,) int64, the input point that stands for each cell.
        inverse: (N,) int64, the cell of each input point: ``feat[inverse]`` are the features of all points.
        cells: points in each stage of the encoder, finest first.
        pieces: passes each stage took, 1 where it was not cut.
    """

    feat: Any
    rows: Any
    inverse: Any
    cells: tuple[int, ...]
    pieces: tuple[int, ...]


class Encoder:
    """A frozen PTv3 encoder; features are float32, computed in eval mode, the same to the bit on every run.

    A cloud's features do not depend on the other clouds of a call, which go through one at a time. They do depend, by
    rounding, on the device and the number of threads.

    Args:
        backbone: the encoder.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
        source: for `info`.
        kind: likewise.
        config: likewise.
        notes: likewise.
        inputs: what the weights were trained on: ``grid_size`` in metres, ``features`` (of coord, color, normal).

    Attributes:
        grid_size: the cell in metres that `encode` takes: the weights' own, 0.02 where nobody says.
    """

    def __init__(
        self,
        backbone: PointTransformerV3,
        device: str | torch.device = "auto",
        *,
        source: str = "",
        kind: str = "",
        config: dict[str, Any] | None = None,
        notes: Sequence[str] = (),
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        self.device = pick_device(device)
        self.backbone = backbone.to(self.device).eval().requires_grad_(False)
        self._widths = stage_widths(backbone)
        inputs = inputs or {}
        self.grid_size = float(inputs.get("grid_size") or DEFAULT_GRID)
        self._columns = feature_columns(backbone, inputs.get("features") or FEATURES)
        self.info = EncoderInfo(
            source=source,
            kind=kind,
            config=dict(config or {}),
            parameters=sum(p.numel() for p in backbone.parameters()),
            channels=tuple(self.channels(level) for level in range(len(self._widths))),
            device=str(self.device),
            grid_size=inputs.get("grid_size"),
            notes=list(notes),
        )

    @classmethod
    def random(cls, size: str = "base", seed: int = 0, device: str | torch.device = "auto") -> Encoder:
        """An encoder with random weights ("tiny", "base", "large"), to try things out without a checkpoint."""
        return cls(
            random_backbone(size, seed), device, source=f"random {size}, seed {seed}", kind="random",
            notes=["random weights: these features mean little"],
        )  # fmt: skip

    def __repr__(self) -> str:
        """Where its weights are from, their size, the channels of its features, the cells it takes."""
        own = {None: "the weights do not say", self.grid_size: "as they were trained"}
        where = own.get(self.info.grid_size, f"they were trained on {self.info.grid_size} m")
        return (
            f"Encoder({self.info.source}: {self.info.parameters / 1e6:.1f} M parameters, {self.channels()} channels, "
            f"cells of {self.grid_size:g} m ({where}), on {self.device})"
        )

    def fingerprint(self) -> str:
        """16 hexadecimal digits of the weights: equal for equal weights, whatever the file they came in."""
        digest = hashlib.blake2b(digest_size=8)
        for name, value in sorted(self.backbone.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def channels(self, level: int | str = FULL) -> int:
        """Width of the features of a level (Base: 512, 896, 1088, 1184, 1232 for 0 .. 4; "full" is the last)."""
        return sum(self._widths[len(self._widths) - 1 - self._level(level) :])

    def encode(
        self,
        coord: Any,
        color: Any = None,
        normal: Any = None,
        *,
        level: int | str = FULL,
        grid_size: float | None = None,
        chunk: str | int | None = "auto",
        normals: str = "estimate",
        color_range: str | float = "auto",
        batch: Any = None,
        offset: Any = None,
        dtype: str | torch.dtype = "float32",
        return_tensor: bool | None = None,
    ) -> Any:
        """Features of every point of one cloud, or of several.

        Args:
            coord: (N, 3) metres, z up; or a list of such, one a cloud (``color`` and ``normal`` then too).
            color: (N, 3) 0-255 or 0-1 (recognised; ``color_range`` overrules), or None.
            normal: (N, 3), or None: see ``normals``.
            level: stages that are joined, coarsest first: 0 is the coarsest alone, each level adds the next finer
                one in front; "full" is all of them (Base: 1,232 channels). Each point gets its cell's features.
            grid_size: cell in metres; None: the one that the weights were trained on. Another is a warning.
            chunk: "auto" (one pass where the machine's memory allows), a number of cells a pass may take, or None
                (one pass). What chunks cost in agreement: docs/encode.md.
            normals: where none are given, "estimate" them or take "zero".
            color_range: "auto", or the value of full brightness (1 or 255).
            batch: (N,) integers, the cloud of each point, for several clouds in one array, in any order.
            offset: (B,) running sums of the clouds' sizes, instead of ``batch``.
            dtype: "float32" or "float16" of the result.
            return_tensor: True for a tensor, False for an array, None for what ``coord`` is.

        Returns:
            (N, C), a list of them for a list. A tensor lies on the device of ``coord``.

        Raises:
            PointCloudError: (a ``DataError`` and ``ValueError``) a cloud that cannot be used; value and cure named.
        """
        options = {"level": level, "chunk": chunk, "dtype": dtype, "return_tensor": return_tensor}
        options.update(grid_size=self._grid(grid_size), normals=normals, color_range=color_range)
        if isinstance(coord, list | tuple) and any(getattr(item, "ndim", 0) == 2 for item in coord):
            if batch is not None or offset is not None:
                raise PointCloudError("give a list of clouds or batch/offset, not both")
            colors, given = _like_list(color, "color", len(coord)), _like_list(normal, "normal", len(coord))
            clouds = zip(coord, colors, given, strict=True)
            return [self._encode_numbered(number, cloud, options) for number, cloud in enumerate(clouds)]
        return self._encode_rows((coord, color, normal), batch, offset, **options)

    def encode_cells(
        self,
        coord: Any,
        color: Any = None,
        normal: Any = None,
        *,
        level: int | str = FULL,
        grid_size: float | None = None,
        chunk: str | int | None = "auto",
        normals: str = "estimate",
        color_range: str | float = "auto",
        dtype: str | torch.dtype = "float32",
    ) -> Encoded:
        """Features of one cloud at one point a cell; dense clouds take a fraction of the memory. See `encode`."""
        is_tensor, target = isinstance(coord, Tensor), getattr(coord, "device", torch.device("cpu"))
        target = target if is_tensor else torch.device("cpu")
        cloud = prepare(
            coord, color, normal, grid_size=self._grid(grid_size), normals=normals, color_range=color_range,
            device=self.device,
        )  # fmt: skip
        out = self._allocate(len(cloud.cells), level, dtype, target)
        stages = self._run(cloud, chunk, out)
        self._gather(stages, torch.arange(len(cloud.cells), device=self.device), level, out, None)
        values = [value.to(target) for value in (out, cloud.rows, cloud.inverse)]
        return Encoded(
            *(values if is_tensor else [value.numpy() for value in values]),
            cells=tuple(len(stage.feat) for stage in stages),
            pieces=tuple(stage.pieces for stage in stages),
        )

    # ------------------------------------------------------------------------------------------------------- inside
    def _encode_numbered(self, number: int, inputs: tuple[Any, Any, Any], options: dict[str, Any]) -> Any:
        try:
            return self._encode_rows(inputs, **options)
        except PointCloudError as error:
            raise PointCloudError(f"cloud {number}: {error}") from error

    def _encode_rows(
        self,
        inputs: tuple[Any, Any, Any],
        batch: Any = None,
        offset: Any = None,
        *,
        level: int | str,
        chunk: str | int | None,
        dtype: str | torch.dtype,
        return_tensor: bool | None,
        **options: Any,
    ) -> Any:
        """`encode` for clouds in one array; ``options`` are those of `prepare`."""
        is_tensor = isinstance(inputs[0], Tensor)
        columns = as_columns(*inputs)
        total, target = len(columns[0]), columns[0].device
        out = self._allocate(total, level, dtype, target)
        for number, rows in enumerate(split_rows(total, batch, offset, target)):
            try:
                part = [None if c is None else c if rows is None else c[rows] for c in columns]
                cloud = prepare(*part, device=self.device, **options)
            except PointCloudError as error:
                raise error if rows is None else PointCloudError(f"cloud {number}: {error}") from error
            stages = self._run(cloud, chunk, out)
            self._gather(stages, cloud.inverse, level, out, rows)
        as_tensor = is_tensor if return_tensor is None else return_tensor
        return out if as_tensor else out.cpu().numpy()

    def _grid(self, asked: float | None) -> float:
        """The cell to take: what was asked for, or the weights' own."""
        own = self.info.grid_size
        if own is not None and asked not in (None, own, self.grid_size):
            warnings.warn(f"grid_size={asked}: {other_grid(own)}", stacklevel=3)
        return self.grid_size if asked is None else asked

    def _level(self, level: int | str) -> int:
        return level_number(level, len(self._widths))

    def _allocate(self, rows: int, level: int | str, dtype: str | torch.dtype, device: torch.device) -> Tensor:
        kind = DTYPES.get(dtype.__name__ if isinstance(dtype, type) else str(dtype).removeprefix("torch."))
        if kind is None:
            raise PointCloudError(f"dtype={dtype!r}: choose from {', '.join(DTYPES)}")
        width = self.channels(level)
        size = rows * width * torch.empty(0, dtype=kind).element_size()
        if size > machine_bytes(device):
            raise PointCloudError(
                f"{rows:,} points times {width} channels are {size / GIB:.0f} GiB, more than this machine has: take "
                "encode_cells (one point a cell), dtype='float16', a lower level, or a larger grid"
            )
        return torch.empty(rows, width, dtype=kind, device=device)

    def _run(self, cloud: CellCloud, chunk: str | int | None, out: Tensor) -> list[Stage]:
        held = 4.0 * self.info.parameters
        # "cuda" and "cuda:0" are the same place
        held += out.numel() * out.element_size() if out.device.type == self.device.type else 0
        limit = choose_limit(len(cloud.cells), self._widths, self.device, held, chunk)
        try:
            with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
                return run_stages(self.backbone, cloud.feat[:, self._columns], cloud.cells, limit)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            taken = f"passes of at most {limit:,} cells" if limit else "one pass"
            raise PointCloudError(
                f"out of memory: {len(cloud.cells):,} cells, {taken} on {self.device}; give a smaller chunk (such as "
                f"{max(1024, (limit or len(cloud.cells)) // 4)}), a larger grid, or another device"
            ) from error

    def _gather(self, stages: list[Stage], index: Tensor, level: int | str, out: Tensor, rows: Tensor | None) -> None:
        """Write the stages' features side by side into ``out`` (its ``rows``), never whole on the way."""
        first = len(stages) - 1 - self._level(level)
        column = 0
        for number, stage in enumerate(stages):
            index = index if stage.index is None else stage.index[index]
            if number < first:
                continue
            width = stage.feat.shape[1]
            for start in range(0, len(index), _BLOCK):
                part = stage.feat[index[start : start + _BLOCK]].to(dtype=out.dtype).to(out.device)
                place = slice(start, start + _BLOCK) if rows is None else rows[start : start + _BLOCK]
                out[place, column : column + width] = part
            column += width


def load(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    random: str | None = None,
    device: str | torch.device = "auto",
    student: bool = True,
) -> Encoder:
    """The encoder of a zoo name ("lam3c-tiny"), a checkpoint file of any kind, or a folder.

    Args:
        name_or_path: zoo name, file or folder; None: "lam3c-tiny", the small weights that come with the package.
        random: "tiny", "base" or "large": random weights instead, as `Encoder.random` makes them.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
        student: of a training checkpoint the student's backbone, as the zoo has it; False: the teacher's.

    Raises:
        CheckpointError: not found, damaged, of another architecture, or not safe to open.
    """
    if random is not None:
        if name_or_path is not None:
            raise ConfigError(f"load({os.fspath(name_or_path)!r}, random={random!r}): give one of them")
        return Encoder.random(random, device=device)
    wanted = TINY if name_or_path is None else os.fspath(name_or_path)
    weights = find_weights(wanted, student)
    source = str(weights.source) if os.path.exists(os.path.expanduser(wanted)) else wanted  # a name says it better
    backbone = build_encoder(weights.backbone_config, weights.backbone)
    return Encoder(
        backbone, device, source=source, kind=weights.kind, config=weights.backbone_config,
        notes=weights.notes, inputs=weights.inputs,
    )  # fmt: skip


def level_number(level: int | str, stages: int) -> int:
    """A level as a number; `Encoder.encode` says what levels are.

    Raises:
        PointCloudError: neither "full" nor one of the levels.
    """
    if level == FULL:
        return stages - 1
    if isinstance(level, bool) or not isinstance(level, int | np.integer) or not 0 <= level < stages:
        raise PointCloudError(f"level={level!r}: give 'full' or a number from 0 to {stages - 1}")
    return int(level)


def other_grid(own: float) -> str:
    """What is said where another grid than the weights' is asked for."""
    return f"these weights were trained on cells of {own:g} m, and their features are worse on others"


def _like_list(values: Any, name: str, count: int) -> list[Any]:
    if values is None:
        return [None] * count
    if not isinstance(values, list | tuple) or len(values) != count:
        raise PointCloudError(f"coord is a list of {count} clouds: give {name} as a list of as many, or None")
    return list(values)

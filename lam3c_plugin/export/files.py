"""Writes `.export_network.DenseEncoder` as ``.pt2`` or ONNX, and holds the file against the encoder."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_tools.stages.files import replacing
from lam3c_plugin.analysis.heads import Head
from lam3c_plugin.embedded.ptv3 import PointTransformerV3
from lam3c_plugin.encode.stages import run_stages
from lam3c_plugin.errors import ConfigError, Lam3cError
from lam3c_plugin.export.network import DenseEncoder, Tables, lookup_tables

ONNX_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # of the largest feature


class ExportError(Lam3cError):
    """The network could not be exported, or the file gives other numbers; no file is left then."""


def made_cloud(cells: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Channels (M, 9) and sorted cells (M, 3) of a made box of about ``cells`` surface cells, to trace with."""
    rng = np.random.default_rng(seed)
    edge = max(8, int((cells / 3) ** 0.5))
    plane = np.stack(np.meshgrid(np.arange(edge), np.arange(edge), indexing="ij"), -1).reshape(-1, 2)
    walls = [np.insert(plane, axis, 0, axis=1) for axis in range(3)]
    found = np.unique(np.concatenate(walls), axis=0)
    found = found[rng.random(len(found)) < 0.95]
    feat = np.concatenate([found * 0.02, rng.random((len(found), 3)), rng.normal(size=(len(found), 3))], axis=1)
    return torch.from_numpy(feat.astype(np.float32)), torch.from_numpy(found).int()


def dynamic_shapes(tables: Tables) -> tuple[Any, ...]:
    """Which sizes of the inputs vary from cloud to cloud: points and patches of every stage."""
    dim = torch.export.Dim
    n = [dim(f"n{s}", min=2) for s in range(len(tables.neighbours))]
    p = [dim(f"p{s}", min=1) for s in range(len(tables.rows))]
    return (
        {0: n[0]},
        [{0: size} for size in n],
        [{1: size} for size in p],
        [{1: size} for size in n],
        [{0: size} for size in p],
        [{0: size} for size in n[1:]],
        [{0: size} for size in n[:-1]],
    )


def traced(backbone: PointTransformerV3, head: nn.Linear | None = None) -> torch.export.ExportedProgram:
    """The encoder as an exported program that takes clouds of any size."""
    model = DenseEncoder(backbone, head)
    feat, cells = made_cloud(2048)
    tables = _widened(lookup_tables(backbone, cells))
    return torch.export.export(model, (feat, *tables), dynamic_shapes=dynamic_shapes(tables), strict=False)


def _widened(tables: Tables) -> Tables:
    """The tables with at least two patches a stage: a size of 1 would be taken for a constant."""
    rows, valid = [], []
    for row, mask in zip(tables.rows, tables.valid, strict=True):
        if row.shape[1] == 1:
            row, mask = row.repeat(1, 2, 1), mask.repeat(2, 1)
        rows.append(row)
        valid.append(mask)
    return tables._replace(rows=rows, valid=valid)


def flat_inputs(feat: Tensor, tables: Tables) -> dict[str, np.ndarray]:
    """The inputs under the names that they have in the ONNX file: ``feat``, ``neighbours_0``, ..."""
    named = {f"{name}_{s}": value for name, values in tables._asdict().items() for s, value in enumerate(values)}
    return {name: value.cpu().numpy() for name, value in {"feat": feat, **named}.items()}


def write_torch(program: torch.export.ExportedProgram, backbone: PointTransformerV3, path: Path, head: Any) -> float:
    """Save a program as ``.pt2`` and hold the file against the encoder (`largest_difference`).

    Raises:
        ExportError: it gives other numbers; ConfigError: it cannot be written.
    """

    def save(temporary: Path) -> Any:
        torch.export.save(program, str(temporary))
        module = torch.export.load(str(temporary)).module()
        return lambda feat, tables: module(feat, *tables)

    return _write(path, save, backbone, head)


def write_onnx(program: torch.export.ExportedProgram, backbone: PointTransformerV3, path: Path, head: Any) -> float:
    """Save a program as ONNX (opset 18, weights inside), run it in onnxruntime and compare.

    Raises:
        ConfigError: a library is missing; ExportError: it gives other numbers.
    """
    missing = [name for name in ONNX_LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--onnx needs {' '.join(missing)} to write and to check the file: pip install {' '.join(missing)}"
        )

    def save(temporary: Path) -> Any:
        import onnxruntime

        torch.onnx.export(program, dynamo=True, opset_version=18, verbose=False).save(str(temporary))
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        return lambda feat, tables: torch.from_numpy(session.run(None, flat_inputs(feat, tables))[0])

    return _write(path, save, backbone, head)


def _write(path: Path, save: Callable[[Path], Any], backbone: PointTransformerV3, head: Any) -> float:
    try:
        with replacing(path) as temporary:
            off = largest_difference(save(temporary), backbone, head)
            if off <= TOLERANCE:
                return off
            raise ExportError(f"{path}: the exported network is off by {off:.2g} of the largest feature; not written")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}; check the folder") from error


def largest_difference(run: Callable[..., Tensor], backbone: PointTransformerV3, head: nn.Linear | None) -> float:
    """Largest difference of an exported network to the encoder on made clouds of other sizes than it was traced with,
    as a share of the largest value."""
    worst = 0.0
    with torch.inference_mode():
        for count, seed in ((300, 1), (9000, 2)):
            feat, cells = made_cloud(count, seed)
            wanted = encoder_output(backbone, feat, cells, head)
            found = run(feat, lookup_tables(backbone, cells))
            worst = max(worst, float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12)))
    return worst


def encoder_output(backbone: PointTransformerV3, feat: Tensor, cells: Tensor, head: nn.Linear | None = None) -> Tensor:
    """What ``lam3c encode`` computes: the features (M, C) of all levels at the cells, or a head's scores (M, K)."""
    index, levels = torch.arange(len(cells)), []
    for stage in run_stages(backbone, feat, cells):
        index = index if stage.index is None else stage.index[index]
        levels.append(stage.feat[index])
    joined = torch.cat(levels, dim=1)
    return joined if head is None else head(joined)


def linear_of(head: Head) -> nn.Linear:
    """A head as a layer."""
    layer = nn.Linear(head.weight.shape[1], head.weight.shape[0])
    layer.load_state_dict({"weight": torch.from_numpy(head.weight), "bias": torch.from_numpy(head.bias)})
    return layer.requires_grad_(False)

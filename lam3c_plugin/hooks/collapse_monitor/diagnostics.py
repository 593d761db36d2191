"""What a model observed on one rank, as sums that can be added over ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lam3c_plugin.hooks.collapse_monitor.measures import feature_moments
from lam3c_plugin.host import comm
from lam3c_plugin.ops.distributed import all_reduce_sum

Sums = dict[str, Tensor]


def local_sums(diagnostics: dict[str, Any]) -> Sums:
    """Float64 sums by name, ``<source>/<what>``, of a model's ``diagnostics``; what a source lacks is left out.

    Args:
        diagnostics: clustering statistics (`lam3c_plugin.losses.clustering.ClusteringStats`) under any name,
            features (N, C) under ``feat`` and ``teacher_feat``, graph statistics (``points``, ``edges``,
            ``points_with_edge``) under ``laplacian``.
    """
    sums: Sums = {}
    for name, value in diagnostics.items():
        if isinstance(value, Tensor):
            if value.ndim == 2:
                sums.update(_of_features(name, value))
        elif hasattr(value, "student_counts"):
            sums.update(_of_clustering(name, value))
        elif hasattr(value, "points_with_edge"):
            for what in ("points", "edges", "points_with_edge"):
                sums[f"{name}/{what}"] = torch.as_tensor(getattr(value, what), dtype=torch.float64).reshape(())
    return sums


def _of_clustering(name: str, stats: Any) -> Sums:
    if stats.student_counts is None or stats.marginal is None:
        return {}
    rows = int(stats.rows)
    return {
        f"{name}/rows": torch.tensor(float(rows), dtype=torch.float64),
        f"{name}/target_entropy": stats.target_entropy.double() * rows,
        f"{name}/agreement": stats.agreement.double() * rows,
        f"{name}/marginal": stats.marginal.double() * rows,
        f"{name}/student_counts": stats.student_counts.double(),
        f"{name}/target_counts": stats.target_counts.double(),
    }


def _of_features(name: str, feat: Tensor) -> Sums:
    moments = feature_moments(feat)
    sums = {
        f"{name}/count": moments["count"].reshape(()),
        f"{name}/total": moments["total"],
        f"{name}/square": moments["gram"].diagonal().clone(),
    }
    if name == "feat":  # (C, C) is what the effective rank needs
        sums[f"{name}/gram"] = moments["gram"]
    return sums


def gather_sums(local: Sums, device: torch.device) -> Sums:
    """The sums over all ranks, on the CPU.

    Every rank has to call it and makes the same two collective calls, even if it has nothing to add: names and shapes
    are exchanged first, what a rank lacks counts as zeros there.
    """
    layout: dict[str, tuple[int, ...]] = {}
    for shapes in comm.all_gather({name: tuple(value.shape) for name, value in local.items()}):
        layout.update(shapes)
    names = sorted(layout)
    if not names:
        return {}
    parts = [
        local[name].to(device).reshape(-1)
        if name in local
        else torch.zeros(layout[name], dtype=torch.float64, device=device).reshape(-1)
        for name in names
    ]
    flat = all_reduce_sum(torch.cat(parts)).cpu()
    pieces = flat.split([part.numel() for part in parts])
    return {name: piece.view(layout[name]) for name, piece in zip(names, pieces, strict=True)}

"""The losses as modules registered in ``LOSSES``: settings in the constructor, the maths in the functions."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lam3c_plugin.host import LOSSES
from lam3c_plugin.losses.clustering import clustering_loss
from lam3c_plugin.losses.clustering_kernel import ClusteringStats, Similarity
from lam3c_plugin.losses.consistency import noise_consistency_loss
from lam3c_plugin.losses.laplacian import laplacian_smoothing_loss
from lam3c_plugin.losses.laplacian_graph import LaplacianGraph, build_laplacian_graph
from lam3c_plugin.ops.neighbours import knn


@LOSSES.register_module()
class SinkhornClusteringLoss(nn.Module):
    """`clustering_loss` times ``loss_weight``.

    Args:
        student_temp: temperature of the student's softmax.
        num_iters: Sinkhorn iterations.
        loss_weight: factor.
    """

    def __init__(self, student_temp: float = 0.1, num_iters: int = 3, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.student_temp, self.num_iters, self.loss_weight = student_temp, num_iters, loss_weight

    def forward(
        self,
        student_similarity: Tensor | Similarity,
        teacher_similarity: Tensor | Similarity,
        batch: Tensor,
        teacher_temp: float,
        *,
        num_clouds: int | None = None,
        stats: ClusteringStats | None = None,
    ) -> Tensor:
        """(N, K), (N, K), (N,) and the teacher's temperature to a scalar; see `clustering_loss`."""
        loss = clustering_loss(
            student_similarity,
            teacher_similarity,
            batch,
            self.student_temp,
            teacher_temp,
            self.num_iters,
            num_clouds=num_clouds,
            stats=stats,
        )
        return loss if self.loss_weight == 1 else loss * self.loss_weight


class LaplacianStats(NamedTuple):
    """What the Laplacian graph of this rank's last batch was."""

    points: int
    edges: int  # directed: a point to one of its k nearest
    points_with_edge: Tensor  # 0-d


@LOSSES.register_module()
class LaplacianSmoothingLoss(nn.Module):
    """`laplacian_smoothing_loss`; keeps ``last_graph_stats`` and warns once if not a single edge survives the cut.

    Args:
        k: neighbours of a point in the graph, see `build_laplacian_graph`.
        sigma: of the edges' weights, in metres.
        max_distance: longest edge, in metres.
        huber_delta: where the penalty turns from square to straight.
        loss_weight: factor.
    """

    def __init__(
        self,
        k: int = 24,
        sigma: float | None = None,
        max_distance: float | None = 0.08,
        huber_delta: float = 0.5,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.k, self.sigma, self.max_distance = k, sigma, max_distance
        self.huber_delta, self.loss_weight = huber_delta, loss_weight
        self.last_graph_stats: LaplacianStats | None = None
        self._warned = False

    def build_graph(self, coord: Tensor, offset: Tensor) -> LaplacianGraph:
        """The graph `forward` would build, to be shared by several calls on the same points."""
        return build_laplacian_graph(coord, offset, self.k, self.sigma, self.max_distance)

    def forward(self, feat: Tensor, coord: Tensor, offset: Tensor, graph: LaplacianGraph | None = None) -> Tensor:
        """(N, C), (N, 3) metres, (B,) to a scalar; see `laplacian_smoothing_loss`."""
        graph = self.build_graph(coord, offset) if graph is None else graph
        self.last_graph_stats = LaplacianStats(graph.num_points, graph.edges, graph.points_with_edge)
        if graph.edges == 0 and graph.num_points > 1 and not self._warned:
            self._warned = True
            warnings.warn(self._why_no_edge(coord, offset), RuntimeWarning, stacklevel=2)
        loss = laplacian_smoothing_loss(feat, coord, offset, huber_delta=self.huber_delta, graph=graph)
        return loss if self.loss_weight == 1 else loss * self.loss_weight

    def _why_no_edge(self, coord: Tensor, offset: Tensor) -> str:
        _, distance = knn(coord, offset, coord, offset, k=2)
        spacing = distance[:, 1][torch.isfinite(distance[:, 1])]
        if spacing.numel() == 0:
            return "Laplacian term is 0: no cloud of the batch has two points; are the views or the grid too small?"
        return (
            f"Laplacian term is 0: not one edge is within max_distance={self.max_distance} m, because the points it "
            f"runs on are {float(spacing.median()):.3g} m from their nearest neighbour (median). Raise max_distance, "
            "lower grid_size or up-cast further; check that coordinates are metres"
        )


@LOSSES.register_module()
class NoiseConsistencyLoss(nn.Module):
    """`noise_consistency_loss` times ``loss_weight``."""

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self,
        student_feat: Tensor,
        teacher_feat: Tensor,
        index_pairs: Tensor,
        batch: Tensor,
        *,
        num_clouds: int | None = None,
    ) -> Tensor:
        """(N, C), (M, C), (P, 2), (N,) or (P,) to a scalar; see `noise_consistency_loss`."""
        loss = noise_consistency_loss(student_feat, teacher_feat, index_pairs, batch, num_clouds=num_clouds)
        return loss if self.loss_weight == 1 else loss * self.loss_weight

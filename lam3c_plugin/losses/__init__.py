"""LAM3C's losses: a pure function each, with a plain reference beside it, and a registered module over it."""

from contextlib import suppress

from lam3c_plugin.errors import Lam3cError
from lam3c_plugin.losses.clustering import (
    clustering_loss,
    clustering_loss_from_embeddings,
    clustering_loss_reference,
)
from lam3c_plugin.losses.clustering_kernel import ClusteringStats, Similarity
from lam3c_plugin.losses.consistency import noise_consistency_loss, noise_consistency_loss_reference
from lam3c_plugin.losses.laplacian import laplacian_smoothing_loss, laplacian_smoothing_loss_reference
from lam3c_plugin.losses.laplacian_graph import LaplacianGraph, build_laplacian_graph

# Without an engine to register with (`import lam3c_plugin` has said so then) the pure functions still work.
with suppress(Lam3cError):
    from lam3c_plugin.losses.modules import (
        LaplacianSmoothingLoss,
        LaplacianStats,
        NoiseConsistencyLoss,
        SinkhornClusteringLoss,
    )

"""Clustering loss: cross-entropy of the student's prototypes against Sinkhorn-Knopp targets of the teacher.

"3D sans 3D Scans" (LAM3C), arXiv 2512.23042, the clustering term; the objective is that of Sonata, arXiv 2503.16429.
The fast path is `lam3c_plugin.losses.clustering_kernel`; `clustering_loss_reference` reads as the formula does.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lam3c_plugin.losses.clustering_kernel import ClusteringStats, FusedClustering, Settings, Similarity
from lam3c_plugin.ops.distributed import global_mean
from lam3c_plugin.ops.segments import segment_count, segment_mean
from lam3c_plugin.ops.sinkhorn import check_similarity, check_temperature, compute_dtype, sinkhorn_knopp_reference


def clustering_loss(
    student_similarity: Tensor | Similarity,
    teacher_similarity: Tensor | Similarity,
    batch: Tensor,
    student_temp: float,
    teacher_temp: float,
    num_iters: int = 3,
    *,
    num_clouds: int | None = None,
    stats: ClusteringStats | None = None,
    retain_graph: bool = False,
) -> Tensor:
    """Mean cross-entropy of the student against the teacher's Sinkhorn-Knopp targets, over all ranks.

    Args:
        student_similarity: (N, K) similarities of the matched student points to the prototypes, or the `Similarity`
            that they are the product of.
        teacher_similarity: (N, K) those of their teacher points; gets no gradient.
        batch: (N,) int64 cloud index of every row. The loss is averaged per cloud, then over the clouds that have a row
            on any rank.
        student_temp: temperature of the student's softmax, > 0.
        teacher_temp: temperature of the targets, > 0.
        num_iters: Sinkhorn iterations, >= 1.
        num_clouds: number of clouds, if known (spares a GPU a synchronisation).
        stats: filled with what a monitor wants to know of this call.
        retain_graph: allow a second backward pass through the result, for one more matrix of the gradients' size.

    Returns:
        0-d float32 (float64 for float64 input). All ranks hold the same value; the gradient is scaled for DDP's average
        (`ops.distributed.global_mean`). Without a single row it is 0 with gradient 0.

    Raises:
        ValueError: shapes that do not fit, a temperature <= 0, num_iters < 1.
    """
    settings = Settings(student_temp, teacher_temp, num_iters, stats=stats, retain_graph=retain_graph)
    return _loss(student_similarity, teacher_similarity, batch, num_clouds, settings)


def clustering_loss_from_embeddings(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    student_prototypes: Tensor,
    teacher_prototypes: Tensor,
    batch: Tensor,
    student_temp: float,
    teacher_temp: float,
    num_iters: int = 3,
    *,
    num_clouds: int | None = None,
    stats: ClusteringStats | None = None,
    max_cache: int | None = None,
) -> Tensor:
    """`clustering_loss` of ``student_embedding @ student_prototypes.T`` and the teacher's, without an (N, K) matrix.

    Args:
        student_embedding: (N, D), usually L2-normalised.
        teacher_embedding: (N, E); gets no gradient.
        student_prototypes: (K, D), usually of norm 1.
        teacher_prototypes: (K, E); gets no gradient.
        batch: as in `clustering_loss`, and so are the temperatures, ``num_iters``, ``num_clouds`` and ``stats``.
        max_cache: bytes that the teacher's exponentials may take during the forward pass, which spares num_iters of its
            products; rows beyond are made again. Default: 2 GiB.

    Returns:
        0-d float32 (float64 for float64 input), as `clustering_loss`; gradients reach the student's embedding and
        prototypes, in their dtypes. May be used for more than one backward pass.

    Raises:
        ValueError: shapes that do not fit, a temperature <= 0, num_iters < 1.
    """
    settings = Settings(student_temp, teacher_temp, num_iters, None, stats, retain_graph=True, max_cache=max_cache)
    student, teacher = (
        Similarity(student_embedding, student_prototypes),
        Similarity(teacher_embedding, teacher_prototypes),
    )
    return _loss(student, teacher, batch, num_clouds, settings)


def clustering_loss_reference(
    student_similarity: Tensor,
    teacher_similarity: Tensor,
    batch: Tensor,
    student_temp: float,
    teacher_temp: float,
    num_iters: int = 3,
) -> Tensor:
    """`clustering_loss` as the formula reads, on dense matrices and with autograd's gradient."""
    _check(student_similarity, teacher_similarity, batch, student_temp, teacher_temp)
    dtype = compute_dtype(student_similarity, teacher_similarity)
    target = sinkhorn_knopp_reference(teacher_similarity.detach().to(dtype), teacher_temp, num_iters)
    log_prob = F.log_softmax(student_similarity.to(dtype) / student_temp, dim=1)
    cross_entropy = -(target * log_prob).sum(1)
    num_clouds = int(batch.max()) + 1 if batch.numel() else 0
    per_cloud = segment_mean(cross_entropy, batch, num_clouds)
    return global_mean(per_cloud.sum(), (segment_count(batch, num_clouds) > 0).sum())


def _loss(
    student: Tensor | Similarity,
    teacher: Tensor | Similarity,
    batch: Tensor,
    num_clouds: int | None,
    settings: Settings,
) -> Tensor:
    _check(student, teacher, batch, settings.student_temp, settings.teacher_temp)
    largest = tuple(part.largest if isinstance(part, Similarity) else None for part in (student, teacher))
    student, prototypes = _parts(student)
    teacher, teacher_prototypes = (None if part is None else part.detach() for part in _parts(teacher))
    given = [part for part in (student, prototypes, teacher, teacher_prototypes) if part is not None]
    weight, clouds = cloud_weights(batch, compute_dtype(*given), num_clouds)
    total = FusedClustering.apply(
        student, prototypes, teacher, teacher_prototypes, weight, settings._replace(largest=largest)
    )
    return global_mean(total, clouds)


def _parts(similarity: Tensor | Similarity) -> tuple[Tensor, Tensor | None]:
    if isinstance(similarity, Similarity):
        return similarity.embedding, similarity.prototypes
    return similarity, None


def cloud_weights(batch: Tensor, dtype: torch.dtype, num_clouds: int | None = None) -> tuple[Tensor, Tensor]:
    """Weight of every row, 1 / rows of its cloud, (N,), and the number of clouds that have a row, 0-d."""
    if num_clouds is None:
        num_clouds = int(batch.max()) + 1 if batch.numel() else 0
    count = segment_count(batch, num_clouds, dtype)
    return count.clamp(min=1).reciprocal()[batch], (count > 0).sum()


def _check(
    student: Tensor | Similarity, teacher: Tensor | Similarity, batch: Tensor, student_temp: float, teacher_temp: float
) -> None:
    check_temperature(student_temp)
    check_temperature(teacher_temp)
    shapes = [_shape(name, part) for name, part in (("student", student), ("teacher", teacher))]
    if shapes[0] != shapes[1] or batch.shape != shapes[0][:1]:
        raise ValueError(
            f"student_similarity {shapes[0]}, teacher_similarity {shapes[1]}, batch {tuple(batch.shape)}: "
            "give one row of each for every matched pair, and as many prototypes"
        )


def _shape(name: str, similarity: Tensor | Similarity) -> tuple[int, int]:
    """(N, K), or ValueError for what has no such shape."""
    if isinstance(similarity, Tensor):
        check_similarity(similarity)
        return tuple(similarity.shape)
    embedding, prototypes = (tuple(part.shape) for part in (similarity.embedding, similarity.prototypes))
    if len(embedding) != 2 or len(prototypes) != 2 or embedding[1] != prototypes[1] or prototypes[0] < 1:
        raise ValueError(f"{name}_embedding {embedding}, {name}_prototypes {prototypes}: give (N, D) and (K, D)")
    return embedding[0], prototypes[0]

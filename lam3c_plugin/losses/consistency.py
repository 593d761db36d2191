"""Noise consistency: the student's embedding of a point follows the teacher's of the same point in another view.

"3D sans 3D Scans" (LAM3C), arXiv 2512.23042: R_cons = mean over matched pairs of ||g(x_a)_j - f(x_b)_i||^2 on
L2-normalised embeddings, g the EMA teacher, f the student; averaged per cloud, then over clouds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lam3c_plugin.losses.clustering import cloud_weights
from lam3c_plugin.ops.distributed import global_mean
from lam3c_plugin.ops.segments import segment_count, segment_mean
from lam3c_plugin.ops.sinkhorn import compute_dtype, row_blocks

_EPS = 1e-12


def noise_consistency_loss(
    student_feat: Tensor,
    teacher_feat: Tensor,
    index_pairs: Tensor,
    batch: Tensor,
    *,
    num_clouds: int | None = None,
) -> Tensor:
    """Mean squared distance of matched, L2-normalised features; a cloud's mean first, then over clouds with a match.

    Args:
        student_feat: (N, C) features. Maths in float32 (float64 for float64).
        teacher_feat: (M, C); gets no gradient.
        index_pairs: (P, 2) int64, row of the student and row of the teacher of every match; P = 0 is fine.
        batch: (N,) int64 cloud of every student point; or, if its length is P and not N, of every pair.
        num_clouds: number of clouds, if known (spares a GPU a synchronisation).

    Returns:
        0-d float32 or float64, in [0, 4]. All ranks hold the same value; the gradient is scaled for DDP's average
        (`ops.distributed.global_mean`). Without a match on any rank it is 0 with gradient 0.

    Raises:
        ValueError: shapes that do not fit.
    """
    student_row, teacher_row, cloud = _check(student_feat, teacher_feat, index_pairs, batch)
    weight, clouds = cloud_weights(cloud, compute_dtype(student_feat, teacher_feat), num_clouds)
    with torch.autocast(student_feat.device.type, enabled=False):
        total = _Distance.apply(student_feat, teacher_feat.detach(), student_row, teacher_row, weight)
    return global_mean(total, clouds)


def noise_consistency_loss_reference(
    student_feat: Tensor, teacher_feat: Tensor, index_pairs: Tensor, batch: Tensor
) -> Tensor:
    """`noise_consistency_loss` as the formula reads, with autograd's gradient."""
    student_row, teacher_row, cloud = _check(student_feat, teacher_feat, index_pairs, batch)
    dtype = compute_dtype(student_feat, teacher_feat)
    student = F.normalize(student_feat.to(dtype)[student_row], dim=1)
    teacher = F.normalize(teacher_feat.detach().to(dtype)[teacher_row], dim=1)
    num_clouds = int(cloud.max()) + 1 if cloud.numel() else 0
    per_cloud = segment_mean((student - teacher).square().sum(1), cloud, num_clouds)
    return global_mean(per_cloud.sum(), (segment_count(cloud, num_clouds) > 0).sum())


def _check(student: Tensor, teacher: Tensor, pairs: Tensor, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if student.dim() != 2 or teacher.dim() != 2 or student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"student_feat {tuple(student.shape)} and teacher_feat {tuple(teacher.shape)}: give (points, C) with one C"
        )
    if pairs.dim() != 2 or pairs.shape[1] != 2:
        raise ValueError(f"index_pairs has shape {tuple(pairs.shape)}: give (pairs, 2) rows of student and teacher")
    student_row, teacher_row = pairs.long().unbind(1)
    if batch.shape == student.shape[:1]:
        return student_row, teacher_row, batch[student_row]
    if batch.shape != pairs.shape[:1]:
        raise ValueError(
            f"batch has shape {tuple(batch.shape)}: give the cloud of each of the {student.shape[0]} student points "
            f"or of each of the {pairs.shape[0]} pairs"
        )
    return student_row, teacher_row, batch


class _Distance(torch.autograd.Function):
    """sum over pairs of weight * ||s / |s| - t / |t| ||^2; backward reads the rows again."""

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, student_row: Tensor, teacher_row: Tensor, weight: Tensor
    ) -> Tensor:
        ctx.save_for_backward(student, teacher, student_row, teacher_row, weight)
        total = weight.new_zeros(())
        for pairs in row_blocks(len(student_row), student.shape[1], student.device):
            unit, _ = _unit(student, student_row[pairs], weight.dtype)
            target, _ = _unit(teacher, teacher_row[pairs], weight.dtype)
            total += torch.dot(weight[pairs], unit.sub_(target).square_().sum(1))
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None, None]:
        student, teacher, student_row, teacher_row, weight = ctx.saved_tensors
        # A student row may be matched more than once: its gradients add up, in full precision.
        grad = torch.zeros(student.shape, dtype=weight.dtype, device=student.device)
        for pairs in row_blocks(len(student_row), student.shape[1], student.device):
            unit, norm = _unit(student, student_row[pairs], weight.dtype)
            target, _ = _unit(teacher, teacher_row[pairs], weight.dtype)
            cosine = (unit * target).sum(1)
            # The part of (unit - target) across the direction of the row, over its length.
            factor = torch.where(norm > _EPS, 2 * grad_output * weight[pairs] / norm.clamp(min=_EPS), 0.0)
            row_grad = unit.mul_((factor * cosine)[:, None]).addcmul_(target, factor[:, None], value=-1)
            grad.index_add_(0, student_row[pairs], row_grad)
        return grad.to(student.dtype), None, None, None, None


def _unit(feat: Tensor, rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """These rows at length 1 (0 stays 0), and their lengths."""
    block = feat.index_select(0, rows).to(dtype)
    norm = torch.linalg.vector_norm(block, dim=1)
    return block.div_(norm.clamp(min=_EPS)[:, None]), norm

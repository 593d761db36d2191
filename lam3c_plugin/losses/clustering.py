"""Clustering loss: cross-entropy of the student's prototypes against Sinkhorn-Knopp targets of the teacher.

"3D sans 3D Scans" (LAM3C), arXiv 2512.23042, the clustering term; the objective is that of Sonata, arXiv 2503.16429.
The fast path never holds the targets: Sinkhorn works as a diagonal scaling over blocks of rows, and a last pass turns
each block into its part of the loss and of the student's gradient. Beyond its inputs it stores one (N, K) matrix, which
is that gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lam3c_plugin.ops.distributed import all_reduce_sum, global_mean
from lam3c_plugin.ops.segments import segment_count, segment_mean
from lam3c_plugin.ops.sinkhorn import (
    RowKernel,
    check_similarity,
    compute_dtype,
    sinkhorn_knopp_reference,
    sinkhorn_scaling,
)


@dataclass
class ClusteringStats:
    """What `clustering_loss` saw on this rank; filled by it, detached. ``rows`` = 0 leaves zeros."""

    rows: int = 0
    target_entropy: Tensor | None = None  # 0-d, mean over rows, nats
    marginal: Tensor | None = None  # (K,) mean target over rows
    student_counts: Tensor | None = None  # (K,) rows whose largest student similarity it is
    teacher_counts: Tensor | None = None  # (K,) the same of the teacher's similarities
    target_counts: Tensor | None = None  # (K,) the same of the targets
    agreement: Tensor | None = None  # 0-d, share of rows whose student and target argmax are one

    def reduced(self) -> ClusteringStats:
        """The same over all ranks (every rank has to call it); means are weighted by rows."""
        values = [getattr(self, f.name) for f in fields(self)[1:]]
        dtype = values[0].dtype
        mean = ("target_entropy", "marginal", "agreement")
        parts = [
            (v.to(dtype) * (self.rows if f.name in mean else 1)).reshape(-1)
            for f, v in zip(fields(self)[1:], values, strict=True)
        ]
        flat = all_reduce_sum(torch.cat([*parts, values[0].new_full((1,), float(self.rows))]))
        rows = int(flat[-1])
        pieces = flat[:-1].split([p.numel() for p in parts])
        out = {
            f.name: p.view(v.shape) / max(rows, 1) if f.name in mean else p.view(v.shape).to(v.dtype)
            for f, v, p in zip(fields(self)[1:], values, pieces, strict=True)
        }
        return ClusteringStats(rows=rows, **out)

    def start(self, rows: int, num_prototypes: int, dtype: torch.dtype, device: torch.device) -> None:
        """Zeros of the right shapes."""
        self.rows = rows
        self.target_entropy, self.agreement = torch.zeros(2, dtype=dtype, device=device).unbind()
        self.marginal = torch.zeros(num_prototypes, dtype=dtype, device=device)
        counts = torch.zeros((3, num_prototypes), dtype=torch.long, device=device)
        self.student_counts, self.teacher_counts, self.target_counts = counts.unbind()

    def add(self, student: Tensor, teacher: Tensor, target: Tensor) -> None:
        """Count a block (R, K): student's logits, argmax (R,) of the teacher's, targets whose rows sum to 1."""
        best_student, best_target = student.argmax(1), target.argmax(1)
        one = torch.ones_like(best_student)
        self.student_counts.index_add_(0, best_student, one)
        self.teacher_counts.index_add_(0, teacher, one)
        self.target_counts.index_add_(0, best_target, one)
        self.agreement += (best_student == best_target).sum() / self.rows
        self.marginal.add_(target.sum(0), alpha=1 / self.rows)
        self.target_entropy += torch.special.entr(target).sum() / self.rows


def clustering_loss(
    student_similarity: Tensor,
    teacher_similarity: Tensor,
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
        student_similarity: (N, K) similarities of the matched student points to the prototypes.
        teacher_similarity: (N, K) those of their teacher points; gets no gradient.
        batch: (N,) int64 cloud index of every row. The loss is averaged per cloud, then over the clouds that have a row
            on any rank.
        student_temp, teacher_temp: temperatures > 0. num_iters: Sinkhorn iterations, >= 1.
        num_clouds: number of clouds, if known (spares a GPU a synchronisation).
        stats: filled with what a monitor wants to know of this call.
        retain_graph: allow a second backward pass through the result, for one more (N, K) matrix in each of them.

    Returns:
        0-d float32 (float64 for float64 input). All ranks hold the same value; the gradient is scaled for DDP's average
        (`ops.distributed.global_mean`). Without a single row it is 0 with gradient 0.

    Raises:
        ValueError: shapes that do not fit, a temperature <= 0, num_iters < 1.
    """
    _check(student_similarity, teacher_similarity, batch, student_temp, teacher_temp)
    dtype = compute_dtype(student_similarity, teacher_similarity)
    weight, clouds = cloud_weights(batch, dtype, num_clouds)
    total = _FusedClustering.apply(
        student_similarity,
        teacher_similarity.detach(),
        weight,
        student_temp,
        teacher_temp,
        num_iters,
        stats,
        retain_graph,
    )
    return global_mean(total, clouds)


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


def cloud_weights(batch: Tensor, dtype: torch.dtype, num_clouds: int | None = None) -> tuple[Tensor, Tensor]:
    """Weight of every row, 1 / rows of its cloud, (N,), and the number of clouds that have a row, 0-d."""
    if num_clouds is None:
        num_clouds = int(batch.max()) + 1 if batch.numel() else 0
    count = segment_count(batch, num_clouds, dtype)
    return count.clamp(min=1).reciprocal()[batch], (count > 0).sum()


def _check(student: Tensor, teacher: Tensor, batch: Tensor, student_temp: float, teacher_temp: float) -> None:
    check_similarity(student, student_temp)
    check_similarity(teacher, teacher_temp)
    if student.shape != teacher.shape or batch.shape != student.shape[:1]:
        raise ValueError(
            f"student_similarity {tuple(student.shape)}, teacher_similarity {tuple(teacher.shape)}, batch "
            f"{tuple(batch.shape)}: give one row of each for every matched pair"
        )


class _FusedClustering(torch.autograd.Function):
    """sum_i weight_i * cross_entropy_i and its gradient to the student, in one go."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        weight: Tensor,
        student_temp: float,
        teacher_temp: float,
        num_iters: int,
        stats: ClusteringStats | None,
        retain_graph: bool,
    ) -> Tensor:
        dtype, device = weight.dtype, student.device
        grad = torch.empty(student.shape, dtype=student.dtype, device=device) if ctx.needs_input_grad[0] else None
        # The student's gradient is written last: until then its memory keeps the teacher's exponentials.
        cache = grad if grad is not None and grad.dtype == dtype else None
        write = None if grad is None else lambda rows, block: grad[rows].copy_(block)
        with torch.autocast(device.type, enabled=False):
            kernel = RowKernel(lambda rows: teacher[rows], tuple(teacher.shape), teacher_temp, dtype, device, cache)
            scale = sinkhorn_scaling(kernel, num_iters)
            loss = fused_cross_entropy(lambda rows: student[rows], kernel, scale, weight, student_temp, write, stats)
        ctx.grad, ctx.retain = grad, retain_graph
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad = ctx.grad
        if grad is None:
            raise RuntimeError("clustering_loss: its gradient was already used; pass retain_graph=True to use it again")
        if ctx.retain:
            return (grad * grad_output.to(grad.dtype), *[None] * 7)
        ctx.grad = None
        return (grad.mul_(grad_output.to(grad.dtype)), *[None] * 7)


def fused_cross_entropy(
    student: Callable[[slice], Tensor],
    kernel: RowKernel,
    scale: Tensor,
    weight: Tensor,
    student_temp: float,
    write: Callable[[slice, Tensor], object] | None,
    stats: ClusteringStats | None,
) -> Tensor:
    """The last pass: sum_i weight_i * cross_entropy_i, 0-d, with targets and softmax made block by block.

    Args:
        student: gives the student's similarities (R, K) of a slice of rows.
        kernel, scale: of the teacher, after `sinkhorn_scaling`; the kernel's cache is used up.
        weight: (N,) of the dtype of the computation.
        write: called with each slice and its gradient (R, K), weight / temperature * (softmax - target), valid until
            the next call; None: no gradient wanted.
    """
    loss = weight.new_zeros(())
    height = kernel.blocks[0].stop if kernel.blocks else 0
    logits, work = weight.new_empty((2, height, kernel.num_prototypes))
    if stats is not None:
        stats.start(len(weight), kernel.num_prototypes, weight.dtype, weight.device)
    for rows in kernel.blocks:
        size = rows.stop - rows.start
        target = kernel(rows)
        teacher_best = target.argmax(1) if stats is not None else None
        target.mul_(scale)  # not yet divided by its row sum
        norm = target.sum(1)
        logit = torch.mul(student(rows).to(weight.dtype), 1 / student_temp, out=logits[:size])
        logit.sub_(logit.amax(1, keepdim=True))
        cross = torch.mul(target, logit, out=work[:size]).sum(1) / norm
        if stats is not None:
            stats.add(logit, teacher_best, torch.div(target, norm[:, None], out=work[:size]))
        prob = logit.exp_()
        total = prob.sum(1)
        loss += torch.dot(weight[rows], total.log() - cross)
        if write is not None:
            factor = weight[rows] / student_temp
            prob.mul_((factor / total)[:, None])
            write(rows, torch.addcmul(prob, target, (factor / norm)[:, None], value=-1, out=work[:size]))
    return loss

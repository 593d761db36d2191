"""The one kernel of the clustering loss: targets, loss and gradients made a block of rows at a time.

Sinkhorn works as a diagonal scaling over blocks of rows, and a last pass turns each block into its part of the loss and
of the gradients: the targets are never held. Of similarities (N, K) it stores one more matrix of that size, which is
their gradient; of embeddings and prototypes it makes the similarities again for every pass (num_iters + 1 products for
the teacher, one for the student) and stores none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lam3c_plugin.ops.distributed import all_reduce_sum
from lam3c_plugin.ops.sinkhorn import RowKernel, row_blocks, sinkhorn_scaling

_CACHE_BYTES_CPU = 2**30


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
        """Give the same over all ranks (every rank has to call it); means are weighted by rows."""
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
        """Set zeros of the right shapes."""
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


@dataclass(frozen=True)
class Similarity:
    """Similarities (N, K) of points to prototypes as the product they are, ``embedding @ prototypes.T``.

    `clustering_loss` takes it in place of the (N, K) matrix and never makes that.
    """

    embedding: Tensor  # (N, D), usually of norm 1
    prototypes: Tensor  # (K, D), usually of norm 1
    largest: float | None = None  # no similarity is beyond it (cosines: 1.0); spares a GPU a synchronisation

    def __getitem__(self, rows: Tensor) -> Similarity:
        """Select points, as ``matrix[rows]`` does."""
        return Similarity(self.embedding[rows], self.prototypes, self.largest)


class Settings(NamedTuple):
    """What the kernel is told besides its tensors; see `clustering_loss`."""

    student_temp: float
    teacher_temp: float
    num_iters: int
    largest: float | None = None
    stats: ClusteringStats | None = None
    retain_graph: bool = False
    max_cache: int | None = None


class FusedClustering(torch.autograd.Function):
    """sum_i weight_i * cross_entropy_i, 0-d, and its gradients to the student, in one go.

    ``student`` and ``teacher`` are similarities (N, K) where their prototypes are None, else embeddings.
    """

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        prototypes: Tensor | None,
        teacher: Tensor,
        teacher_prototypes: Tensor | None,
        weight: Tensor,
        settings: Settings,
    ) -> Tensor:
        dtype, device = weight.dtype, student.device
        gradients = _gradient_of_matrix if prototypes is None else _gradients_of_product
        with torch.autocast(device.type, enabled=False):
            shape = (len(teacher), teacher.shape[1] if teacher_prototypes is None else len(teacher_prototypes))
            grads, write, cache = gradients(student, prototypes, ctx.needs_input_grad[:2], dtype, settings.max_cache)
            rows = _rows(teacher, teacher_prototypes, dtype)
            kernel = RowKernel(rows, shape, settings.teacher_temp, dtype, device, cache)
            scale = sinkhorn_scaling(kernel, settings.num_iters, settings.largest)
            rows = _rows(student, prototypes, dtype)
            loss = fused_cross_entropy(rows, kernel, scale, weight, settings.student_temp, write, settings.stats)
        ctx.grads, ctx.retain = grads, settings.retain_graph
        ctx.dtypes = student.dtype, None if prototypes is None else prototypes.dtype
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grads = ctx.grads
        if grads is None:
            raise RuntimeError("clustering_loss: its gradient was already used; pass retain_graph=True to use it again")
        if not ctx.retain:
            ctx.grads = None
        scaled = []
        for grad, dtype in zip(grads, ctx.dtypes, strict=True):
            if grad is not None:
                factor = grad_output.to(grad.dtype)
                grad = (grad * factor if ctx.retain else grad.mul_(factor)).to(dtype)
            scaled.append(grad)
        return (*scaled, *[None] * 4)


Write = Callable[[slice, Tensor], object]
Gradients = tuple[tuple[Tensor | None, Tensor | None], Write | None, Tensor | None]


def _rows(values: Tensor, prototypes: Tensor | None, dtype: torch.dtype) -> Callable[[slice], Tensor]:
    """Similarities of a slice of rows; products come in one buffer and are valid until the next call."""
    if prototypes is None:
        return lambda rows: values[rows]
    turned = prototypes.to(dtype).t()
    blocks = row_blocks(len(values), turned.shape[1], values.device)
    buffer = values.new_empty((blocks[0].stop if blocks else 0, turned.shape[1]), dtype=dtype)
    return lambda rows: torch.mm(values[rows].to(dtype), turned, out=buffer[: rows.stop - rows.start])


def _gradient_of_matrix(
    student: Tensor, _: None, needed: tuple[bool, bool], dtype: torch.dtype, max_cache: int | None
) -> Gradients:
    """Gradient (N, K), how a block gets there, and the same memory for the teacher's exponentials until then."""
    if not needed[0]:
        return (None, None), None, None
    grad = torch.empty(student.shape, dtype=student.dtype, device=student.device)
    return (grad, None), lambda rows, block: grad[rows].copy_(block), grad if grad.dtype == dtype else None


def _gradients_of_product(
    student: Tensor, prototypes: Tensor, needed: tuple[bool, bool], dtype: torch.dtype, max_cache: int | None
) -> Gradients:
    """Gradients (N, D) and (K, D), to which a block goes straight on; the teacher's exponentials get ``max_cache``.

    Products are dear on a CPU, which keeps the exponentials during the forward pass for as many rows as fit.
    """
    wide = prototypes.to(dtype)
    grads = (
        torch.empty(student.shape, dtype=dtype, device=student.device) if needed[0] else None,
        torch.zeros_like(wide) if needed[1] else None,
    )

    def write(rows: slice, block: Tensor) -> None:
        if grads[0] is not None:
            torch.mm(block, wide, out=grads[0][rows])
        if grads[1] is not None:
            grads[1].addmm_(block.t(), student[rows].to(dtype))

    shape = (len(student), len(prototypes))
    if max_cache is None:
        max_cache = _CACHE_BYTES_CPU * (student.device.type == "cpu")
    kept = _rows_kept(shape, student.device, max_cache // (shape[1] * dtype.itemsize))
    cache = torch.empty((kept, shape[1]), dtype=dtype, device=student.device) if kept else None
    return grads, write if any(needed) else None, cache


def _rows_kept(shape: tuple[int, int], device: torch.device, most: int) -> int:
    """Rows of whole blocks, ``most`` at most."""
    ends = [block.stop for block in row_blocks(*shape, device)]
    return max((end for end in ends if end <= most), default=0)


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
        kernel: of the teacher, after `sinkhorn_scaling`; its cache is used up.
        scale: what `sinkhorn_scaling` gave.
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
        teacher_best = kernel.best(rows, target) if stats is not None else None
        target.mul_(scale)  # not yet divided by its row sum
        norm = target.sum(1)
        similarity = student(rows).to(weight.dtype)
        logit = torch.sub(similarity, similarity.amax(1, keepdim=True), out=logits[:size]).mul_(1 / student_temp)
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

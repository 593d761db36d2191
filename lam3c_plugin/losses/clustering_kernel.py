"""The one kernel of the clustering loss: targets, loss and gradients made a block of rows at a time.

Sinkhorn works as a diagonal scaling over blocks of rows, and a last pass turns each block into its part of the loss and
of the gradients: the targets are never held. Of similarities (N, K) it stores one more matrix of that size, which is
their gradient; of embeddings and prototypes it makes the similarities as it needs them (num_iters + 1 products for the
teacher, or one for the rows whose exponentials it may keep; one for the student).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lam3c_plugin.ops.products import inner_pieces, multiply, pieces, product_float32, takes_pieces
from lam3c_plugin.ops.sinkhorn import RowKernel, row_blocks, safe_range, sinkhorn_scaling

# What the teacher's exponentials may take during the forward pass where the caller does not say: 131,072 rows of 4,096
# prototypes, matched in a batch of some two million points.
_CACHE_BYTES = 2**31


@dataclass
class ClusteringStats:
    """What `clustering_loss` saw on this rank; filled by it, detached. ``rows`` = 0 leaves zeros."""

    rows: int = 0
    target_entropy: Tensor | None = None  # 0-d, mean over rows, nats
    marginal: Tensor | None = None  # (K,) mean target over rows
    student_counts: Tensor | None = None  # (K,) rows whose largest student similarity it is
    target_counts: Tensor | None = None  # (K,) the same of the targets
    agreement: Tensor | None = None  # 0-d, share of rows whose student and target argmax are one

    def start(self, rows: int, num_prototypes: int, dtype: torch.dtype, device: torch.device) -> None:
        """Set zeros of the right shapes."""
        self.rows = rows
        self.target_entropy, self.agreement = torch.zeros(2, dtype=dtype, device=device).unbind()
        self.marginal = torch.zeros(num_prototypes, dtype=dtype, device=device)
        self.student_counts, self.target_counts = torch.zeros((2, num_prototypes), dtype=torch.long, device=device)

    def add(self, student: Tensor, target: Tensor) -> None:
        """Count a block (R, K): the student's logits, targets whose rows sum to 1."""
        best_student, best_target = student.argmax(1), target.argmax(1)
        one = torch.ones_like(best_student)
        self.student_counts.index_add_(0, best_student, one)
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
    largest: tuple[float | None, float | None] = (None, None)  # of the student's and the teacher's similarities
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
            source = logits_of(teacher, teacher_prototypes, dtype, settings.teacher_temp, settings.largest[1])
            kernel = RowKernel(source.rows, shape, source.temperature, dtype, device, cache, source.largest)
            scale = sinkhorn_scaling(kernel, settings.num_iters)
            source = logits_of(student, prototypes, dtype, settings.student_temp, settings.largest[0])
            loss = fused_cross_entropy(source, kernel, scale, weight, settings.student_temp, write, settings.stats)
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


class Logits(NamedTuple):
    """Similarities / temperature: ``rows(slice) / temperature``, no similarity beyond ``largest`` where it is known."""

    rows: Callable[[slice], Tensor]
    temperature: float
    largest: float | None


def logits_of(
    values: Tensor, prototypes: Tensor | None, dtype: torch.dtype, temperature: float, largest: float | None
) -> Logits:
    """Logits of similarities, or of embeddings and prototypes; their products are made with the temperature in them.

    Products come in one buffer and are valid until the next call.
    """
    if prototypes is None:
        return Logits(lambda rows: values[rows], temperature, largest)
    turned = prototypes.to(dtype).div(temperature).t()
    blocks = row_blocks(len(values), turned.shape[1], values.device)
    buffer = values.new_empty((blocks[0].stop if blocks else 0, turned.shape[1]), dtype=dtype)
    split = takes_pieces(values.device, dtype)
    if split:
        turned = inner_pieces(turned, 0)

    def product(rows: slice) -> Tensor:
        left, out = values[rows].to(dtype), buffer[: rows.stop - rows.start]
        return product_float32(inner_pieces(left, 1), turned, out) if split else torch.mm(left, turned, out=out)

    return Logits(product, 1.0, None if largest is None else largest / temperature)


def _gradient_of_matrix(
    student: Tensor, _: None, needed: tuple[bool, bool], dtype: torch.dtype, max_cache: int | None
) -> Gradients:
    """Gradient (N, K), how a block gets there, and the same memory for the teacher's exponentials until then."""
    if not needed[0]:
        return (None, None), None, None
    grad = torch.empty(student.shape, dtype=student.dtype, device=student.device)
    if grad.dtype == dtype:  # a block is made where the exponentials were, which is its place
        return (grad, None), lambda rows, block: None, grad
    return (grad, None), lambda rows, block: grad[rows].copy_(block), None


def _gradients_of_product(
    student: Tensor, prototypes: Tensor, needed: tuple[bool, bool], dtype: torch.dtype, max_cache: int | None
) -> Gradients:
    """Gradients (N, D) and (K, D), to which a block goes straight on; the teacher's exponentials get ``max_cache``.

    The exponentials are kept during the forward pass for as many rows as fit: each pass that makes them again is a
    product more.
    """
    wide = prototypes.to(dtype)
    grads = (
        torch.empty(student.shape, dtype=dtype, device=student.device) if needed[0] else None,
        torch.zeros_like(wide) if needed[1] else None,
    )
    split = takes_pieces(student.device, dtype)
    wide_pieces = pieces(wide, 2) if split else []

    def write(rows: slice, block: Tensor) -> None:
        own = student[rows].to(dtype)
        parts = pieces(block, 2) if split else []
        if grads[0] is not None and split:
            grads[0][rows] = multiply(parts, wide_pieces)
        elif grads[0] is not None:
            torch.mm(block, wide, out=grads[0][rows])
        if grads[1] is not None and split:
            grads[1].add_(multiply([part.t() for part in parts], pieces(own, 2)))
        elif grads[1] is not None:
            grads[1].addmm_(block.t(), own)

    shape = (len(student), len(prototypes))
    if max_cache is None:
        max_cache = _CACHE_BYTES
    kept = _rows_kept(shape, student.device, max_cache // (shape[1] * dtype.itemsize))
    cache = torch.empty((kept, shape[1]), dtype=dtype, device=student.device) if kept else None
    return grads, write if any(needed) else None, cache


def _rows_kept(shape: tuple[int, int], device: torch.device, most: int) -> int:
    """Rows of whole blocks, ``most`` at most."""
    ends = [block.stop for block in row_blocks(*shape, device)]
    return max((end for end in ends if end <= most), default=0)


def fused_cross_entropy(
    student: Logits,
    kernel: RowKernel,
    scale: Tensor,
    weight: Tensor,
    student_temp: float,
    write: Write | None,
    stats: ClusteringStats | None,
) -> Tensor:
    """The last pass: sum_i weight_i * cross_entropy_i, 0-d, with targets and softmax made block by block.

    Args:
        student: the student's logits.
        kernel: of the teacher, after `sinkhorn_scaling`; its cache is used up.
        scale: what `sinkhorn_scaling` gave.
        weight: (N,) of the dtype of the computation.
        student_temp: the temperature in the student's logits.
        write: called with each slice and its gradient (R, K), weight / temperature * (softmax - target), which lies
            where the kernel had its E and is valid until the next call; None: no gradient wanted.
    """
    loss = weight.new_zeros(())
    height = kernel.blocks[0].stop if kernel.blocks else 0
    bounded, inverse = safe_range(student.largest, student.temperature), 1 / student.temperature
    work = weight.new_empty((height, kernel.num_prototypes))
    logits = None if bounded else torch.empty_like(work)
    if stats is not None:
        stats.start(len(weight), kernel.num_prototypes, weight.dtype, weight.device)
    for rows in kernel.blocks:
        size = rows.stop - rows.start
        target = kernel(rows)
        norm = target.mul_(scale).sum(1)  # not yet divided by it
        logit = student.rows(rows).to(weight.dtype)
        if not bounded:
            peak = logit.amax(1, keepdim=True).mul_(-inverse)
            logit = torch.add(peak, logit, alpha=inverse, out=logits[:size])
        elif inverse != 1:
            logit = logit * inverse
        cross = torch.mul(target, logit, out=work[:size]).sum(1) / norm
        if stats is not None:
            stats.add(logit, torch.div(target, norm[:, None], out=work[:size]))
        prob = logit.exp_()
        total = prob.sum(1)
        loss += torch.dot(weight[rows], total.log() - cross)
        if write is not None:
            factor = weight[rows] / student_temp
            prob.mul_((factor / total)[:, None])
            write(rows, torch.addcmul(prob, target, (factor / norm)[:, None], value=-1, out=target))
    return loss

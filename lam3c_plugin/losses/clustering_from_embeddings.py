"""The clustering loss from embeddings and prototypes, without any (points, prototypes) matrix, forward or backward.

The same objective as `lam3c_plugin.losses.clustering`: similarities are made again for every pass over a block of rows
(num_iters + 1 products for the teacher, one for the student), and the gradient of a block goes straight on to the
embeddings and the prototypes. On a CPU, where products are dear, the teacher's exponentials are kept during the forward
pass for as many rows as fit a fixed size; nothing of that size is kept for the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lam3c_plugin.losses.clustering import (
    ClusteringStats,
    cloud_weights,
    clustering_loss_reference,
    fused_cross_entropy,
)
from lam3c_plugin.ops.distributed import global_mean
from lam3c_plugin.ops.sinkhorn import RowKernel, check_temperature, compute_dtype, row_blocks, sinkhorn_scaling

_CACHE_BYTES_CPU = 2**30


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
    """`clustering_loss` of ``student_embedding @ student_prototypes.T`` and the teacher's, block by block.

    Args:
        student_embedding: (N, D), usually L2-normalised. teacher_embedding: (N, E); gets no gradient.
        student_prototypes: (K, D), usually of norm 1. teacher_prototypes: (K, E); gets no gradient.
        batch, student_temp, teacher_temp, num_iters, num_clouds, stats: see `clustering_loss`.
        max_cache: bytes that the teacher's exponentials may take during the forward pass, which spares num_iters of its
            products; rows beyond are made again. Default: 1 GiB on a CPU, nothing on a GPU.

    Returns:
        0-d float32 (float64 for float64 input), as `clustering_loss`; gradients reach the student's embedding and
        prototypes, in their dtypes. May be used for more than one backward pass.

    Raises:
        ValueError: shapes that do not fit, a temperature <= 0, num_iters < 1.
    """
    inputs = (student_embedding, teacher_embedding, student_prototypes, teacher_prototypes)
    _check(*inputs, batch, student_temp, teacher_temp)
    weight, clouds = cloud_weights(batch, compute_dtype(*inputs), num_clouds)
    total = _BlockwiseClustering.apply(
        student_embedding,
        student_prototypes,
        teacher_embedding.detach(),
        teacher_prototypes.detach(),
        weight,
        student_temp,
        teacher_temp,
        num_iters,
        stats,
        _CACHE_BYTES_CPU * (student_embedding.device.type == "cpu") if max_cache is None else max_cache,
    )
    return global_mean(total, clouds)


def clustering_loss_from_embeddings_reference(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    student_prototypes: Tensor,
    teacher_prototypes: Tensor,
    batch: Tensor,
    student_temp: float,
    teacher_temp: float,
    num_iters: int = 3,
) -> Tensor:
    """`clustering_loss_from_embeddings` as the formula reads, on dense matrices and with autograd's gradients."""
    inputs = (student_embedding, teacher_embedding, student_prototypes, teacher_prototypes)
    _check(*inputs, batch, student_temp, teacher_temp)
    dtype = compute_dtype(*inputs)
    student = student_embedding.to(dtype) @ student_prototypes.to(dtype).t()
    teacher = (teacher_embedding.to(dtype) @ teacher_prototypes.to(dtype).t()).detach()
    return clustering_loss_reference(student, teacher, batch, student_temp, teacher_temp, num_iters)


def _check(
    student: Tensor,
    teacher: Tensor,
    student_prototypes: Tensor,
    teacher_prototypes: Tensor,
    batch: Tensor,
    student_temp: float,
    teacher_temp: float,
) -> None:
    check_temperature(student_temp)
    check_temperature(teacher_temp)
    shapes = [tuple(t.shape) for t in (student, teacher, student_prototypes, teacher_prototypes, batch)]
    fits = (
        [len(shape) for shape in shapes] == [2, 2, 2, 2, 1]
        and shapes[0][0] == shapes[1][0] == shapes[4][0]
        and shapes[2][0] == shapes[3][0] > 0
        and (shapes[0][1], shapes[1][1]) == (shapes[2][1], shapes[3][1])
    )
    if not fits:
        names = ("student_embedding", "teacher_embedding", "student_prototypes", "teacher_prototypes", "batch")
        given = ", ".join(f"{name} {shape}" for name, shape in zip(names, shapes, strict=True))
        raise ValueError(f"{given}: give (N, D), (N, E), (K, D), (K, E) and (N,)")


def _products(embedding: Tensor, prototypes: Tensor, dtype: torch.dtype) -> Callable[[slice], Tensor]:
    """Similarities of a slice of rows, in one buffer: valid until the next call."""
    turned = prototypes.to(dtype).t()
    blocks = row_blocks(embedding.shape[0], turned.shape[1], embedding.device)
    buffer = embedding.new_empty((blocks[0].stop if blocks else 0, turned.shape[1]), dtype=dtype)

    def rows_of(rows: slice) -> Tensor:
        return torch.mm(embedding[rows].to(dtype), turned, out=buffer[: rows.stop - rows.start])

    return rows_of


def _rows_kept(shape: tuple[int, int], device: torch.device, most: int) -> int:
    """Rows of whole blocks, ``most`` at most."""
    ends = [block.stop for block in row_blocks(*shape, device)]
    return max((end for end in ends if end <= most), default=0)


class _BlockwiseClustering(torch.autograd.Function):
    """sum_i weight_i * cross_entropy_i; both gradients, (N, D) and (K, D), are made on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        prototypes: Tensor,
        teacher: Tensor,
        teacher_prototypes: Tensor,
        weight: Tensor,
        student_temp: float,
        teacher_temp: float,
        num_iters: int,
        stats: ClusteringStats | None,
        max_cache: int,
    ) -> Tensor:
        dtype, device = weight.dtype, student.device
        to_embedding, to_prototypes = ctx.needs_input_grad[:2]
        wide = prototypes.to(dtype)
        grads = (
            torch.empty(student.shape, dtype=dtype, device=device) if to_embedding else None,
            torch.zeros_like(wide) if to_prototypes else None,
        )

        def write(rows: slice, block: Tensor) -> None:
            if to_embedding:
                torch.mm(block, wide, out=grads[0][rows])
            if to_prototypes:
                grads[1].addmm_(block.t(), student[rows].to(dtype))

        with torch.autocast(device.type, enabled=False):
            shape = (student.shape[0], wide.shape[0])
            kept = _rows_kept(shape, device, max_cache // (shape[1] * dtype.itemsize))
            cache = torch.empty((kept, shape[1]), dtype=dtype, device=device) if kept else None
            kernel = RowKernel(_products(teacher, teacher_prototypes, dtype), shape, teacher_temp, dtype, device, cache)
            scale = sinkhorn_scaling(kernel, num_iters)
            loss = fused_cross_entropy(
                _products(student, prototypes, dtype),
                kernel,
                scale,
                weight,
                student_temp,
                write if to_embedding or to_prototypes else None,
                stats,
            )
        ctx.save_for_backward(*grads)
        ctx.dtypes = student.dtype, prototypes.dtype
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        pairs = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return (*[None if grad is None else (grad * grad_output).to(dtype) for grad, dtype in pairs], *[None] * 8)

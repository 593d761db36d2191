"""Clustering loss, forward and backward: the fused loss against Sonata's formulation (dense Sinkhorn and softmax)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks._harness import Result, compare, parser, report
from lam3c_plugin.losses.clustering import clustering_loss, clustering_loss_from_embeddings
from lam3c_plugin.ops.segments import segment_mean

TEMPS = (0.1, 0.05)
CLOUDS = 16


def sonata_loss(
    student: Tensor, teacher: Tensor, batch: Tensor, student_temp: float, teacher_temp: float, clouds: int = CLOUDS
) -> Tensor:
    """Sonata's formulation in our words: a (K, N) assignment normalised in turn by prototypes and by points."""
    with torch.no_grad():
        assignment = torch.exp(teacher.float() / teacher_temp).t()
        prototypes, points = assignment.shape
        assignment = assignment / assignment.sum()
        for _ in range(3):
            assignment = assignment / assignment.sum(1, keepdim=True) / prototypes
            assignment = assignment / assignment.sum(0, keepdim=True) / points
        target = (assignment * points).t()
    cross_entropy = -torch.sum(target * F.log_softmax(student / student_temp, dim=-1), dim=-1)
    return segment_mean(cross_entropy, batch, clouds).mean()


def from_similarities(function: Callable, student: Tensor, *args: Tensor) -> list[Tensor]:
    leaf = student.detach().requires_grad_()
    loss = function(leaf, *args, *TEMPS)
    loss.backward()
    return [loss.detach(), leaf.grad]


def from_embeddings(
    function: Callable, embedding: Tensor, teacher: Tensor, centre: Tensor, batch: Tensor
) -> list[Tensor]:
    leaves = embedding.detach().requires_grad_(), centre.detach().requires_grad_()
    if function is clustering_loss_from_embeddings:
        loss = function(leaves[0], teacher, leaves[1], centre, batch, *TEMPS)
    else:
        loss = function(leaves[0] @ leaves[1].t(), teacher @ centre.t(), batch, *TEMPS)
    loss.backward()
    return [loss.detach(), *(leaf.grad for leaf in leaves)]


def measure(size: int, args: argparse.Namespace) -> Result:
    """Compare loss and gradients of both formulations at one size, then time them."""
    torch.manual_seed(0)
    device, dtype = args.device, getattr(torch, args.dtype)
    centre = F.normalize(torch.randn(args.prototypes, 256, device=device), dim=1)
    student = F.normalize(torch.randn(size, 256, device=device), dim=1)
    teacher = F.normalize(student + 0.05 * torch.randn(size, 256, device=device), dim=1)
    batch = torch.arange(size, device=device) * CLOUDS // size
    if args.from_embeddings:
        fast, step, inputs = clustering_loss_from_embeddings, from_embeddings, (student, teacher, centre, batch)
        gradient = 4 * (student.numel() + centre.numel())
    else:
        similarities = [(embedding @ centre.t()).to(dtype) for embedding in (student, teacher)]
        fast, step, inputs = clustering_loss, from_similarities, (*similarities, batch)
        gradient = similarities[0].numel() * dtype.itemsize
    ours, reference = (lambda f=f: step(f, *inputs) for f in (fast, sonata_loss))
    tight = args.tolerance * 1e-5 if dtype == torch.float32 else 1e-2
    for mine, theirs in zip(ours(), reference(), strict=True):
        scale = float(theirs.abs().max()) if theirs.dim() else 0.0
        torch.testing.assert_close(mine, theirs.to(mine.dtype), rtol=tight, atol=tight * scale)
    del mine, theirs
    found = compare(size, ours, reference, args)
    # beyond the inputs and their gradients, which both have to make
    peaks = (max(peak - gradient, 0) for peak in (found.ours_peak, found.reference_peak))
    return Result(size, found.ours, found.reference, *peaks)


def main() -> None:
    """Run all sizes."""
    options = parser(__doc__, [20_000, 40_000, 100_000])
    options.add_argument("--prototypes", type=int, default=4096)
    options.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the similarities")
    options.add_argument("--from-embeddings", action="store_true", help="with the products, without an (N, K) matrix")
    args = options.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    title = (
        f"clustering loss{' from embeddings (products included)' if args.from_embeddings else ''}, forward + backward, "
        f"K = {args.prototypes}, {args.dtype}, {CLOUDS} clouds; same loss (1e-5 relative in float32) and gradients; "
        "peak is beyond the inputs and their gradients"
    )
    report(title, "Sonata's formulation", [measure(size, args) for size in args.sizes], args.device)


if __name__ == "__main__":
    main()

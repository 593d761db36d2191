"""Clustering loss, forward and backward: the fused loss against Sonata's formulation (dense Sinkhorn and softmax)."""

from __future__ import annotations

import torch
from _harness import Result, interleaved, parser, peak_memory, report
from torch import Tensor
from torch.nn import functional as F

from lam3c_plugin.losses.clustering import clustering_loss
from lam3c_plugin.ops.segments import segment_mean

TEMPS = (0.1, 0.05)
CLOUDS = 16


def sonata_loss(student: Tensor, teacher: Tensor, batch: Tensor, student_temp: float, teacher_temp: float) -> Tensor:
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
    return segment_mean(cross_entropy, batch, CLOUDS).mean()


def step(function: object, student: Tensor, *args: object) -> tuple[Tensor, Tensor]:
    leaf = student.detach().requires_grad_()
    loss = function(leaf, *args, *TEMPS)
    loss.backward()
    return loss.detach(), leaf.grad


def measure(size: int, prototypes: int, dtype: torch.dtype, device: str, repeats: int) -> Result:
    torch.manual_seed(0)
    centre = F.normalize(torch.randn(prototypes, 256, device=device), dim=1)
    embedding = [F.normalize(torch.randn(size, 256, device=device), dim=1)]
    embedding.append(F.normalize(embedding[0] + 0.05 * torch.randn(size, 256, device=device), dim=1))
    student, teacher = ((e @ centre.t()).to(dtype) for e in embedding)
    batch = torch.arange(size, device=device) * CLOUDS // size
    ours, reference = (lambda f=f: step(f, student, teacher, batch) for f in (clustering_loss, sonata_loss))
    (loss, grad), (loss_reference, grad_reference) = ours(), reference()
    tight = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(loss, loss_reference.to(loss.dtype), rtol=tight, atol=0)
    torch.testing.assert_close(grad, grad_reference, rtol=1e-2, atol=tight * float(grad_reference.abs().max()))
    del grad, grad_reference
    time_ours, time_reference = interleaved([ours, reference], device, repeats)
    # Beyond the inputs and their gradient, which both have to make.
    gradient = student.numel() * student.element_size()
    peaks = [max(peak_memory(f, device) - gradient, 0) for f in (ours, reference)]
    return Result(size, time_ours, time_reference, *peaks)


def main() -> None:
    options = parser(__doc__, [20_000, 40_000, 100_000])
    options.add_argument("--prototypes", type=int, default=4096)
    options.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the similarities")
    args = options.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    dtype = getattr(torch, args.dtype)
    results = [measure(size, args.prototypes, dtype, args.device, args.repeats) for size in args.sizes]
    title = (
        f"clustering loss, forward + backward, K = {args.prototypes}, {args.dtype}, {CLOUDS} clouds; same loss (1e-5 "
        "relative in float32) and gradient; peak is beyond the inputs and their gradient"
    )
    report(title, "Sonata's formulation", results, args.device)


if __name__ == "__main__":
    main()

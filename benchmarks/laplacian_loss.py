"""Laplacian loss, graph + forward + backward: edges only against the dense (N, k, C) form."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks._clouds import surface_clouds
from benchmarks._harness import Result, compare, parser, report
from lam3c_plugin.losses.laplacian import laplacian_smoothing_loss, laplacian_smoothing_loss_reference

CLOUDS = 8


def step(function: Callable, feat: Tensor, *args: Tensor, **kwargs: object) -> tuple[Tensor, Tensor]:
    leaf = feat.detach().requires_grad_()
    loss = function(leaf, *args, **kwargs)
    loss.backward()
    return loss.detach(), leaf.grad


def measure(size: int, args: argparse.Namespace) -> Result:
    """Compare loss and gradient of both forms at one size, then time them."""
    device = args.device
    coord, offset = surface_clouds(size, CLOUDS, args.spacing, device)
    torch.manual_seed(1)
    feat = torch.randn(size, args.channels, device=device) * 0.03
    ours, reference = (
        lambda f=f: step(f, feat, coord, offset, k=args.k)
        for f in (laplacian_smoothing_loss, laplacian_smoothing_loss_reference)
    )
    (loss, grad), (loss_reference, grad_reference) = ours(), reference()
    tight = args.tolerance * 1e-5
    torch.testing.assert_close(loss, loss_reference, rtol=tight, atol=0)
    torch.testing.assert_close(grad, grad_reference, rtol=10 * tight, atol=tight * float(grad_reference.abs().max()))
    del grad, grad_reference
    return compare(size, ours, reference, args)


def main() -> None:
    """Run all sizes."""
    options = parser(__doc__, [5_000, 10_000, 20_000])
    options.add_argument("--channels", type=int, default=1088)
    options.add_argument("--k", type=int, default=24)
    options.add_argument("--spacing", type=float, default=0.08, help="of the points, metres; edges end at 0.08 m")
    args = options.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    results = [measure(size, args) for size in args.sizes]
    title = (
        f"Laplacian loss, graph + forward + backward, k = {args.k}, C = {args.channels}, float32, {CLOUDS} clouds with "
        f"points every {args.spacing} m; same loss (1e-5) and gradient; peak includes the gradient"
    )
    report(title, "dense (N, k, C) form", results, args.device)


if __name__ == "__main__":
    main()

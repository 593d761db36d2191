"""Neighbours within 8 cm: ours against SciPy's bounded k-d tree (CPU), pointops or blocked `torch.cdist` (CUDA)."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks._clouds import surface_clouds
from benchmarks._harness import Result, compare, parser, report
from lam3c_plugin.ops.neighbours import knn

CLOUDS = 8


def scipy_tree(coord: Tensor, offset: Tensor, k: int, radius: float) -> np.ndarray:
    """SciPy with its defaults, one tree a cloud, all threads in the query: distances (N, k), inf where none."""
    from scipy.spatial import cKDTree

    points, ends = coord.numpy(), [0, *offset.tolist()]
    found = []
    for begin, end in pairwise(ends):
        cloud = points[begin:end]
        tree = cKDTree(cloud)
        found.append(tree.query(cloud, k=k, distance_upper_bound=radius, workers=torch.get_num_threads())[0])
    return np.concatenate(found)


def measure(size: int, args: argparse.Namespace) -> Result:
    """Compare distances at one size, then time both."""
    coord, offset = surface_clouds(size, CLOUDS, args.spacing, args.device)

    def ours() -> Tensor:
        return knn(coord, offset, coord, offset, args.k, args.radius, backend=args.backend)[1]

    def reference() -> Tensor | np.ndarray:
        if args.device == "cpu":
            return scipy_tree(coord, offset, args.k, args.radius)
        return knn(coord, offset, coord, offset, args.k, args.radius, backend=cuda_reference())[1]

    want = torch.as_tensor(reference()).float().cpu()
    torch.testing.assert_close(ours().cpu(), want, rtol=1e-5 * args.tolerance, atol=1e-6 * args.tolerance)
    return compare(size, ours, reference, args)


def cuda_reference() -> str:
    return "pointops" if find_spec("pointops") is not None else "cdist"


def main() -> None:
    """Run all spacings and sizes."""
    options = parser(__doc__, [16_384, 32_768, 65_536, 100_000])
    options.add_argument("--spacing", dest="spacings", type=float, nargs="+", default=[0.08, 0.02], help="metres")
    options.add_argument("--k", type=int, default=24)
    options.add_argument("--radius", type=float, default=0.08, help="metres")
    options.add_argument("--backend", default="auto", help="of ours: auto, scipy, grid, cdist or pointops")
    args = options.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    reference = "SciPy's bounded k-d tree" if args.device == "cpu" else cuda_reference()
    for spacing in args.spacings:
        args.spacing = spacing
        what = f"k = {args.k} within {args.radius} m, points every {spacing} m, {CLOUDS} clouds"
        title = f"neighbours, {what}; same distances"
        report(title, reference, [measure(size, args) for size in args.sizes], args.device)


if __name__ == "__main__":
    main()

"""PTv3 Base on N points of a room: ours against the host's PT-v3m2 on spconv's CPU wheel.

    python benchmarks/ptv3_forward.py [--points 20000] [--cloud crop|room] [--threads 2] [--repeats 5]

Prints the median time of interleaved runs, the ratio, the largest difference of the features, the share of the
machine's matrix-product speed that ours reaches, and the peak memory of a process that does nothing else. Without
``POINTCEPT_ROOT`` (or spconv, timm, addict) it prints ours alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks._harness import interleaved, seconds
from benchmarks._process import GIB, in_new_process, peak_resident
from benchmarks.host_ptv3 import build_host_ptv3, load_host_ptv3
from lam3c_plugin.embedded.ptv3 import PointTransformerV3
from lam3c_plugin.embedded.ptv3.blocks import Block
from lam3c_plugin.embedded.ptv3.patches import patch_route
from lam3c_plugin.embedded.ptv3.sparse_conv import kernel_map
from lam3c_plugin.recipes.ptv3 import ENCODERS

GRID = 0.02
BASE: dict[str, Any] = dict(
    **ENCODERS["base"],
    in_channels=9,
    order=("z", "z-trans", "hilbert", "hilbert-trans"),
    enable_flash=False,
    upcast_attention=False,
    upcast_softmax=False,
    traceable=True,
    mask_token=True,
    enc_mode=True,
)


def room_cloud(points: int, kind: str = "crop", seed: int = 0) -> dict[str, Tensor]:
    """Points on the surfaces of a furnished room, one a 2 cm cell, as a batch of one cloud.

    Args:
        points: how many.
        kind: ``crop`` keeps the cells nearest to a spot of the room at full density (as a view does), ``room`` a
            random subset of the whole 5 x 4 x 2.6 m room.
        seed: of the scan noise (3 mm) and of the subset.
    """
    generator = torch.Generator().manual_seed(seed)
    boxes = [((0.0, 0.0, 0.0), (5.0, 4.0, 2.6)), ((1.0, 0.8, 0.0), (2.0, 1.6, 0.5)), ((0.1, 2.8, 0.0), (0.6, 1.0, 2.0))]
    boxes += [((3.4, 1.0 + 0.9 * i, 0.4), (0.45, 0.45, 0.08)) for i in range(3)]
    faces = []
    for corner, size in boxes:
        for axis in range(3):
            area = size[(axis + 1) % 3] * size[(axis + 2) % 3]
            for side in (0.0, 1.0):
                face = torch.rand(int(area * 4 / GRID**2), 3, generator=generator)
                face[:, axis] = side
                faces.append(face * torch.tensor(size) + torch.tensor(corner))
    coord = torch.cat(faces)
    coord += 0.003 * torch.randn(coord.shape, generator=generator)
    cells = torch.div(coord - coord.amin(0), GRID, rounding_mode="trunc").long()
    keys = (cells[:, 0] << 32) | (cells[:, 1] << 16) | cells[:, 2]
    keys = keys.unique()
    cells = torch.stack([keys >> 32, (keys >> 16) & 0xFFFF, keys & 0xFFFF], 1)
    cells = cells[torch.randperm(len(cells), generator=generator)]
    if kind == "crop":
        spot = torch.tensor([1.5, 0.8, 0.2]) / GRID
        cells = cells[(cells - spot).norm(dim=1).argsort()[:points]]
        cells = cells[torch.randperm(len(cells), generator=generator)]
    cells = cells[:points] - cells[:points].amin(0)
    coord = (cells + torch.rand(cells.shape, generator=generator)) * GRID
    feat = torch.cat([coord, torch.rand(len(coord), 6, generator=generator)], 1)
    return dict(coord=coord, grid_coord=cells.int(), feat=feat, offset=torch.tensor([len(coord)]), grid_size=GRID)


@contextmanager
def counted_gflop(model: nn.Module) -> Iterator[dict[str, float]]:
    """Floating-point operations inside the block in 10^9, by kind, of any model with our PTv3 in it.

    Matrix products only; a multiply-add counts as two. A pass with gradients counts three times: its backward makes two
    products for each of the forward's.
    """
    work = dict(linear=0.0, convolution=0.0, attention=0.0)
    handles = []

    def add(kind: str, flop: float) -> None:
        work[kind] += flop * 1e-9 * (3 if torch.is_grad_enabled() else 1)

    def add_linear(module: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        add("linear", 2 * module.weight.numel() * inputs[0].shape[0])

    def add_block(module: Block, inputs: tuple[Any, ...]) -> None:
        point, attention = inputs[0], module.attn
        add("convolution", 2 * kernel_map(point.geometry).num_pairs * attention.channels**2)
        route = patch_route(point.geometry, attention.patch_size, point.curves[attention.order_index])
        pairs = sum(block.count * block.length**2 for block in route.blocks)
        add("attention", 4 * pairs * attention.channels)

    for module in model.modules():
        if isinstance(module, nn.Linear):
            handles.append(module.register_forward_hook(add_linear))
        elif isinstance(module, Block):
            handles.append(module.register_forward_pre_hook(add_block))
    try:
        yield work
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def count_gflop(model: PointTransformerV3, batch: dict[str, Tensor]) -> dict[str, float]:
    """Floating-point operations of one forward pass in 10^9, by kind (see `counted_gflop`)."""
    with counted_gflop(model) as work:
        model(batch)
    return work


def gemm_gflops(size: int = 2048) -> float:
    """Float32 matrix-product speed of this machine, 10^9 operations a second (best of five)."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2e-9 * size**3 / min(seconds(lambda: a @ b, "cpu") for _ in range(5))


def prepare(args: argparse.Namespace) -> tuple[PointTransformerV3, dict[str, Tensor]]:
    """Network and cloud."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = PointTransformerV3(**{**BASE, "drop_path": 0.0, "shuffle_orders": False})
    return model, room_cloud(args.points, args.cloud)


def peak_of(args: argparse.Namespace, name: str) -> float:
    """GiB that one of `runs` takes in all, for a process of its own."""
    runs(*prepare(args))[name]()
    return peak_resident() / GIB


def runs(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Callable[[], Any]]:
    """What is timed of ours: a forward pass, and one with its backward."""

    def forward() -> Any:
        with torch.inference_mode():
            return model.eval()(batch)

    def both() -> None:
        model.train()(batch).feat.square().mean().backward()
        model.zero_grad(set_to_none=True)

    return {"forward": forward, "forward+backward": both}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=20000)
    parser.add_argument("--cloud", choices=("crop", "room"), default="crop")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def main() -> int:
    """Time ours and the reference in turn; return 1 where their features differ."""
    args = parse()
    model, batch = prepare(args)
    ours = runs(model, batch)
    host = load_host_ptv3()
    contenders = dict(ours)
    if not isinstance(host, str):
        reference = build_host_ptv3(host, BASE, model.state_dict())
        with torch.no_grad():
            error = (ours["forward"]().feat - reference(dict(batch)).feat).abs().max().item()

        def run_reference() -> None:
            with torch.no_grad():
                reference(dict(batch))

        contenders["reference"] = run_reference
    interleaved(list(contenders.values()), "cpu", 1)  # warms up
    times = interleaved(list(contenders.values()), "cpu", args.repeats)
    median = dict(zip(contenders, times, strict=True))
    report(args, model, batch, median)
    if isinstance(host, str):
        print(f"reference  not run: {host}")
        return 0
    print(f"reference  forward {median['reference']:6.3f} s   PT-v3m2 on spconv's CPU wheel, convolution on one thread")
    print(f"ratio      {median['reference'] / median['forward']:.2f}x   largest difference of features {error:.1e}")
    return 0 if error < 1e-3 else 1


def report(
    args: argparse.Namespace, model: PointTransformerV3, batch: dict[str, Tensor], median: dict[str, float]
) -> None:
    """Print what there is to say of ours."""
    work, speed = count_gflop(model.eval(), batch), gemm_gflops()
    total = sum(work.values())
    print(
        f"PTv3 Base, float32, {len(batch['coord'])} points ({args.cloud}), "
        f"{args.threads} threads, torch {torch.__version__}"
    )
    print(f"work       {total:.1f} GFLOP: " + ", ".join(f"{name} {value:.1f}" for name, value in work.items()))
    for name in ("forward", "forward+backward"):
        peak = in_new_process(peak_of, args, name)
        print(f"ours       {name:16s} {median[name]:6.3f} s   peak {peak:.3f} GiB")
    share = total / median["forward"] / speed
    print(
        f"limit      {total / speed:.3f} s at this machine's {speed:.0f} GFLOP/s matrix product: "
        f"ours reaches {share:.0%}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
